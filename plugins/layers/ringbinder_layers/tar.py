"""The file of a layer: a compressed tar file whose bytes are decided by what is put into it, and by nothing else."""

from __future__ import annotations

import hashlib
import io
import posixpath
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Literal, Protocol, Self

import zstandard
from isal import isal_zlib
from ringbinder import Descriptor, RingbinderError

from .model import MADE_AT, Compression, Layer

MEDIA_TYPES: Final = {
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
}
"""Media type of a layer by its compression, as in the OCI image specification."""

_ZSTD_LEVEL: Final = 3
_GZIP_LEVEL: Final = 2
_GZIP_WBITS: Final = 31  # with header and checksum of gzip
_CHUNK: Final = 1 << 20
_MAX_COMPONENT_BYTES: Final = 255  # as Linux's file systems
_MAX_PATH_BYTES: Final = 4095
_MAX_DEPTH: Final = 200  # as ringbinder.untrusted
_MAX_NAMES_BYTES: Final = 100 << 20  # of all paths of a layer, which are in memory until it is finished
_NAME_BYTES: Final = 100  # that a path takes there besides its own
_WHITEOUT: Final = ".wh."  # OCI image specification: such a name removes a file of the layers below
_FOLDER_MODE: Final = 0o755

_Kind = Literal["folder", "file"]


class EntryError(RingbinderError):
    """A file that cannot be put into a layer. The message begins with its path, and does not know its package."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path[:200]!r} {reason}")
        self.path = path
        self.reason = reason


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        raise NotImplementedError  # only declared


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class LayerWriter:
    """Writes a layer's file at `target`, a new one. A context manager: what is not finished is removed.

    Entries are stored in the order in which they are added, so the content must decide it. Of files with one path the
    first stays: packages are written from the last to the first, so that the later one's file is the image's.

    Parent folders are added by themselves, once: a layer without entries for them makes root their owner with some
    engines. Those at or below `top` belong to `uid` and `gid`, as all files and links do; those above it to root.
    All methods block.
    """

    def __init__(
        self,
        target: Path,
        compression: Compression,
        *,
        top: str,
        uid: int,
        gid: int,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """
        :param top: absolute path in the image of the uppermost folder that belongs to `uid`
        :param check: called between pieces of work; what it raises ends the writing
        """
        self._target = target
        self._compression: Compression = compression
        self._top = check_path(top)
        self._owner = (uid, gid)
        self._check = check
        self._file: BinaryIO | None = None
        self._compressor = _compressor(compression)
        self._pending = bytearray()
        self._kinds: dict[str, _Kind] = {}
        self._names_size = 0
        self._tar_hash = hashlib.sha256()
        self._blob_hash = hashlib.sha256()
        self._blob_size = 0
        self._finished = False

    def __enter__(self) -> Self:
        self._file = self._target.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if not self._finished:
            self._target.unlink(missing_ok=True)

    def folder(self, path: str, mode: int = _FOLDER_MODE) -> None:
        """Add the folder at the absolute `path`, unless it is there; a parent that was added keeps its mode."""
        path = check_path(path)
        self._add_parents(path)
        if self._is_new(path, "folder"):
            self._add(_entry(path, tarfile.DIRTYPE, mode), self._owner_of(path))

    def file(
        self,
        path: str,
        content: Readable | bytes,
        size: int | None = None,
        mode: int = 0o644,
        made_at: int = MADE_AT,
    ) -> bytes:
        """Add the file at the absolute `path`, unless there is one; return the SHA-256 of its content.

        :param content: read to its end, also where there is a file already
        :param size: of a stream, which must have this many bytes
        :param made_at: modification time in Unix seconds, for files whose package fixes it
        """
        if isinstance(content, bytes):
            size = len(content)
            content = io.BytesIO(content)
        elif size is None:
            raise TypeError("a stream needs its size")
        path = check_path(path)
        self._add_parents(path)
        if new := self._is_new(path, "file"):
            self._add(_entry(path, tarfile.REGTYPE, mode, size=size, made_at=made_at), self._owner)
        digest = hashlib.sha256()
        left = size
        while chunk := content.read(min(_CHUNK, left) or 1):
            if (left := left - len(chunk)) < 0:
                raise EntryError(path, f"has more than the {size} bytes that were announced")
            self._check()
            digest.update(chunk)
            if new:
                self._write(chunk)
        if left:
            raise EntryError(path, f"has {left} bytes less than the {size} that were announced")
        if new:
            self._write(bytes(-size % tarfile.BLOCKSIZE))
        return digest.digest()

    def link(self, path: str, target: str) -> None:
        """Add the symbolic link at the absolute `path`, unless there is a file. Where it leads is not judged."""
        path = check_path(path)
        if not target or "\0" in target or len(_encoded(path, target)) > _MAX_PATH_BYTES:
            raise EntryError(path, "is a link to what is no path")
        self._add_parents(path)
        if self._is_new(path, "file"):
            self._add(_entry(path, tarfile.SYMTYPE, 0o777, target=target), self._owner)

    def finish(self) -> Layer:
        """End the file and return what it is; nothing can be added to it any more."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._compress(len(self._pending))
        self._emit(self._compressor.flush())
        if self._file is not None:
            self._file.close()
        self._finished = True
        blob = Descriptor(MEDIA_TYPES[self._compression], f"sha256:{self._blob_hash.hexdigest()}", self._blob_size)
        return Layer(blob, f"sha256:{self._tar_hash.hexdigest()}")

    def _add_parents(self, path: str) -> None:
        parent = posixpath.dirname(path)
        if parent != "/" and self._kinds.get(parent) != "folder":
            self.folder(parent)

    def _owner_of(self, folder: str) -> tuple[int, int]:
        return self._owner if folder == self._top or folder.startswith(f"{self._top}/") else (0, 0)

    def _is_new(self, path: str, kind: _Kind) -> bool:
        if (known := self._kinds.get(path)) not in (None, kind):
            raise EntryError(path, "is a folder and a file at once, in one package or in two of a layer")
        if known is None:
            self._kinds[path] = kind
            self._names_size += len(path) + _NAME_BYTES
            if self._names_size > _MAX_NAMES_BYTES:
                raise EntryError(path, "is one too many: a layer holds no more names")
        return known is None

    def _add(self, entry: tarfile.TarInfo, owner: tuple[int, int]) -> None:
        self._check()
        entry.uid, entry.gid = owner
        self._write(entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))

    def _write(self, data: bytes) -> None:
        # In pieces of one size, whatever the sizes of reads were: what a compressor makes may depend on them.
        self._pending += data
        while len(self._pending) >= _CHUNK:
            self._compress(_CHUNK)

    def _compress(self, size: int) -> None:
        piece = bytes(self._pending[:size])
        del self._pending[:size]
        self._tar_hash.update(piece)
        self._emit(self._compressor.compress(piece))

    def _emit(self, data: bytes) -> None:
        if self._file is None:
            raise ValueError("a layer is written within its context")
        self._blob_hash.update(data)
        self._blob_size += len(data)
        self._file.write(data)


