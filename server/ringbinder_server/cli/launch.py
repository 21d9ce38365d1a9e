"""`ringbinder launch` and `ringbinder build`: a link goes through the stages, watched."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import define, evolve, field
from ringbinder.app import Ringbinder
from ringbinder.errors import RingbinderError
from ringbinder.launches.sessions import Session
from ringbinder.model import LaunchRequest, Link, Server
from ringbinder.protocol import Event
from ringbinder.secret import redact

from ..terminal import lines
from .browser import Browser, address, tunnel_to
from .consent import ask as ask_for_consent
from .destination import Destination
from .display_choice import display_for
from .displays import Plain
from .exitcodes import ExitCode
from .idle import IdleWarning
from .interrupts import exit_code
from .invocation import Invocation

_LOOK_EVERY = 1.0
_STOPPED = "Stopped by an interrupt."
_CODES = {
    "internal-error": ExitCode.INTERNAL,
    "refused": ExitCode.TRY_AGAIN,
    "try-again": ExitCode.TRY_AGAIN,
    "configuration-wrong": ExitCode.CONFIG,
    "operator-credentials": ExitCode.CONFIG,
}


async def launch_link(invocation: Invocation, link: str, *, as_json: bool, browser: bool, yes: bool) -> int:
    """Takes `link` to a running notebook and stays until that ends."""
    journey = _Journey(invocation, display_for(redact(link), as_json), as_json, yes)
    try:
        return await journey.go(link, build_only=False, browser=browser and not as_json)
    finally:
        journey.tell_of_kept_files()


async def build_link(
    invocation: Invocation, link: str, *, to: Destination | None = None, as_json: bool, yes: bool
) -> int:
    """Takes `link` to a built image: that of the configuration, or one at `to`."""
    journey = _Journey(invocation, display_for(redact(link), as_json), as_json, yes, to)
    return await journey.go(link, build_only=True, browser=False)


def link_in(app: Ringbinder, text: str) -> Link:
    """What `text` means. A file or folder that exists is meant, also if it is written without ``./``.

    Raises UserError ``link-not-understood``.
    """
    with suppress(OSError, ValueError):
        path = Path(text).expanduser()
        if path.exists() and text.partition("/")[0] not in app.providers():
            text = str(path.absolute())
    return app.link(text)


@define
class _Journey:
    """One link on its way, and what came of it."""

    invocation: Invocation
    display: Plain
    as_json: bool
    yes: bool
    """The caller trusts the repository, and is not asked."""
    to: Destination | None = None
    """Where the image goes, if it is to be another place than the configuration's."""
    started: float = field(factory=time.monotonic)
    phases: set[str] = field(factory=set)
    server: Server | None = None

    async def go(self, text: str, *, build_only: bool, browser: bool) -> int:
        """All of it; returns the exit code."""
        async with self.invocation.app(writes=True, to=self.to) as app:
            link = link_in(app, text)
            # A path is opened by a launch alone.
            opened = evolve(link, urlpath="") if build_only else link
            await ask_for_consent(app, opened, yes=self.yes, may_ask=not self.as_json)
            with self.display:
                request = LaunchRequest(link.provider, link.spec, link.urlpath, build_only=build_only, local=True)
                session = app.launch(request)
                end = await self._watch(app, session)
            if session.server is not None and end.phase == "ready":
                self.server = session.server
                await self._stay(app, session.server, str(end.data.get("urlpath", "")), browser)
            elif end.phase == "ready":
                digest = end.data.get("imageDigest", "")
                self.display.built(f"{self.to}@{digest}" if self.to else str(end.data["imageName"]))
            return self._code(session, end)

    async def _watch(self, app: Ringbinder, session: Session) -> Event:
        """Shows the events; the first interrupt ends launch and build, which is then the last event."""

        def give_up() -> None:
            if session.run is not None:
                session.run.cancel(_STOPPED)
            app.sessions.cancel(session, _STOPPED)

        self.invocation.interrupts.then(give_up)
        async for batch in session.read():
            for _, event in batch:
                self.phases.add(event.phase)
                self.display.show(event)
        end = session.terminal
        if end is None:
            raise AssertionError("a session ends in exactly one terminal event")
        if self.invocation.interrupts.signal is not None and end.phase == "failed":
            self.display.stopped(_STOPPED)
        elif end.phase == "failed":
            log = [event async for batch in session.read() for _, event in batch]
            self.display.failed(end, log)
        return end

    def _code(self, session: Session, end: Event) -> int:
        if end.phase == "ready":
            return ExitCode.OK
        if (number := self.invocation.interrupts.signal) is not None:
            return exit_code(number)
        if (code := _CODES.get(str(end.data.get("code")))) is not None:
            return code
        if self.phases & {"built", "launching"}:
            return ExitCode.LAUNCH
        return ExitCode.BUILD if session.run is not None else ExitCode.LINK

    async def _stay(self, app: Ringbinder, server: Server, urlpath: str, browser: bool) -> None:
        """Tells the address and waits for an interrupt or the server's own end."""
        interrupted = asyncio.Event()
        self.invocation.interrupts.then(interrupted.set)
        display, where = self.display, address(server, urlpath)
        display.ready(where, time.monotonic() - self.started)
        if tunnel := tunnel_to(where):
            display.print(f"This is a remote machine. On your own computer, run\n\n  {tunnel}\n")
            display.print("and open the address above there.")
        with Browser(app.services.paths.state) as window:
            if browser:
                window.open(where)
            with IdleWarning(app, server, display) as warning:
                alone = await _ended_alone(app, server, interrupted, warning.look)
        if alone:
            why = "\n".join(lines(app.why_stopped(server)))
            display.print(f"The notebook has ended by itself{f': {why}' if why else '.'}")
        else:
            display.print("Stopping the notebook...")
            await app.servers.stop(server)

    def tell_of_kept_files(self) -> None:
        """After the launcher has tidied up: a folder that it left holds files that were changed."""
        folder = self.server.extra.get("work_folder") if self.server else None
        if isinstance(folder, str) and os.path.isdir(folder):  # noqa: PTH112
            self.display.print(f"Files that you changed are kept in {folder}")
            self.display.print("`ringbinder sessions` opens them again, saves them as a patch, or removes them.")


async def _ended_alone(
    app: Ringbinder, server: Server, interrupted: asyncio.Event, look: Callable[[Server], object]
) -> bool:
    """Waits; True once the launcher no longer lists a server that it has listed, False when interrupted.

    `look` gets the listed server, every second.
    """
    listed = False
    while not interrupted.is_set():
        with suppress(RingbinderError):  # a launcher that does not answer now may do so in a second
            if found := [running for running in await app.servers.running() if running.id == server.id]:
                listed = True
                look(found[0])
            elif listed:
                return True
        with suppress(TimeoutError):
            await asyncio.wait_for(interrupted.wait(), _LOOK_EVERY)
    return False
