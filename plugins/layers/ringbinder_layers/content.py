"""A repository's content as layers of an image: its files, and apart from them its history."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

from ringbinder import Log
from ringbinder.untrusted import UntrustedTree

from .model import Base
from .tar import LayerWriter

HISTORY: Final = ".git"
"""Folder of the history in the root. Two clones of one commit differ in it, and in nothing else."""

_FILE: Final = 0o644
_EXECUTABLE: Final = 0o755


def top(base: Base) -> str:
    """The uppermost folder of the content that belongs to the image's user, for `LayerWriter`."""
    return base.home if f"{base.repo_dir}/".startswith(f"{base.home}/") else base.repo_dir


def write_content(tree: UntrustedTree, base: Base, writer: LayerWriter, log: Log, start: str = "") -> None:
    """Writes all of the repository `tree` but its history; `start` is a file that is made executable. Blocks.

    Of the modes only what git keeps counts, since the rest depends on who has fetched it, and where. Links are kept
    as links, wherever they lead. Raises `UntrustedError`, and what `writer` raises.
    """
    writer.folder(base.repo_dir)
    _write(tree, base, writer, log, tree.walk(skip=lambda path: path == HISTORY and tree.is_folder(path)), start)


def write_history(tree: UntrustedTree, base: Base, writer: LayerWriter, log: Log) -> None:
    """Writes the history of the repository `tree`, which has one. Blocks; raises as `write_content` does."""
    writer.folder(f"{base.repo_dir}/{HISTORY}")
    _write(tree, base, writer, log, tree.walk(HISTORY))


def _write(
    tree: UntrustedTree,
    base: Base,
    writer: LayerWriter,
    log: Log,
    entries: Iterator[tuple[str, os.stat_result]],
    start: str = "",
) -> None:
    for path, facts in entries:
        place = f"{base.repo_dir}/{path}"
        if stat.S_ISDIR(facts.st_mode):
            writer.folder(place)
        elif stat.S_ISLNK(facts.st_mode):
            writer.link(place, tree.link(path))
        elif stat.S_ISREG(facts.st_mode):
            executable = path == start or facts.st_mode & stat.S_IXUSR
            with tree.open(path) as file:
                writer.file(place, file, os.fstat(file.fileno()).st_size, _EXECUTABLE if executable else _FILE)
        else:
            log.line(f"{path} is a pipe, a socket or a device, and is left out\n", "building")
