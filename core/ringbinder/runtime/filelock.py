"""Locks on files: they die with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the exclusive lock on `path`, a file that is made if need be. Blocks until it has it.

    Raises BlockingIOError if another process has it and it shall not `wait`, OSError if the file cannot be opened.
    """
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(lock)
