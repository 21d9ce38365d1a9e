"""A running notebook until something ends it: what that was, in words, and when being idle will."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from attrs import Factory, define, field, frozen
from ringbinder import Clock
from ringbinder.concurrency import error_summary

from .jupyter import Jupyter
from .sessions import Session

_LOOK_SECONDS: Final = 60.0
_LEAST_SECONDS: Final = 0.1
_DISK_LOOK_SECONDS: Final = 5.0
_WARNING: Final = 300.0
"""Seconds before an idle server is stopped in which it is said, at most half of the idle time."""


@frozen
class Ending:
    """Why a server ended: `reason` in a word, `why` for its person."""

    reason: str
    why: str = ""


@define(eq=False)
class Watch:
    """Over one server. `idle_timeout` and `max_age` are in seconds, `disk_limit` in bytes; 0: no such limit."""

    jupyter: Jupyter
    session: Session
    idle_timeout: float
    max_age: float
    disk_limit: int
    clock: Clock
    stop: asyncio.Event = field(factory=asyncio.Event, init=False)
    """Set: somebody wants it to end."""
    started: float = field(default=Factory(lambda self: self.clock.time(), takes_self=True), init=False)
    _last_active: float = field(default=Factory(lambda self: self.started, takes_self=True), init=False)

    async def until_end(self) -> Ending:
        """Returns when the server must end, or has."""
        exited = asyncio.create_task(self.jupyter.command.wait())
        stopped = asyncio.create_task(self.stop.wait())
        full = asyncio.create_task(self._until_full())
        announced_stop: float | None = None
        try:
            while True:
                pause = asyncio.create_task(self.clock.sleep(self._look_seconds()))
                try:
                    await asyncio.wait({exited, stopped, full, pause}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    pause.cancel()
                if stopped.done():
                    return Ending("stopped")
                if exited.done():
                    return Ending("exited", _how(exited.result(), self.jupyter.last_lines))
                if full.done():
                    return Ending("full", full.result())
                if self.max_age and self.clock.time() - self.started > self.max_age:
                    message = f"it ran for {_span(self.max_age)}, the longest that it may (LocalLauncher.max_age)"
                    return Ending("too old", message)
                self._last_active = await self._activity()
                if self.idle_timeout and self.clock.time() - self._last_active > self.idle_timeout:
                    message = f"no one used it for {_span(self.idle_timeout)} (LocalLauncher.idle_timeout)"
                    return Ending("idle", message)
                if announced_stop != (soon := self.stops_at):
                    with suppress(OSError):  # on a full disk the page is not warned, and the notebook goes on
                        await asyncio.to_thread(self.session.tell_stop, soon)
                        announced_stop = soon
        finally:
            for task in (exited, stopped, full):
                task.cancel()

    @property
    def stops_at(self) -> float | None:
        """Unix seconds, when it will soon be stopped since it is idle; else None."""
        if not self.idle_timeout:
            return None
        stops_at = max(self._last_active, self.session.kept_awake_at) + self.idle_timeout
        return stops_at if stops_at - self.clock.time() <= min(_WARNING, self.idle_timeout / 2) else None

    def _look_seconds(self) -> float:
        limits = [limit / 4 for limit in (self.idle_timeout, self.max_age) if limit]
        if (stops_at := self.stops_at) is not None:
            limits.append(max(stops_at - self.clock.time(), _LEAST_SECONDS))
        return min([_LOOK_SECONDS, *limits])

    async def _until_full(self) -> str:
        """Returns, in words, that the limit of disk is passed, once it is."""
        while self.disk_limit:
            began = self.clock.monotonic()
            try:
                size = await asyncio.to_thread(self.session.box.size)
            except Exception as error:  # files that cannot be counted have no limit
                return f"its files cannot be counted ({error_summary(error)})"
            if size > self.disk_limit:
                return f"its files take {size} bytes on disk, more than {self.disk_limit} (LocalLauncher.disk_limit)"
            # A big tree takes long to add up: looking must stay a small part of the work.
            await self.clock.sleep(max(_DISK_LOOK_SECONDS, 20 * (self.clock.monotonic() - began)))
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def _activity(self) -> float:
        """Unix seconds; now while a page is connected to a kernel or a kernel is busy, or if there is no telling."""
        status, kernels = await self.jupyter.ask("api/status"), await self.jupyter.ask("api/kernels")
        last = last_activity(status, kernels)
        return self.clock.time() if last is None else max(last, self.session.kept_awake_at)


def last_activity(status: Any, kernels: Any) -> float | None:
    """Unix seconds of the last activity, after what a notebook's server says, which may be anything.

    None: something goes on in it, or what it says is not understood.
    """
    if not isinstance(status, dict) or not isinstance(kernels, list) or status.get("connections"):
        return None
    if any(not isinstance(kernel, dict) or kernel.get("execution_state") == "busy" for kernel in kernels):
        return None
    try:
        return datetime.fromisoformat(status["last_activity"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _how(code: int, last_lines: str) -> str:
    if code == 0:
        return "it was shut down from within"
    how = f"JupyterLab ended with exit code {code}"
    if code < 0:
        how = f"JupyterLab was ended by {_signal(-code)}"
        if code == -signal.SIGKILL:
            how += ", which is what the system does when memory runs out"
    return f"{how}. Its last lines:\n{last_lines}" if last_lines else how


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal, which has no name


def _span(seconds: float) -> str:
    units = (("hour", 3600.0), ("minute", 60.0), ("second", 1.0))
    unit, size = next((unit for unit in units if seconds % unit[1] == 0), units[-1])
    number = f"{seconds / size:g}"
    return f"{number} {unit}{'' if number == '1' else 's'}"
