"""Folders that strangers can write: what is in them is reached without following a link, and read within bounds.

A repository's content, an image's environment and a notebook's files may be anything at any moment: a link to another
file of this machine, a pipe that never ends, a device. Whatever of Ringbinder's reads, writes, copies or lists there
does it through an `UntrustedTree`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal

from attrs import field, frozen

from .errors import RingbinderError

Kind = Literal["file", "folder", "link", "other"]

MAX_DEPTH: Final = 200
"""Folders below one another that are looked through."""
MAX_ENTRIES: Final = 1_000_000
"""Files and folders that are looked through at a time."""
_CHUNK: Final = 1 << 20
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe that replaced a file a moment ago would wait for its writer.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class UntrustedError(RingbinderError):
    """A path in an untrusted folder is not what it must be. `path` is relative to that folder, `reason` in words."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path
        self.reason = reason


@frozen
class UntrustedTree:
    """A folder whose content strangers can change at any time. `root` itself, and what is above it, they cannot.

    Paths are relative, with ``/`` between components; each component is opened by itself, relative to the handle of
    the one before it, and never followed if it is a link. All methods block, and raise FileNotFoundError for what is
    not there, `UntrustedError` for what is of another kind or too large, OSError for what the system refuses.
    """

    root: Path = field(converter=Path)
    _below: tuple[str, ...] = ()
    """Components below `root`, each of which strangers can replace."""

    @property
    def place(self) -> Path:
        """Its path: for messages, and for arguments of commands that run in a sandbox; never to be opened."""
        return self.root.joinpath(*self._below)

    def subtree(self, path: str) -> UntrustedTree:
        """Return what is at `path` as a tree of its own; whether it is a folder shows when it is used."""
        return UntrustedTree(self.root, (*self._below, *_components(path)))

    def kind(self, path: str) -> Kind | None:
        """Return what is at `path`; None if nothing is."""
        with contextlib.suppress(FileNotFoundError):
            return _kind(self.stat(path))
        return None

    def is_file(self, path: str) -> bool:
        """Return whether a regular file is at `path`; links on the way to it count as nothing."""
        try:
            return self.kind(path) == "file"
        except UntrustedError:
            return False

    def is_folder(self, path: str) -> bool:
        """Return whether a folder is at `path`; links on the way to it count as nothing."""
        try:
            return self.kind(path) == "folder"
        except UntrustedError:
            return False

    def stat(self, path: str) -> os.stat_result:
        """Return what the system knows of `path` itself: of a link, not of its target."""
        with self._parent(path) as (parent, name):
            return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def open(self, path: str) -> BinaryIO:
        """Open the regular file at `path` for reading."""
        with self._parent(path) as (parent, name):
            # Before it is opened: opening a device can do something.
            _require_file(path, os.stat(name, dir_fd=parent, follow_symlinks=False))
            descriptor = _opened(path, name, _FILE_FLAGS, parent)
        try:
            _require_file(path, os.fstat(descriptor))
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of the regular file at `path`, which may have `limit` bytes at most."""
        with self.open(path) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise UntrustedError(path, f"is larger than {limit} bytes")
        return content

    def read_text(self, path: str, limit: int) -> str:
        """Return the content of the file at `path` as UTF-8."""
        try:
            return self.read(path, limit).decode()
        except UnicodeDecodeError:
            raise UntrustedError(path, "is no text in UTF-8") from None

    def link(self, path: str) -> str:
        """Return where the link at `path` says that it leads."""
        with self._parent(path) as (parent, name):
            try:
                return os.readlink(name, dir_fd=parent)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                raise UntrustedError(path, "is no link") from None

    def names(self, path: str = ".", limit: int = MAX_ENTRIES) -> list[str]:
        """Return the names in the folder at `path`, sorted; there may be `limit` at most."""
        with self._folder(path) as folder, os.scandir(folder) as entries:
            names: list[str] = []
            for entry in entries:
                if len(names) == limit:
                    raise UntrustedError(path, f"has more than {limit} entries")
                names.append(entry.name)
        return sorted(names)

    def walk(self, path: str = ".", limit: int = MAX_ENTRIES) -> Iterator[tuple[str, os.stat_result]]:
        """Yield all that is below `path`, a folder before what is in it; links are yielded, and not followed.

        What vanishes meanwhile is left out. There may be `limit` entries at most, `MAX_DEPTH` folders deep.
        """
        waiting = [(path, 0)]
        count = 0
        while waiting:
            folder, depth = waiting.pop()
            below: list[tuple[str, int]] = []
            for name, facts in self._entries(folder, top=depth == 0):
                if (count := count + 1) > limit:
                    raise UntrustedError(path, f"has more than {limit} entries")
                inner = name if folder == "." else f"{folder}/{name}"
                yield inner, facts
                if stat.S_ISDIR(facts.st_mode):
                    if depth == MAX_DEPTH:
                        raise UntrustedError(inner, f"lies more than {MAX_DEPTH} folders deep")
                    below.append((inner, depth + 1))
            waiting += reversed(below)

    def copy_file(self, path: str, into: Path, limit: int) -> int:
        """Copy the regular file at `path` to `into`, a new file in a folder of ours; return its size in bytes.

        Keeps times and permissions, and no more: not the bits that lend the owner's rights to who runs it.
        """
        with self.open(path) as source:
            facts = os.fstat(source.fileno())
            size = 0
            with os.fdopen(os.open(into, _NEW_FLAGS, 0o600), "wb") as target:
                while chunk := source.read(min(_CHUNK, limit - size + 1)):
                    if (size := size + len(chunk)) > limit:
                        raise UntrustedError(path, f"is larger than {limit} bytes")
                    target.write(chunk)
                target.flush()
                os.fchmod(target.fileno(), facts.st_mode & 0o777)
                os.utime(target.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return size

    def copy_tree(self, path: str, into: Path, limit: int, entries: int = MAX_ENTRIES) -> int:
        """Copy the regular files below `path` to `into`, a new folder in one of ours; return their bytes.

        Leaves out whatever is neither file nor folder, links among them. `limit` is in bytes, for all together.
        """
        with self._folder(path):
            into.mkdir(mode=0o700)
        size = 0
        for inner, facts in self.walk(path, entries):
            target = into / os.path.relpath(inner, path)
            try:
                if stat.S_ISDIR(facts.st_mode):
                    target.mkdir(mode=0o700)
                elif stat.S_ISREG(facts.st_mode):
                    size += self.copy_file(inner, target, limit - size)
            except FileNotFoundError:
                continue  # gone since it was listed
        return size

    def write(self, path: str, content: bytes, mode: int = 0o600) -> None:
        """Put a regular file with `content` in the place of whatever file or link is at `path`."""
        with self._parent(path) as (parent, name):
            draft = f".{secrets.token_hex(8)}"
            try:
                with os.fdopen(os.open(draft, _NEW_FLAGS, mode, dir_fd=parent), "wb") as file:
                    file.write(content)
                os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
            except IsADirectoryError:
                os.unlink(draft, dir_fd=parent)
                raise UntrustedError(path, "is a folder, where a file must be") from None
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(draft, dir_fd=parent)
                raise

    def make_folder(self, path: str, mode: int = 0o700) -> None:
        """Make the folder at `path`, in one that is there; a folder that is there already is fine."""
        with self._parent(path) as (parent, name):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=parent)
            os.close(_opened(path, name, _FOLDER_FLAGS, parent))

    def remove(self, path: str) -> None:
        """Remove the file or link at `path`; nothing there is fine."""
        with contextlib.suppress(FileNotFoundError), self._parent(path) as (parent, name):
            os.unlink(name, dir_fd=parent)

    @contextlib.contextmanager
    def handle(self, path: str = ".") -> Iterator[int]:
        """Hold a descriptor of the folder at `path`, for calls that take ``dir_fd``."""
        with self._folder(path) as folder:
            yield folder

    def _entries(self, folder: str, *, top: bool) -> list[tuple[str, os.stat_result]]:
        entries: list[tuple[str, os.stat_result]] = []
        try:
            with self._folder(folder) as descriptor, os.scandir(descriptor) as found:
                for entry in found:
                    with contextlib.suppress(FileNotFoundError):
                        entries.append((entry.name, entry.stat(follow_symlinks=False)))
        except (FileNotFoundError, UntrustedError):
            if top:
                raise
            # It was replaced since it was listed.
        return sorted(entries, key=lambda entry: entry[0])

    @contextlib.contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        """The descriptor of the folder at `path`."""
        descriptor = _opened(os.fspath(self.root), self.root, _FOLDER_FLAGS)
        components = [*self._below, *_components(path)]
        try:
            for depth, name in enumerate(components, 1):
                inner = _opened("/".join(components[:depth]), name, _FOLDER_FLAGS, descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The descriptor of the folder that `path` is in, and its name there."""
        *folders, name = _components(path) or ["."]
        with self._folder("/".join(folders)) as folder:
            yield folder, name


def _components(path: str) -> list[str]:
    components = [component for component in path.split("/") if component != "."] if path else []
    if any(component in ("", "..") or "\0" in component for component in components):
        raise UntrustedError(repr(path), "is no path within the folder")
    return components


def _opened(path: str, name: str | Path, flags: int, folder: int | None = None) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        # Linux says ENOTDIR of a link where a folder is asked for, and ELOOP where a file is.
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            wanted = "folder" if flags & os.O_DIRECTORY else "regular file"
            raise UntrustedError(path, f"is no {wanted} (links are not followed)") from None
        if error.errno in (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):
            raise UntrustedError(path, "is no regular file") from None  # a socket
        raise


def _require_file(path: str, facts: os.stat_result) -> None:
    kind = _kind(facts)
    if kind != "file":
        what = {"folder": "a folder", "link": "a link, which is not followed"}.get(
            kind, "a pipe, socket or device"
        )
        raise UntrustedError(path, f"is {what}; it must be a regular file")


def _kind(facts: os.stat_result) -> Kind:
    if stat.S_ISREG(facts.st_mode):
        return "file"
    if stat.S_ISDIR(facts.st_mode):
        return "folder"
    return "link" if stat.S_ISLNK(facts.st_mode) else "other"
