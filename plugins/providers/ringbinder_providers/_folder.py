"""Folders of this machine as they are now: what belongs to them, its digest, and a copy of it."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from attrs import frozen
from ringbinder import process
from ringbinder.errors import UserError
from ringbinder.model import FolderSource

from ._address import shown
from ._threads import Stopped, in_thread

SKIPPED: Final = frozenset({".git", ".venv", "__pycache__", "node_modules", ".ipynb_checkpoints"})
"""Not part of a folder that git does not look after."""

_SECONDS: Final = 60.0
_OUTPUT: Final = 200_000_000
_DIGEST_CHARACTERS: Final = 40

T = TypeVar("T")


@frozen
class _Entry:
    """`path` is relative; `kind` is f(ile), x (executable file), l(ink) or d (empty folder)."""

    path: str
    kind: str


@frozen
class WorkTree:
    """What git says of a folder. `commit` is set if the folder is exactly what that commit holds."""

    bare: bool = False
    top: bool = False
    """It is the top folder of the repository."""
    commit: str | None = None
    paths: Sequence[str] | None = None
    """What belongs to the folder; None if git does not look after it."""


async def inspect(folder: Path) -> WorkTree:
    """Asks the person's own git, under their own configuration, what `folder` is."""
    bare = await _git(folder, "rev-parse", "--is-bare-repository")
    if bare is None:
        return WorkTree()
    if bare.strip() == "true":
        return WorkTree(bare=True)
    listed = await _git(folder, "ls-files", "--cached", "--others", "--exclude-standard", "--", ".")
    paths = sorted({_unquoted(line) for line in (listed or "").splitlines()})
    top = await _git(folder, "rev-parse", "--show-cdup") == "\n"
    return WorkTree(top=top, commit=await _whole_commit(folder) if top else None, paths=paths or None)


async def _whole_commit(folder: Path) -> str | None:
    # Files that a filter keeps elsewhere (Git LFS) and submodules are here, but not in the commit.
    elsewhere = await _git(folder, "ls-files", "--", ".", ":(exclude,attr:!filter)")
    if elsewhere != "" or (folder / ".gitmodules").exists():
        return None
    if await _git(folder, "status", "--porcelain") != "":
        return None
    commit = await _git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    return commit.strip() if commit else None


async def has_commit(folder: Path, sha: str) -> bool:
    return await _git(folder, "cat-file", "-e", f"{sha}^{{commit}}") is not None


async def _git(folder: Path, *arguments: str) -> str | None:
    """The output, or None if git says no or is not installed."""
    env = process.minimal_env() | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    env |= {name: os.environ[name] for name in ("HOME", "XDG_CONFIG_HOME") if name in os.environ}
    argv = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true", *arguments]
    try:
        done = await process.run(argv, cwd=folder, env=env, timeout=_SECONDS, output_limit=_OUTPUT)
    except (FileNotFoundError, PermissionError):
        return None
    except TimeoutError:
        raise UserError(
            "folder-too-large", f"git needs too long to look through {shown(str(folder))}."
        ) from None
    return done.output if done.returncode == 0 else None


def _unquoted(line: str) -> str:
    """A path as git prints it: with odd bytes as in a C string, so that none is lost."""
    return os.fsdecode(bytes(ast.literal_eval("b" + line))) if line.startswith('"') else line


async def digest(folder: Path, tree: WorkTree, limit: int) -> str:
    """40 hexadecimal digits that cover names, executable bits, links and contents.

    Raises `UserError` if the folder cannot be read or holds more than `limit` bytes.
    """
    return await _read(lambda stop: _digest(folder, _entries(folder, tree, limit, stop), stop))


async def copy(source: FolderSource, tree: WorkTree, into: Path, limit: int) -> None:
    """Copies what belongs to the folder, links as links. Raises `UserError`, also if it has changed."""

    def work(stop: threading.Event) -> str:
        entries = _entries(source.path, tree, limit, stop)
        _copy(source.path, entries, into, stop)
        return _digest(into, entries, stop)

    if await _read(work) != source.digest:
        raise UserError(
            "folder-changed", f"{shown(str(source.path))} has changed meanwhile. Launch it again."
        )


async def _read(work: Callable[[threading.Event], T]) -> T:
    try:
        return await in_thread(work)
    except OSError as error:
        name = shown(os.fsdecode(error.filename)) if error.filename else "a file of the folder"
        raise UserError("folder-unreadable", f"{name} cannot be read or copied: {error.strerror}.") from None


def _entries(folder: Path, tree: WorkTree, limit: int, stop: threading.Event) -> list[_Entry]:
    found: list[_Entry] = []
    total = 0
    for path in _walk(folder, folder) if tree.paths is None else _listed(folder, tree.paths):
        if stop.is_set():
            raise Stopped
        info = path.lstat()
        kind = _kind(info.st_mode)
        if kind in {"f", "x"}:
            total += info.st_size
        if total > limit:
            raise UserError(
                "folder-too-large",
                f"{shown(str(folder))} holds more than {limit / 2**30:.3g} GiB. Launch a smaller folder, or "
                "raise GitRepoProvider.folder_limit.",
            )
        if kind:
            found.append(_Entry(path.relative_to(folder).as_posix(), kind))
    return sorted(found, key=lambda entry: entry.path)


def _kind(mode: int) -> str:
    """Of an entry; empty for what cannot be copied (sockets, devices)."""
    if stat.S_ISREG(mode):
        return "x" if mode & stat.S_IXUSR else "f"
    return "l" if stat.S_ISLNK(mode) else "d" if stat.S_ISDIR(mode) else ""


def _walk(root: Path, below: Path) -> Iterator[Path]:
    """Everything but folders that are not empty; never through a link."""
    with os.scandir(below) as listing:
        children = [child for child in listing if child.name not in SKIPPED]
    if not children and below != root:
        yield below
    for child in children:
        if child.is_dir(follow_symlinks=False):
            yield from _walk(root, below / child.name)
        else:
            yield below / child.name


def _listed(root: Path, paths: Sequence[str]) -> Iterator[Path]:
    """`paths` that are there. A repository inside the repository is one path for git; it is walked."""
    for path in (root / given for given in paths):
        if path.is_dir() and not path.is_symlink():
            yield from _walk(root, path)
        elif os.path.lexists(path):
            yield path


def _digest(folder: Path, entries: Sequence[_Entry], stop: threading.Event) -> str:
    whole = hashlib.sha256()
    for entry in entries:
        if stop.is_set():
            raise Stopped
        path = folder / entry.path
        content = hashlib.sha256()
        if entry.kind == "l":
            content.update(os.fsencode(path.readlink()))
        elif entry.kind != "d":
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256")
        whole.update(entry.kind.encode() + os.fsencode(entry.path) + b"\0" + content.digest())
    return whole.hexdigest()[:_DIGEST_CHARACTERS]


def _copy(folder: Path, entries: Sequence[_Entry], into: Path, stop: threading.Event) -> None:
    for entry in entries:
        if stop.is_set():
            raise Stopped
        old, new = folder / entry.path, into / entry.path
        (new if entry.kind == "d" else new.parent).mkdir(parents=True, exist_ok=True)
        if entry.kind == "l":
            new.symlink_to(old.readlink())
        elif entry.kind != "d":
            shutil.copyfile(old, new, follow_symlinks=False)
            new.chmod(0o755 if entry.kind == "x" else 0o644)
