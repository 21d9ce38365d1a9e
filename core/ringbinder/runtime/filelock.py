"""Locks on files: they die with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def lock_file(file: int, *, shared: bool = False, wait: bool = True, needed: bool = True) -> bool:
    """Lock the open `file` until it is closed. Returns False if another has the lock and it shall not `wait`.

    A file system may have no locks. Raises OSError then, or does without where one is not `needed`.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        if needed:
            raise
    return True


@contextmanager
def locked(file: int) -> Iterator[None]:
    """Hold the lock on the open `file`, where its file system has locks. Blocks until it has it."""
    lock_file(file, needed=False)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def file_locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the exclusive lock on `path`, a file that is made if need be. Blocks until it has it.

    Raises BlockingIOError if another process has it and it shall not `wait`, OSError if the file cannot be opened.
    """
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if not lock_file(file, wait=wait):
            raise BlockingIOError(f"{path} is locked")
        yield
    finally:
        os.close(file)
