"""A running notebook until something ends it: what that was, in words, and when being idle will."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import datetime
from typing import Final

from attrs import define, field, frozen

from .jupyter import Jupyter
from .sessions import Session

_LOOK_SECONDS: Final = 60.0
_LEAST_SECONDS: Final = 0.1
_WARNING: Final = 300.0
"""Seconds before an idle server is stopped in which it is said, at most half of the idle time."""


@frozen
class Ending:
    """Why a server ended: `reason` in a word, `told` for its person."""

    reason: str
    told: str = ""


@define(eq=False)
class Watch:
    """Over one server. `idle_timeout` and `max_age` are in seconds; 0: no such limit."""

    jupyter: Jupyter
    session: Session
    idle_timeout: float
    max_age: float
    stop: asyncio.Event = field(factory=asyncio.Event, init=False)
    """Set: somebody wants it to end."""
    started: float = field(factory=time.time, init=False)
    _last_active: float = field(factory=time.time, init=False)

    async def until_end(self) -> Ending:
        """Returns when the server must end, or has."""
        exited = asyncio.create_task(self.jupyter.command.wait())
        stopped = asyncio.create_task(self.stop.wait())
        told_stop: float | None = None
        try:
            while True:
                await asyncio.wait(
                    {exited, stopped}, timeout=self._look_seconds(), return_when=asyncio.FIRST_COMPLETED
                )
                if stopped.done():
                    return Ending("stopped")
                if exited.done():
                    return Ending("exited", _how(exited.result(), self.jupyter.last_lines))
                if self.max_age and time.time() - self.started > self.max_age:
                    told = (
                        f"it ran for {_span(self.max_age)}, the longest that it may (LocalLauncher.max_age)"
                    )
                    return Ending("too old", told)
                self._last_active = await self._activity()
                if self.idle_timeout and time.time() - self._last_active > self.idle_timeout:
                    told = f"nobody used it for {_span(self.idle_timeout)} (LocalLauncher.idle_timeout)"
                    return Ending("idle", told)
                if told_stop != (told_stop := self.stops_at):
                    await asyncio.to_thread(self.session.tell_stop, told_stop)
        finally:
            exited.cancel()
            stopped.cancel()

    @property
    def stops_at(self) -> float | None:
        """Unix seconds, when it will soon be stopped since it is idle; else None."""
        if not self.idle_timeout:
            return None
        stops_at = max(self._last_active, self.session.kept_awake_at) + self.idle_timeout
        return stops_at if stops_at - time.time() <= min(_WARNING, self.idle_timeout / 2) else None

    def _look_seconds(self) -> float:
        limits = [limit / 4 for limit in (self.idle_timeout, self.max_age) if limit]
        if (stops_at := self.stops_at) is not None:
            limits.append(max(stops_at - time.time(), _LEAST_SECONDS))
        return min([_LOOK_SECONDS, *limits])

    async def _activity(self) -> float:
        """Unix seconds; now while a page is connected to a kernel or a kernel is busy."""
        status, kernels = await self.jupyter.ask("api/status"), await self.jupyter.ask("api/kernels")
        if not isinstance(status, dict) or not isinstance(kernels, list) or status.get("connections"):
            return time.time()
        if any(kernel.get("execution_state") == "busy" for kernel in kernels):
            return time.time()
        last = datetime.fromisoformat(status["last_activity"]).timestamp()
        return max(last, self.session.kept_awake_at)


def _how(code: int, last_lines: str) -> str:
    if code == 0:
        return "it was shut down from within"
    how = f"JupyterLab ended with exit code {code}"
    if code < 0:
        how = f"JupyterLab was ended by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", which is what the system does when memory runs out"
    return f"{how}. Its last lines:\n{last_lines}" if last_lines else how


def _span(seconds: float) -> str:
    units = (("hour", 3600.0), ("minute", 60.0), ("second", 1.0))
    unit, size = next((unit for unit in units if seconds % unit[1] == 0), units[-1])
    number = f"{seconds / size:g}"
    return f"{number} {unit}{'' if number == '1' else 's'}"
