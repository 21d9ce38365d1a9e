"""Names what has blocked the event loop for a second, while it does: the plugin and its hook, where one is under way.

A thread looks whether the loop still moves. Only if it does not, it reads where the loop's thread stands; so nothing
is recorded on the way, and a loop that hangs for ever is named as well. What keeps the interpreter's lock all the time
(a backtracking regular expression) is named when it gives it back.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Final

from ..runtime.log import Logger
from ..runtime.metrics import Metrics
from .call_loop import hook_of
from .lifespan import plugin_of

_BLOCKED_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.25
_FRAMES: Final = 8
# A loop that waits for something to happen stands in the first, one that is not Python's own in the second.
_IDLE: Final = frozenset({"selectors", "asyncio.runners"})
_LOOPS: Final = ("asyncio", "selectors", "contextlib", "concurrent.futures")


@asynccontextmanager
async def watched_loop(log: Logger, metrics: Metrics) -> AsyncIterator[None]:
    """Watches the running event loop, whose thread this is."""
    watchdog = _Watchdog(log, metrics)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()


class _Watchdog:
    def __init__(self, log: Logger, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._loops_thread = threading.get_ident()
        self._ended = threading.Event()
        self._moved_at = time.monotonic()
        self._handle = self._loop.call_soon(self._move)
        # A daemon: a process that is to end does not wait for it.
        self._thread = threading.Thread(target=self._watch, name="ringbinder-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._handle.cancel()
        self._ended.set()
        self._thread.join()

    def _move(self) -> None:
        self._moved_at = time.monotonic()
        self._handle = self._loop.call_later(_LOOK_SECONDS, self._move)

    def _watch(self) -> None:
        reported = 0.0
        while not self._ended.wait(_LOOK_SECONDS):
            moved_at = self._moved_at
            if time.monotonic() - moved_at < _BLOCKED_SECONDS or moved_at == reported:
                continue
            frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - documented all the same
            if (frame := frames.get(self._loops_thread)) and _module(frame) not in _IDLE:
                reported = moved_at
                try:
                    self._report(frame, time.monotonic() - moved_at)
                except Exception:  # what stands in another thread's frames may be anything
                    self._log.exception("the event loop is blocked, and its frames cannot be read")

    def _report(self, frame: FrameType, seconds: float) -> None:
        plugin, hook = _hook_under_way(frame)
        self._metrics.loop_blocked.labels(plugin, hook).inc()
        where = {"at": _functions(frame), "seconds": round(seconds, 1)}
        if plugin:
            self._log.error(
                "a plugin blocks the event loop, so that no one is answered", plugin=plugin, hook=hook, **where
            )
        else:
            self._log.error("the event loop is blocked outside of any hook, so that no one is answered", **where)


def _hook_under_way(frame: FrameType) -> tuple[str, str]:
    for outer in _outwards(frame):
        if found := hook_of(outer) or plugin_of(outer):
            return found
    return "", ""


def _functions(frame: FrameType) -> str:
    """Where it stands: the innermost functions of ours and plugins'."""
    names = [
        f"{_module(outer)}.{outer.f_code.co_qualname}:{outer.f_lineno}"
        for outer in _outwards(frame)
        if not _module(outer).startswith(_LOOPS)
    ]
    return " < ".join(names[:_FRAMES])


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))
