"""What a Ringbinder that was killed has left running in a folder of the store.

Its commands end by themselves, since each hangs on a leash; but not at once, and a leash can be killed too. Before
a folder is made again, or removed, they must have stopped writing into it.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

import psutil

_PATIENCE: Final = 8.0
"""Seconds; more than a leash takes to end its command."""
_LOOK_SECONDS: Final = 0.05
_LEASH: Final = "_leash.py"


async def end(folder: Path) -> None:
    """Waits for what works in `folder` to end, and kills what does not. Hold its lock: the living have it."""
    deadline = time.monotonic() + _PATIENCE
    while processes := await asyncio.to_thread(_working_in, folder):
        if time.monotonic() > deadline:
            for process in processes:
                _kill(process)
        await asyncio.sleep(_LOOK_SECONDS)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()  # compares the start time: another process with the same id is safe
    except psutil.Error:
        return


def _working_in(folder: Path) -> list[psutil.Process]:
    """Everything of ours whose home is in `folder`, and the leashes of commands that work there."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _works_in(process, folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it has just ended, or is another user's
    return found


def _works_in(process: psutil.Process, folder: Path) -> bool:
    if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
        return False
    if folder in Path(process.environ().get("HOME", "/")).parents:
        return True
    words = process.cmdline()
    if not any(word.endswith(_LEASH) for word in words):
        return False
    return Path(process.cwd()).is_relative_to(folder) or any(str(folder) in word for word in words)