def _compressor(compression: Compression) -> _Compressor:
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
    compressor: _Compressor = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS)
    return compressor


def _entry(
    path: str, kind: bytes, mode: int, *, size: int = 0, target: str = "", made_at: int = MADE_AT
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path[1:])
    entry.type = kind
    entry.mode = mode & 0o777  # without the bits that lend the owner's rights to the one who runs it
    entry.mtime = made_at
    entry.size = size
    entry.linkname = target
    return entry


def check_path(path: str) -> str:
    """Return `path` if every engine unpacks it where it says, and nowhere else."""
    root, *components = path.split("/")
    if root or not components or not all(components) or not {".", ".."}.isdisjoint(components):
        raise EntryError(path, "is no plain path")
    if "\0" in path:
        raise EntryError(path, "has a NUL in its name")
    if len(components) > _MAX_DEPTH:
        raise EntryError(path, f"lies more than {_MAX_DEPTH} folders deep")
    if len(_encoded(path, path)) > _MAX_PATH_BYTES or any(
        len(component.encode()) > _MAX_COMPONENT_BYTES for component in components
    ):
        raise EntryError(path, "is longer than a path can be")
    if any(component.startswith(_WHITEOUT) for component in components):
        raise EntryError(path, f"begins with {_WHITEOUT}, which in an image removes another file")
    return path


def _encoded(path: str, name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise EntryError(path, "has a name that is no UTF-8") from None
