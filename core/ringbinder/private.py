"""Folders and files that are made for this user only."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path


def make_private(folder: Path) -> None:
    """Makes `folder`, and those above it that are missing, for this user only. Raises OSError."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    except FileNotFoundError:
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def private(path: str, flags: int) -> int:
    """For `open(..., opener=private)`: a file that is made is for this user only."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def remove_access_of_others(path: str) -> None:
    """Takes group's and others' permissions from a file or folder, never from what a link leads to. Raises OSError."""
    if sys.platform != "linux":
        Path(path).chmod(stat.S_IMODE(os.lstat(path).st_mode) & 0o700, follow_symlinks=False)
        return
    # Not opened for reading: closing that would drop the locks of this process's databases.
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = os.fstat(file).st_mode
        if mode & 0o077 and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            Path(f"/proc/self/fd/{file}").chmod(stat.S_IMODE(mode) & 0o700)
    finally:
        os.close(file)
