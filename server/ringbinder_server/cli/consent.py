"""Asking before code of others runs on this computer, and `ringbinder consent`."""

from __future__ import annotations

import asyncio
import shlex
import sys
import termios
import time

from ringbinder.app import Ringbinder
from ringbinder.errors import Refused, UserError
from ringbinder.launches import consent
from ringbinder.model import Link
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services

from ..terminal import echo, echo_json, one_line
from .exitcodes import ExitCode
from .invocation import Invocation


async def ask(app: Ringbinder, link: Link, *, yes: bool, may_ask: bool) -> None:
    """Returns if the code behind `link` may run here; raises Refused if no one said so.

    A folder of this machine needs no consent: it is here already. What the path to open clones beside the
    repository is asked for each time. `yes` answers for this once.
    """
    consents = app.consents()
    repository = consents.repository(link)
    others = consent.other_repositories(link.urlpath) if consents.asks else ""
    known = _is_local(repository) or await consents.given(link)
    if yes or (known and not others):
        return
    provider = app.providers()[link.provider].display_name
    brought = f"Opening it also brings the files of {others}. " if others else ""
    if not may_ask or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            f"{repository} ({provider}) would run its code on this computer, and no one can be asked here. "
            f"{brought}Launch it once in a terminal and answer there, or add --yes if you trust it."
        )
    unknown = "" if known else " is not known here"
    echo(f"{repository} ({provider}){unknown}: its code would run {consents.rights}.", err=True)
    if brought:
        echo(brought, err=True)
    # What was typed, or pasted together with the command, before the question is no answer to it.
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    echo("Run code from it on this computer? [y/N] ", err=True, nl=False)
    if (await _line()).strip().lower() not in ("y", "yes"):
        raise Refused(f"Nothing of {repository} was run.")
    if known:
        return
    await consents.give(link)
    forget = f"ringbinder consent forget {shlex.quote(one_line(repository))}"
    echo(f"This is remembered for {repository}; `{forget}` takes it back.", "", err=True)


async def list_consents(invocation: Invocation, *, as_json: bool) -> int:
    """Prints whose code may run here, and since when."""
    services = _services(invocation)
    try:
        known = await asyncio.to_thread(services.store.consents)
    finally:
        await services.close()
    if as_json:
        echo_json([{"repository": name, "given": when} for name, when in known.items()], indent=None)
    elif not known:
        echo("No repository has been allowed to run code here.", err=True)
    else:
        for name, when in known.items():
            echo(f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(when))}  {name}")
    return ExitCode.OK


async def forget_consents(invocation: Invocation, repository: str, *, everything: bool) -> int:
    """Takes consents back. Raises UserError ``consent-unknown`` if there is none of that name."""
    services = _services(invocation)
    try:
        wanted = await asyncio.to_thread(services.store.consents) if everything else [repository]
        gone = [name for text in wanted for name in consent.forget(services.store, text)]
    finally:
        await services.close()
    if not gone and not everything:
        raise UserError("consent-unknown", f"{repository!r} was not allowed here; see `ringbinder consent list`.")
    for name in gone:
        echo(f"Forgotten: {name}")
    return ExitCode.OK


def _services(invocation: Invocation) -> Services:
    settings = invocation.config().settings
    return Services(invocation.log, Paths.of(settings.state_folder, settings.cache_folder))


def _is_local(repository: str) -> bool:
    return repository.partition("/")[2].lower().startswith("file:")


async def _line() -> str:
    """The next line of the terminal. Not read in a thread, which nothing could end when an interrupt comes."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), there.set)
    try:
        await there.wait()
        return sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin.fileno())
