"""A plugin's life span, held open in a task of its own, so that what goes wrong in it stays there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import FrameType
from typing import Final

from ..runtime.log import Logger

_GRACE: Final = 5.0
"""Seconds that a cancelled life span has to end."""


class Life:
    """One plugin's life span. Make it where an event loop runs.

    It is entered and left in one task of its own: a task group in it that fails cancels no other task.
    """

    def __init__(
        self,
        span: AbstractAsyncContextManager[None],
        log: Logger,
        on_end: Callable[[], None] = lambda: None,
        plugin: str = "",
    ) -> None:
        """`on_end` is called if it ends by itself after it has started."""
        self.plugin = plugin
        self._span = span
        self._log = log
        self._on_end = on_end
        self._started = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._task = asyncio.create_task(self.live())

    async def start(self, limit: float | None) -> None:
        """Returns once it is entered. Raises what it raises, and TimeoutError after `limit` seconds."""
        try:
            await asyncio.wait({self._task, self._started}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._cancel()
            raise
        if self._started.done():
            self._task.add_done_callback(self._ended)
        elif not self._task.done():
            await self._cancel()
            raise TimeoutError(f"not ready within {limit} seconds (Ringbinder.lifespan_timeout)")
        elif self._task.cancelled():
            raise RuntimeError("something that it waited for was cancelled")
        else:
            self._task.result()

    async def end(self, limit: float | None) -> None:
        """Leaves the life span; what fails, or takes longer than `limit` seconds, is logged."""
        self._leave.set()
        try:
            await asyncio.wait({self._task}, timeout=limit)
        except asyncio.CancelledError:
            await self._cancel()
            raise
        if not self._task.done():
            self._log.error("a plugin takes too long to stop; it is cancelled", seconds=limit)
            await self._cancel()

    async def live(self) -> None:
        try:
            async with self._span:
                self._started.set_result(None)
                await self._leave.wait()
        except SystemExit as error:
            # From a task, it would end the whole event loop.
            raise RuntimeError(f"it called sys.exit({error.code!r})") from error

    async def _cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=_GRACE)
        if not self._task.done():
            self._log.error("a plugin takes no notice of being cancelled; it is left behind", seconds=_GRACE)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if not self._leave.is_set():
            self._log.error("a plugin failed while running", exc_info=error)
            self._on_end()
        elif error is not None:
            self._log.error("a plugin failed while stopping", exc_info=error)


def plugin_of(frame: FrameType) -> tuple[str, str] | None:
    """Plugin and ``lifespan``, if that is what `frame` runs, seen from another thread."""
    if frame.f_code is Life.live.__code__ and (plugin := frame.f_locals["self"].plugin):
        return plugin, "lifespan"
    return None
