"""`ringbinder paths`: the folders of this installation."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ringbinder.runtime.paths import Paths
from ringbinder.runtime.untrusted import UntrustedError, UntrustedTree

from ..terminal import echo, echo_json
from .exitcodes import ExitCode
from .invocation import Invocation

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


async def show_paths(invocation: Invocation, *, as_json: bool) -> int:
    """Prints the state and the cache folder, with what lies in each and how much room it takes."""
    settings = invocation.config().settings
    paths = Paths.of(settings.state_folder, settings.cache_folder)
    found = {
        name: (folder, await asyncio.to_thread(_parts, folder))
        for name, folder in (("state", paths.state), ("cache", paths.cache))
    }
    if as_json:
        records = {name: {"path": str(folder), "parts": parts} for name, (folder, parts) in found.items()}
        echo_json(records)
        return ExitCode.OK
    for name, (folder, parts) in found.items():
        echo(f"{name}  {folder}{'' if parts else '  (empty)'}")
        for part, size in parts.items():
            echo(f"  {readable_size(size):>9}  {part}")
    echo("The cache may be deleted at any time; the state holds images and kept work.", err=True)
    return ExitCode.OK


def readable_size(size: int | None) -> str:
    """Such as ``1.5 GiB``; empty if it is not known."""
    if size is None:
        return ""
    amount, unit = float(size), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{size} bytes"


def _parts(folder: Path) -> dict[str, int]:
    """Bytes on disk of everything in `folder`; a file with several names counts where it is met first."""
    seen: set[tuple[int, int]] = set()
    if not folder.is_dir():
        return {}
    return {path.name: _size(path, seen) for path in sorted(folder.iterdir())}


def _size(path: Path, seen: set[tuple[int, int]]) -> int:
    total = 0
    for facts in _all_of(path):
        if (facts.st_dev, facts.st_ino) not in seen:
            seen.add((facts.st_dev, facts.st_ino))
            total += facts.st_blocks * 512
    return total


def _all_of(path: Path) -> Iterator[os.stat_result]:
    """What the system knows of a file, or of a folder and all in it, as far as that can be counted."""
    with suppress(OSError, UntrustedError):
        facts = path.lstat()
        yield facts
        if stat.S_ISDIR(facts.st_mode):
            for _, below in UntrustedTree(path).walk():
                yield below
