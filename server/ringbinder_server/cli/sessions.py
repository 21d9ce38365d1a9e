"""`ringbinder sessions`: what runs, and what ended sessions have left."""

from __future__ import annotations

import time
from pathlib import Path

from attrs import asdict
from ringbinder.app import Ringbinder
from ringbinder.errors import UserError
from ringbinder.model import Work
from ringbinder.secret import redact

from ..terminal import echo, echo_json
from .exitcodes import ExitCode
from .invocation import Invocation
from .launch import launch_link


async def list_sessions(invocation: Invocation, *, as_json: bool) -> int:
    """Prints every session, the oldest first."""
    async with invocation.app() as app:
        known = await app.work()
    if as_json:
        echo_json([{**asdict(work), "folder": str(work.folder)} for work in known], indent=None)
    elif not known:
        echo("No session runs, and none has left changed files.", err=True)
    for work in () if as_json else known:
        changed = f", {_files(len(work.changed))} changed" if work.changed else ""
        state = f"{work.reason}{changed}" if work.ended else ", ".join(filter(None, ("runs", work.reason)))
        echo(f"{work.id}  {_clock(work.ended or work.started)}  {state}")
        source = redact(f"{work.repo_url} at {work.ref}" if work.repo_url and work.ref else work.repo_url)
        echo(*(f"    {line}" for line in (source, work.folder) if line))
    return ExitCode.OK


async def open_session(invocation: Invocation, id: str, *, browser: bool) -> int:
    """Starts a notebook on a copy of what an ended session has left. Raises UserError ``session-runs``."""
    async with invocation.app() as app:
        work = await _found(app, id)
    if work.ended is None:
        raise UserError("session-runs", f"{work.id} runs. Its files are in {work.folder}")
    return await launch_link(invocation, str(work.folder), as_json=False, browser=browser, yes=False)


async def keep_session(invocation: Invocation, id: str, into: Path | None) -> int:
    """Saves the changed files to `into`; without, a running session is not stopped for being idle."""
    async with invocation.app() as app:
        work = await _found(app, id)
        if into is not None:
            await app.export_work(work.id, into)
            echo(f"{work.id}: written to {into}")
        elif await app.keep_work(work.id):
            echo(f"{work.id} has its whole idle time again.")
        else:
            echo(f"{work.id} has ended; its files stay in {work.folder} until `ringbinder sessions rm`.")
    return ExitCode.OK


async def remove_sessions(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Removes what ended sessions have left; nothing if one of them runs or is not known."""
    async with invocation.app() as app:
        works = [await _found(app, id) for id in ids]
        for work in works:
            if work.ended is None:
                raise UserError("session-runs", f"{work.id} runs; stop its notebook first. Nothing was removed.")
        for work in works:
            await app.discard_work(work.id)
            echo(f"Removed: {work.id}")
    return ExitCode.OK


async def _found(app: Ringbinder, id: str) -> Work:
    """The session whose id begins so. Raises UserError ``session-unknown`` if that is none or several."""
    found = [work for work in await app.work() if work.id.startswith(id)] if id else []
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} sessions begin with {id!r}" if found else f"no session is called {id!r}"
    raise UserError("session-unknown", f"{problem}; see `ringbinder sessions list`.")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _clock(when: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when)) if when else "-"
