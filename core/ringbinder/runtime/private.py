"""Folders and files that are made for this user only."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
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


def change_mode(path: str | Path, change: Callable[[int], int], folder: int | None = None) -> None:
    """Gives what is at `path` the permissions that `change` makes of its mode, never what a link leads to.

    It needs no permission on the file itself. `folder` is the descriptor that `path` is relative to. Raises OSError.
    """
    if sys.platform == "linux":
        # Not opened for reading: closing that would drop the locks of this process's databases. And permissions
        # cannot be changed by name without following a link that has taken its place.
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            mode = os.fstat(handle).st_mode
            if (changed := change(mode)) != stat.S_IMODE(mode):
                Path(f"/proc/self/fd/{handle}").chmod(changed)
        finally:
            os.close(handle)
        return
    mode = os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode
    if (changed := change(mode)) != stat.S_IMODE(mode):
        os.chmod(path, changed, dir_fd=folder, follow_symlinks=False)


def remove_access_of_others(path: str) -> None:
    """Takes group's and others' permissions from a file or folder, never from what a link leads to. Raises OSError."""

    def change(mode: int) -> int:
        taken = mode & 0o077 and (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        return stat.S_IMODE(mode) & (0o700 if taken else 0o7777)

    change_mode(path, change)
