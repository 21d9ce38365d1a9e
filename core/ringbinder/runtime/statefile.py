"""Small files of Ringbinder's own: replaced whole, so that neither a crash nor a full disk leaves half of one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Final

_LIMIT: Final = 256 * 1024**2
# Should something else be in its place, opening it must neither wait nor lead elsewhere.
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def write_state(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace the file at `path` in one step. Blocks, with `sync` until it outlives the end of power."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    if sync:
        sync_state(path.parent)


def sync_state(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk. Blocks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_state(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in the file at `path`; None if it is not there. Raises ValueError if it is damaged."""
    try:
        with os.fdopen(os.open(path, _READ_FLAGS), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is no regular file")  # noqa: TRY301 - said below, with its name
            state = json.loads(file.read(_LIMIT))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} has no JSON object")  # noqa: TRY004 - the content is wrong, not an argument
    return state
