"""Work on many files, in a thread that stops when no one waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """No one waits for the work any more."""


class Stop(threading.Event):
    """Set once no one waits for the work any more."""

    def check(self) -> None:
        """Raises `Stopped` once it is set."""
        if self.is_set():
            raise Stopped


async def in_thread(work: Callable[[Stop], T]) -> T:
    """What `work` returns. Cancelled, it waits until `work` has checked its `Stop`.

    So no one writes into a folder that is being removed.
    """
    stop = Stop()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({running})
        running.exception()
        raise
