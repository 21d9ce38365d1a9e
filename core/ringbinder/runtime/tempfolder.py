"""Temporary folders that are removed also after their process was killed: by the next that makes one beside them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from .filelock import file_locked
from .private import make_private

_LOCK: Final = "lock"


@contextlib.asynccontextmanager
async def temporary_folder(parent: Path) -> AsyncIterator[Path]:
    """Make a folder in `parent` that only this user can look into; remove it in the end.

    Its file ``lock`` is held meanwhile. What killed processes have left in `parent` is removed as well.
    """
    with ExitStack() as lock:
        folder = await asyncio.to_thread(_make, parent, lock)
        try:
            yield folder
        finally:
            await asyncio.shield(asyncio.to_thread(_remove, folder))


def remove_abandoned(parent: Path) -> None:
    """Remove what killed processes have left in `parent`; the folders of living ones stay. Blocks."""
    if parent.is_dir():
        with file_locked(parent / _LOCK) as _, ExitStack() as stale:
            for folder in _unheld(parent, stale):
                _remove(folder)


def _make(parent: Path, lock: ExitStack) -> Path:
    make_private(parent)
    with ExitStack() as stale:
        # No one takes a new folder for a left one before its lock is held.
        with file_locked(parent / _LOCK):
            left = _unheld(parent, stale)
            folder = Path(tempfile.mkdtemp(dir=parent))
            lock.enter_context(file_locked(folder / _LOCK))
        for old in left:
            _remove(old)
    return folder


def _unheld(parent: Path, stale: ExitStack) -> list[Path]:
    """The folders in `parent` whose process is gone; their locks are held by `stale`."""
    found = []
    for folder in parent.glob("*/"):
        with contextlib.suppress(OSError):  # held by a living process, or gone by now
            stale.enter_context(file_locked(folder / _LOCK, wait=False))
            found.append(folder)
    return found


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
