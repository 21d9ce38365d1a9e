"""The files in a conda package, `.conda` or `.tar.bz2`, read forwards and within limits."""

from __future__ import annotations

import bz2
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self

import zstandard
from attrs import define, frozen
from ringbinder import RingbinderError

from .tar import Readable

_MAX_BYTES: Final = 16 * 1024**3
_MAX_RATIO: Final = 200
"""Bytes that one byte of a package may become, beyond `_SPARED_BYTES`: text compresses to a tenth or so."""
_SPARED_BYTES: Final = 256 * 1024**2
_MAX_FILES: Final = 500_000
_MAX_HEADER_BYTES: Final = 8192
"""Of a header that lengthens another one: a path and some numbers; tarfile reads it at once."""
_MAX_READ: Final = 1 << 20
_MAX_WINDOW: Final = 128 * 1024**2  # zstd's own for level 22
_SKIPPED: Final = 1 << 16
_EXTENSIONS: Final = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class ArchiveError(RingbinderError):
    """The file is no conda package that is read here. The message goes after its name."""


@frozen
class Member:
    """A file, link or folder in a package."""

    path: str
    kind: str
    """``file``, ``folder``, ``link`` (symbolic) or ``hardlink``."""
    size: int
    mode: int
    made_at: int
    """In whole seconds, as Python writes it into bytecode: without their fractions."""
    target: str
    """Of a link as it stands there; of a hard link the path of the file."""
    content: Readable
    """Of a file, to be read before the next member is asked for."""


class CondaArchive:
    """A conda package at `file`: its descriptions (`info/...`) and its files. A context manager; blocks.

    Reading raises `ArchiveError` for what is no package or is beyond a limit.
    """

    def __init__(self, file: Path) -> None:
        self.limit: Final = min(_MAX_BYTES, _SPARED_BYTES + _MAX_RATIO * file.stat().st_size)
        """Bytes that it may unpack to."""
        self._file = file.open("rb")

    def __enter__(self) -> Self:
        try:
            self._zip = self._opened()
        except ArchiveError:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def is_single(self) -> bool:
        """Descriptions and files are in one archive, in no order that could be relied on."""
        return self._zip is None

    def descriptions(self) -> Iterator[Member]:
        """Give what is below `info`; of a `.tar.bz2` all there is."""
        return self._members("info")

    def files(self) -> Iterator[Member]:
        """Give what is to be installed; of a `.tar.bz2` all there is."""
        return self._members("pkg")

    def _opened(self) -> zipfile.ZipFile | None:
        magic = self._file.read(4)
        if magic[:3] == b"BZh":
            return None
        if magic != b"PK\3\4":
            raise ArchiveError("is neither a .conda nor a .tar.bz2")
        try:
            return zipfile.ZipFile(_Bounded(self._file))
        except _ZIP_ERRORS as error:
            raise ArchiveError(f"is a damaged .conda: {error}") from None

    def _members(self, part: str) -> Iterator[Member]:
        archive = self._zip
        if archive is None:
            self._file.seek(0)
            yield from _read_tar(bz2.BZ2File(self._file), self.limit)
            return
        names = [info for info in archive.infolist() if info.filename.startswith(f"{part}-")]
        if len(names) != 1 or not names[0].filename.endswith(".tar.zst"):
            raise ArchiveError(f"has not one {part}-....tar.zst")
        if names[0].compress_type != zipfile.ZIP_STORED:
            raise ArchiveError(f"has a {part}-....tar.zst that is compressed twice")
        try:
            content = archive.open(names[0])
        except _ZIP_ERRORS as error:
            raise ArchiveError(f"is a damaged .conda: {error}") from None
        with content:
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
            yield from _read_tar(decompressor.stream_reader(content, read_across_frames=True), self.limit)


# What zipfile raises for what no tool has written.
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile, struct.error, ValueError, EOFError, RuntimeError, NotImplementedError, LookupError,
)  # fmt: skip


class _Bounded(io.BufferedIOBase):
    """A zip file of which nothing is read in one piece that is longer than a package's list of members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(_MAX_READ + 1 if size is None or size < 0 else min(size, _MAX_READ + 1))
        if len(data) > _MAX_READ:
            raise zipfile.BadZipFile("its list of members is too long")
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if offset < 0 and whence == 0:
            raise zipfile.BadZipFile("it names a place before its beginning")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class _Unpacked:
    """What a decompressor gives, as a file that is read forwards, up to `limit` bytes."""

    def __init__(self, source: Readable, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._position = 0

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise ArchiveError("has a header that is too long")
        pieces = []
        while size:
            try:
                piece = self._source.read(size)
            except (OSError, EOFError, ValueError, zstandard.ZstdError, zipfile.BadZipFile) as error:
                if isinstance(error, OSError) and error.errno is not None:  # without one it is bz2's
                    raise
                raise ArchiveError(f"is damaged: {error}") from None
            if not piece:
                break
            size -= len(piece)
            self._position += len(piece)
            if self._position > self._limit:
                raise ArchiveError(f"unpacks to more than {self._limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise ArchiveError("has a header with a wrong size")
        while (left := position - self._position) and self.read(min(left, _SKIPPED)):
            pass


class _Header(tarfile.TarInfo):
    """A header that has tarfile read no more than a header needs."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENSIONS and header.size > _MAX_HEADER_BYTES):
            raise ArchiveError("has a header that is too long")
        return header


@define
class _Content:
    """The rest of a member's content, `left` bytes of it."""

    source: _Unpacked
    left: int

    def read(self, size: int, /) -> bytes:
        data = self.source.read(min(self.left, size, _MAX_READ))
        self.left -= len(data)
        return data


def _read_tar(source: Readable, limit: int) -> Iterator[Member]:
    content = _Unpacked(source, limit)
    for header in _headers(content):
        yield _member(header, content)


def _headers(content: _Unpacked) -> Iterator[tarfile.TarInfo]:
    try:
        # It only reads, what is in it is judged by `_member`; nothing is extracted.
        archive = tarfile.TarFile(fileobj=content, mode="r", tarinfo=_Header)  # type: ignore[arg-type]  # all that it uses
        count = 0
        while (header := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            if (count := count + 1) > _MAX_FILES:
                raise ArchiveError(f"has more than {_MAX_FILES} files")
            yield header
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise ArchiveError(f"is damaged: {error}") from None


def _member(header: tarfile.TarInfo, content: _Unpacked) -> Member:
    path = _plain(header.name)
    target = header.linkname
    if header.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and header.sparse is None:
        kind = "file"
    elif header.type == tarfile.DIRTYPE:
        kind = "folder"
    elif header.type == tarfile.SYMTYPE:
        kind = "link"
    elif header.type == tarfile.LNKTYPE:
        kind = "hardlink"
        target = _plain(target)
    else:
        raise ArchiveError(f"has {header.name[:200]!r}, which is no file, folder or link")
    rest = _Content(content, header.size if kind == "file" else 0)
    return Member(path, kind, header.size, header.mode, int(header.mtime), target, rest)


def _plain(name: str) -> str:
    path = name.removeprefix("./").rstrip("/")
    if path.startswith("/") or ".." in path.split("/"):
        raise ArchiveError(f"has {name[:200]!r}, which leaves the prefix")
    return path
