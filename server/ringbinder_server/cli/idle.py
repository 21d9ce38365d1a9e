"""Says before a notebook is stopped for being idle, and lets Enter keep it."""

from __future__ import annotations

import asyncio
import sys
import time
from types import TracebackType
from typing import Final

from attrs import define, field
from ringbinder.app import Ringbinder
from ringbinder.model import Server

from .displays import Plain, clock

_SAID_AGAIN: Final = (60.0, 10.0)
"""Seconds before the end."""


@define
class IdleWarning:
    """While entered, Enter in the terminal keeps the server if it is about to be stopped."""

    app: Ringbinder
    server: Server
    display: Plain
    _due: list[float] | None = field(default=None, init=False)
    """How many seconds before the end it is said next; None: it is not about to be stopped."""
    _keeping: set[asyncio.Task[None]] = field(factory=set, init=False)

    def __enter__(self) -> IdleWarning:
        if sys.stdin.isatty():
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._typed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.stdin.isatty():
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        for task in self._keeping:
            task.cancel()

    def look(self, server: Server) -> None:
        """Judges the server as its launcher lists it now; its `extra` has ``stops_at`` if it will be stopped."""
        stops_at = server.extra.get("stops_at")
        if not isinstance(stops_at, float):
            self._due = None
            return
        left = stops_at - time.time()
        if self._due is None:
            self._due = [left, *(mark for mark in _SAID_AGAIN if mark < left - 5)]
        if self._due and left <= self._due[0]:
            del self._due[0]
            how = "Press Enter" if sys.stdin.isatty() else f"Call `ringbinder sessions keep {server.id}`"
            self.display.print(
                f"The notebook is idle and will be stopped in {clock(max(left, 0.0))}. {how} to keep it."
            )

    def _typed(self) -> None:
        if not sys.stdin.readline():  # the terminal has gone; a reader would be called for ever
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        elif self._due is not None:
            task = asyncio.create_task(self._keep(), name="keep the notebook")
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def _keep(self) -> None:
        if await self.app.keep_work(self.server.id):
            self.display.print("The notebook is kept.")
