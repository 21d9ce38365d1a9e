"""Unpacking a zip file of a stranger: bounded in bytes, entries and depth, and nothing in it leads out."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from ringbinder import UserError
from ringbinder.concurrency import Stop, in_thread
from ringbinder.specs import shown
from ringbinder.untrusted import MAX_DEPTH, UntrustedError, UntrustedTree

_UNUSABLE: Final = "record-unusable"
_CHUNK: Final = 2**20
_MOST_ENTRIES: Final = 100_000
"""Files, links and folders, also those that only stand in the paths of others."""
_LIST_SIZE: Final = 2**24
_LINK_SIZE: Final = 1024
# Not LZMA, of which a few bytes ask for 4 GiB of memory.
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})


# All that zipfile raises for what is no good zip file.
_BROKEN: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, OSError, EOFError, ValueError, ArithmeticError,
    LookupError,
)  # fmt: skip


class _Archive(io.FileIO):
    """A file of which not much is read at a time: the list of entries is read at once, before it can be counted."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = -1 if size is None else size
        content = super().read(wanted if 0 <= wanted <= _LIST_SIZE else _LIST_SIZE + 1)
        if len(content) > _LIST_SIZE:
            raise zipfile.BadZipFile("its list of files is too long")
        return content


def inside(name: str) -> PurePosixPath:
    """The relative path that a file of a stranger has. Raises UserError if it would not be within a folder."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(_UNUSABLE, f'The record has a file with a forbidden name: "{shown(name)}".')
    if len(path.parts) > MAX_DEPTH:
        raise UserError(_UNUSABLE, f'"{shown(name)}" lies more than {MAX_DEPTH} folders deep.')
    return path


async def unpack(archive: Path, folder: Path, limit: int) -> None:
    """Replace a zip file, alone in `folder`, by what it holds; of a single folder in it, by that one's content.

    GitHub's archives have such a folder. It is what repo2docker does with a record of one file. Raises UserError.
    """
    try:
        await in_thread(lambda stop: _unpack(archive, folder, limit, stop))
    except (*_BROKEN, UntrustedError) as error:
        raise UserError(_UNUSABLE, f"{shown(archive.name)} cannot be unpacked: {shown(str(error))}.") from None


def _unpack(archive: Path, folder: Path, limit: int, stop: Stop) -> None:
    # Not `TemporaryDirectory`, which changes the modes of what links lead to (CVE-2023-6597).
    made = Path(tempfile.mkdtemp(dir=folder, prefix=".unpacked-"))
    try:
        with _Archive(archive) as file, zipfile.ZipFile(file) as content:
            entries = _checked(archive.name, content, limit)
            links = []
            for entry, path in entries:
                stop.check()
                (made / (path if entry.is_dir() else path.parent)).mkdir(parents=True, exist_ok=True)
                if stat.S_ISLNK(entry.external_attr >> 16):
                    links.append((entry, path))
                elif not entry.is_dir():
                    _extract(content, entry, made / path, stop)
            # Last, so that nothing is written through them.
            for entry, path in links:
                _link(content, entry, path, made)
        top = list(made.iterdir())
        inner = top[0] if len(top) == 1 and top[0].is_dir() and not top[0].is_symlink() else made
        _require_inside(inner, [made / path for _, path in links], stop)
        archive.unlink()
        if archive.parent != folder:
            shutil.rmtree(folder / archive.relative_to(folder).parts[0])
        for child in inner.iterdir():
            child.rename(folder / child.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _checked(name: str, content: zipfile.ZipFile, limit: int) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The entries and their paths, if they are not too much together."""
    entries = content.infolist()
    if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > limit:
        raise _too_much(name)
    found = []
    known: set[PurePosixPath] = set()
    for entry in entries:
        if entry.compress_type not in _METHODS:
            raise NotImplementedError("it is compressed in an unusual way")
        path = inside(entry.filename)
        found.append((entry, path))
        for part in (path, *path.parents):
            if part in known:
                break
            known.add(part)
        if len(known) > _MOST_ENTRIES:
            raise _too_much(name)
    return found


def _too_much(name: str) -> UserError:
    return UserError("record-too-large", f"{shown(name)} unpacks to more than is allowed.")


def _extract(content: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, stop: Stop) -> None:
    with content.open(entry) as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK):
            stop.check()
            sink.write(chunk)
    target.chmod(0o755 if entry.external_attr >> 16 & stat.S_IXUSR else 0o644)


def _link(content: zipfile.ZipFile, entry: zipfile.ZipInfo, path: PurePosixPath, root: Path) -> None:
    if entry.file_size > _LINK_SIZE:
        raise UserError(_UNUSABLE, f'The link "{shown(entry.filename)}" in the archive is too long.')
    target = content.read(entry)
    with UntrustedTree(root).handle(path.parent.as_posix()) as folder:
        os.symlink(target, os.fsencode(path.name), dir_fd=folder)


def _require_inside(root: Path, links: list[Path], stop: Stop) -> None:
    """Raises UserError if a link leads out of `root`, by way of others too."""
    top = root.resolve()
    for link in links:
        stop.check()
        target = link.readlink()
        if target.is_absolute() or not link.resolve().is_relative_to(top):
            name = shown(link.relative_to(root).as_posix())
            raise UserError(_UNUSABLE, f'The link "{name}" in the archive leads out of it.')
