"""Folders that strangers can write: what is in them is reached without following a link, and read within bounds.

A repository's content, an image's environment and a notebook's files may be anything at any moment: a link to another
file of this machine, a pipe that never ends, a device. All code of Ringbinder that reads, writes, copies or lists there
does it through an `UntrustedTree`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal

from attrs import field, frozen

from ..errors import RingbinderError
from .private import change_mode

EntryKind = Literal["file", "folder", "link", "other"]

MAX_DEPTH: Final = 200
"""Folders below one another that are looked through."""
MAX_ENTRIES: Final = 1_000_000
"""Files and folders that are looked through at a time."""
_CHUNK: Final = 1 << 20
_PASSES: Final = 10
"""Looks for what was added to a folder while it was emptied."""
_MAX_HOPS: Final = 40  # as Linux
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
    """Absolute, or relative to where the program runs."""
    _below: tuple[str, ...] = ()
    """Components below `root`, each of which strangers can replace."""

    @property
    def place(self) -> Path:
        """Its path: for messages, and for arguments of commands that run in a sandbox; never to be opened."""
        return self.root.joinpath(*self._below)

    def subtree(self, path: str) -> UntrustedTree:
        """Return what is at `path` as a tree of its own; whether it is a folder shows when it is used."""
        return UntrustedTree(self.root, (*self._below, *_components(path)))

    def kind(self, path: str) -> EntryKind | None:
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
            try:
                descriptor = _opened(path, name, _FILE_FLAGS, parent)
            except PermissionError:
                raise UntrustedError(path, "has permissions that let no one of this account read it") from None
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

    def resolve(self, path: str) -> str:
        """Return the path without links that `path` leads to; all of them must stay in the tree, 40 at most.

        For links that belong to the content, as those of a repository do; what is returned may not be there. What
        is done with it follows no link, so that one which is put there meanwhile is refused.
        """
        if path.startswith("/"):
            raise UntrustedError(path, "leads out of the folder")
        waiting = path.split("/")[::-1]
        resolved: list[str] = []
        hops = 0
        while waiting:
            if (component := waiting.pop()) in ("", "."):
                continue
            if component == "..":
                if not resolved:
                    raise UntrustedError(path, "leads out of the folder")
                resolved.pop()
                continue
            here = "/".join([*resolved, component])
            if len(resolved) > MAX_DEPTH:
                raise UntrustedError(path, f"lies more than {MAX_DEPTH} folders deep")
            if self.kind(here) != "link":
                resolved.append(component)
                continue
            target = self.link(here)
            if (hops := hops + 1) > _MAX_HOPS:
                raise UntrustedError(path, f"goes over more than {_MAX_HOPS} links")
            if target.startswith("/"):
                raise UntrustedError(path, "leads out of the folder")
            waiting += target.split("/")[::-1]
        return "/".join(resolved) or "."

    def names(self, path: str = ".", limit: int = MAX_ENTRIES) -> list[str]:
        """Return the names in the folder at `path`, sorted; there may be `limit` at most."""
        with self._folder(path) as folder, os.scandir(folder) as entries:
            names: list[str] = []
            for entry in entries:
                if len(names) == limit:
                    raise UntrustedError(path, f"has more than {limit} entries")
                names.append(entry.name)
        return sorted(names)

    def walk(
        self,
        path: str = ".",
        limit: int = MAX_ENTRIES,
        *,
        skip: Callable[[str], bool] | None = None,
        unlock: bool = False,
    ) -> Iterator[tuple[str, os.stat_result]]:
        """Yield all that is below `path`, a folder before what is in it; links are yielded, and not followed.

        What vanishes meanwhile is left out, what `skip` is true for with all below it, and what is in folders that
        cannot be read; with `unlock` those are made readable. There may be `limit` entries at most, `MAX_DEPTH`
        folders deep.
        """
        waiting = [(path, 0)]
        count = 0
        while waiting:
            folder, depth = waiting.pop()
            below: list[tuple[str, int]] = []
            entries = self._entries(folder, limit - count, top=depth == 0, unlock=unlock)
            if entries is None:
                raise UntrustedError(path, f"has more than {limit} entries")
            count += len(entries)
            for name, facts in entries:
                inner = name if folder == "." else f"{folder}/{name}"
                if skip is not None and skip(inner):
                    continue
                yield inner, facts
                if stat.S_ISDIR(facts.st_mode):
                    if depth == MAX_DEPTH:
                        raise UntrustedError(inner, f"lies more than {MAX_DEPTH} folders deep")
                    below.append((inner, depth + 1))
            waiting += reversed(below)

    def copy_file(self, path: str, into: Path, limit: int) -> int:
        """Copy the regular file at `path` to `into`, a new file in a folder of ours; return its size in bytes.

        Keeps times and permissions, and no more: not the bits that lend the owner's rights to who runs it. What is
        empty in it takes no room in the copy either: its size may be more than the disk.
        """
        with self.open(path) as source:
            facts = os.fstat(source.fileno())
            size = 0
            with os.fdopen(os.open(into, _NEW_FLAGS, 0o600), "wb") as target:
                while chunk := source.read(min(_CHUNK, limit - size + 1)):
                    if (size := size + len(chunk)) > limit:
                        raise UntrustedError(path, f"is larger than {limit} bytes")
                    if chunk.strip(b"\0"):
                        target.write(chunk)
                    else:
                        target.seek(size)
                target.truncate(size)
                os.fchmod(target.fileno(), facts.st_mode & 0o777)
                os.utime(target.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return size

    def copy_tree(self, path: str, into: Path, limit: int, entries: int = MAX_ENTRIES) -> int:
        """Copy the regular files below `path` to `into`, a new folder in one of ours; return their bytes.

        Leaves out everything that is neither file nor folder, links among them. `limit` is in bytes, for all together.
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
        """Put a regular file with `content` in the place of the file or link at `path`."""
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

    def make_link(self, path: str, target: str) -> None:
        """Make a link at `path`, where nothing is, that says `target`; which is not looked at."""
        with self._parent(path) as (parent, name):
            os.symlink(target, name, dir_fd=parent)

    def remove(self, path: str) -> None:
        """Remove the file or link at `path`; nothing there is fine."""
        with contextlib.suppress(FileNotFoundError), self._parent(path) as (parent, name):
            os.unlink(name, dir_fd=parent)

    def remove_tree(self, path: str = ".") -> None:
        """Remove what is at `path` with all below it, regardless of its depth and modes; nothing there is fine.

        Raises OSError if that is refused, or if it is written to faster than it is removed.
        """
        with contextlib.suppress(FileNotFoundError):
            if not self._below and not _components(path):
                _remove(None, self.root)
                return
            with self._parent(path) as (parent, name):
                _remove(parent, name)

    def unlock(self, path: str = ".") -> None:
        """Let the owner into the folder at `path`, should its permissions keep him out."""
        if not self._below and not _components(path):
            _unlock(None, self.root)
            return
        with self._parent(path) as (parent, name):
            _unlock(parent, name)

    def make_readable(self, path: str = ".", limit: int = MAX_ENTRIES) -> None:
        """Let the owner read all regular files below `path`, and into all folders. Bounded as `walk` is.

        What belongs to another account stays unchanged.
        """
        for inner, facts in self.walk(path, limit, unlock=True):
            if _readable(facts.st_mode) != stat.S_IMODE(facts.st_mode):
                with contextlib.suppress(OSError, UntrustedError), self._parent(inner) as (parent, name):
                    change_mode(name, _readable, parent)

    def make_read_only(self, path: str = ".", limit: int = MAX_ENTRIES) -> None:
        """Take the permission to write from the folder at `path` and all below it. Bounded as `walk` is.

        A file with several names keeps it: elsewhere it may be one that is written.
        """
        for inner, facts in ((path, self.stat(path)), *self.walk(path, limit)):
            if stat.S_ISDIR(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1):
                with contextlib.suppress(OSError, UntrustedError), self._parent(inner) as (parent, name):
                    change_mode(name, _unwritable, parent)

    def size(self, path: str = ".", limit: int = MAX_ENTRIES) -> int:
        """Return the bytes on disk of all below `path`; a file with several names there counts once.

        Lets the owner into folders that keep even him out, or anything could be hidden there. Bounded as `walk` is.
        """
        total = 0
        seen: set[tuple[int, int]] = set()
        for _, facts in self.walk(path, limit, unlock=True):
            if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
                if (facts.st_dev, facts.st_ino) in seen:
                    continue
                seen.add((facts.st_dev, facts.st_ino))
            total += facts.st_blocks * 512
        return total

    @contextlib.contextmanager
    def handle(self, path: str = ".") -> Iterator[int]:
        """Hold a descriptor of the folder at `path`, for calls that take ``dir_fd``."""
        with self._folder(path) as folder:
            yield folder

    def _entries(self, folder: str, limit: int, *, top: bool, unlock: bool) -> list[tuple[str, os.stat_result]] | None:
        """What is in `folder`, sorted; None, before all of it is in memory, if that is more than `limit`."""
        entries: list[tuple[str, os.stat_result]] = []
        try:
            if unlock:
                self.unlock(folder)
            with self._folder(folder) as descriptor, os.scandir(descriptor) as found:
                for entry in found:
                    if len(entries) == limit:
                        return None
                    with contextlib.suppress(FileNotFoundError):
                        entries.append((entry.name, entry.stat(follow_symlinks=False)))
        except (FileNotFoundError, NotADirectoryError, PermissionError, UntrustedError):
            if top:
                raise
            # It was replaced since it was listed, or keeps its owner out.
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
        *folders, name = [*self._below, *_components(path)] or ["."]
        with UntrustedTree(self.root)._folder("/".join(folders)) as folder:
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
        what = {"folder": "a folder", "link": "a link, which is not followed"}.get(kind, "a pipe, socket or device")
        raise UntrustedError(path, f"is {what}; it must be a regular file")


