"""Work on many files, in a thread that stops when no one waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """No one waits for the work any more."""


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """What `work` returns. Cancelled, it waits until `work` has seen its event and raised `Stopped`.

    So no one writes into a folder that is being removed.
    """
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({running})
        running.exception()
        raise