def _kind(facts: os.stat_result) -> EntryKind:
    if stat.S_ISREG(facts.st_mode):
        return "file"
    if stat.S_ISDIR(facts.st_mode):
        return "folder"
    return "link" if stat.S_ISLNK(facts.st_mode) else "other"


def _unlock(parent: int | None, name: str | Path) -> None:
    """Let the owner into a folder, regardless of its permissions; of a link or file it is an OSError."""

    def change(mode: int) -> int:
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        return stat.S_IMODE(mode) | stat.S_IRWXU

    change_mode(name, change, parent)


def _readable(mode: int) -> int:
    return stat.S_IMODE(mode) | (stat.S_IRUSR if stat.S_ISREG(mode) else 0)


def _unwritable(mode: int) -> int:
    return stat.S_IMODE(mode) & ~0o222


def _remove(parent: int | None, name: str | Path) -> None:
    """Remove a file, link or folder. Folders in it are first moved to its top: no depth is too deep then."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    _unlock(parent, name)
    top = _opened(os.fspath(name), name, _FOLDER_FLAGS, parent)
    try:
        moved = itertools.count()
        prefix = f".{secrets.token_hex(8)}-"
        for left in reversed(range(_PASSES)):
            with os.scandir(top) as entries:
                inner = [entry.name for entry in entries if not _unlinked(top, entry)]
            while inner:
                folder = inner.pop()
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, UntrustedError):  # replaced
                    inner += _emptied(top, folder, (f"{prefix}{number}" for number in moved))
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                if not left or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                return
    finally:
        os.close(top)


def _emptied(top: int, name: str, places: Iterator[str]) -> list[str]:
    """Remove the folder `name` of the folder `top`, once its own folders are in `top`, under names from `places`."""
    moved: list[str] = []
    _unlock(top, name)
    folder = _opened(name, name, _FOLDER_FLAGS, top)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _unlinked(folder, entry):
                    _unlock(folder, entry.name)  # to be moved, since its ".." changes
                    moved.append(next(places))
                    os.rename(entry.name, moved[-1], src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    with contextlib.suppress(OSError):  # the next pass looks again
        os.rmdir(name, dir_fd=top)
    return moved


def _unlinked(folder: int, entry: os.DirEntry[str]) -> bool:
    """Remove `entry` of `folder` unless it is a folder."""
    if entry.is_dir(follow_symlinks=False):
        return False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(entry.name, dir_fd=folder)
    return True
