"""Folders of this machine as they are now: what belongs to them, its digest, and a copy of it.

Strangers may have written them, as those that a notebook has left: see `UntrustedTree` and `Git.local`.
"""

from __future__ import annotations

import ast
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from attrs import frozen
from ringbinder import FolderSource, UserError
from ringbinder.concurrency import Stop, in_thread
from ringbinder.git import Ask, Git, find_repository
from ringbinder.specs import shown
from ringbinder.untrusted import MAX_ENTRIES, UntrustedError, UntrustedTree

SKIPPED: Final = frozenset({".git", ".venv", "__pycache__", "node_modules", ".ipynb_checkpoints"})
"""Not part of a folder that git does not look after."""

_LINK: Final = "160000 "
_CHUNK: Final = 2**20
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


async def inspect(folder: Path, git: Git) -> WorkTree:
    """Return what `folder` is, by a copy of its repository without its configuration. Raises UserError."""
    folder, found = await in_thread(lambda stop: (folder.resolve(), find_repository(folder.resolve())))
    if found is None or not git.is_installed():
        return WorkTree()
    if found.top is None:
        return WorkTree(bare=True)
    async with git.local(found.top, folder) as ask:
        listed = await ask("ls-files", "--cached", "--others", "--exclude-standard", "--", ".")
        if listed is None:
            raise UserError(
                "folder-unreadable", f"git cannot read the index of the repository in {shown(str(found.top))}."
            )
        paths = await _read(lambda stop: sorted({_unquoted(line) for line in listed.splitlines()}))
        top = folder == found.top
        return WorkTree(top=top, commit=await _whole_commit(folder, ask) if top else None, paths=paths or None)


async def _whole_commit(folder: Path, ask: Ask) -> str | None:
    # Files that a filter keeps elsewhere (Git LFS) and submodules are here, but not in the commit.
    filtered = await ask("ls-files", "--", ".", ":(exclude,attr:!filter)")
    staged = await ask("ls-files", "--stage")
    if filtered != "" or staged is None or UntrustedTree(folder).kind(".gitmodules"):
        return None
    # Git would look into submodules, by their own configuration.
    if staged.startswith(_LINK) or f"\n{_LINK}" in staged or await ask("status", "--porcelain") != "":
        return None
    commit = await ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    return commit.strip() if commit and await _is_complete("HEAD", ask) else None


async def _is_complete(commit: str, ask: Ask) -> bool:
    """Whether the repository itself has all that `commit` holds."""
    return await ask("rev-list", "--objects", "--no-walk", "--quiet", commit) is not None


async def has_commit(folder: Path, sha: str, git: Git) -> bool:
    async with git.local(folder, folder) as ask:
        return await _is_complete(f"{sha}^{{commit}}", ask)


def _unquoted(line: str) -> str:
    """A path as git prints it: with odd bytes as in a C string, so that none is lost."""
    return os.fsdecode(bytes(ast.literal_eval("b" + line))) if line.startswith('"') else line


async def digest(folder: Path, tree: WorkTree, limit: int) -> str:
    """40 hexadecimal digits that cover names, executable bits, links and contents.

    Raises `UserError` if the folder cannot be read or holds more than `limit` bytes.
    """

    def work(stop: Stop) -> str:
        source = UntrustedTree(folder.resolve())
        return _digest(source, _entries(source, tree, limit, stop), limit, stop)

    return await _read(work)


async def copy(source: FolderSource, tree: WorkTree, into: Path, limit: int) -> None:
    """Copies what belongs to the folder, links as links. Raises `UserError`, also if it has changed."""

    def work(stop: Stop) -> str:
        folder = UntrustedTree(source.path.resolve())
        entries = _entries(folder, tree, limit, stop)
        _copy(folder, entries, into, limit, stop)
        return _digest(UntrustedTree(into), entries, limit, stop)

    if await _read(work) != source.digest:
        raise UserError("folder-changed", f"{shown(str(source.path))} has changed meanwhile. Launch it again.")


async def _read(work: Callable[[Stop], T]) -> T:
    try:
        return await in_thread(work)
    except UntrustedError as error:
        raise UserError("folder-unreadable", f"{shown(str(error))}.") from None
    except OSError as error:
        name = shown(os.fsdecode(error.filename)) if error.filename else "a file of the folder"
        raise UserError("folder-unreadable", f"{name} cannot be read or copied: {error.strerror}.") from None


def _entries(folder: UntrustedTree, tree: WorkTree, limit: int, stop: Stop) -> list[_Entry]:
    found: dict[str, _Entry] = {}
    total = 0
    for path, facts in _walk(folder, ".") if tree.paths is None else _listed(folder, tree.paths):
        stop.check()
        kind = _kind(facts.st_mode)
        if kind in {"f", "x"}:
            total += facts.st_size
        if total > limit or len(found) > MAX_ENTRIES:
            raise UserError(
                "folder-too-large",
                f"{shown(str(folder.place))} holds more than {limit / 2**30:.3g} GiB or {MAX_ENTRIES} files. Launch "
                "a smaller folder, or raise GitRepoProvider.folder_limit.",
            )
        if kind:
            found[path] = _Entry(path, kind)
    return sorted(found.values(), key=lambda entry: entry.path)


def _kind(mode: int) -> str:
    """Of an entry; empty for what cannot be copied (sockets, devices)."""
    if stat.S_ISREG(mode):
        return "x" if mode & stat.S_IXUSR else "f"
    return "l" if stat.S_ISLNK(mode) else "d" if stat.S_ISDIR(mode) else ""


def _walk(folder: UntrustedTree, top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Everything but folders that are not empty; never through a link."""
    folders = {} if top == "." else {top: folder.stat(top)}
    parents: set[str] = set()
    for path, facts in folder.walk(top, skip=lambda path: path.rpartition("/")[2] in SKIPPED):
        parents.add(os.path.dirname(path))  # noqa: PTH120 - not a path that is opened
        if stat.S_ISDIR(facts.st_mode):
            folders[path] = facts
        else:
            yield path, facts
    yield from ((path, facts) for path, facts in folders.items() if path not in parents)


def _listed(folder: UntrustedTree, paths: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """`paths` that are there. A repository inside the repository is one path for git; it is walked."""
    for path in (given.rstrip("/") for given in paths):
        if ".git" in path.split("/"):
            continue
        try:
            facts = folder.stat(path)
        except (FileNotFoundError, UntrustedError):
            continue  # removed, or behind a link, or named by a forged index
        if stat.S_ISDIR(facts.st_mode):
            yield from _walk(folder, path)
        else:
            yield path, facts


def _digest(folder: UntrustedTree, entries: Sequence[_Entry], limit: int, stop: Stop) -> str:
    whole = hashlib.sha256()
    for entry in entries:
        content = hashlib.sha256()
        if entry.kind == "l":
            content.update(os.fsencode(folder.link(entry.path)))
        elif entry.kind != "d":
            with folder.open(entry.path) as file:
                while chunk := file.read(_CHUNK):
                    if (limit := limit - len(chunk)) < 0:
                        raise UntrustedError(entry.path, "grows while it is read")
                    content.update(chunk)
                    stop.check()
        stop.check()
        whole.update(entry.kind.encode() + os.fsencode(entry.path) + b"\0" + content.digest())
    return whole.hexdigest()[:_DIGEST_CHARACTERS]


def _copy(folder: UntrustedTree, entries: Sequence[_Entry], into: Path, limit: int, stop: Stop) -> None:
    # Links last, so that nothing is written through them.
    for entry in sorted(entries, key=lambda entry: entry.kind == "l"):
        stop.check()
        new = into / entry.path
        (new if entry.kind == "d" else new.parent).mkdir(parents=True, exist_ok=True)
        if entry.kind == "l":
            new.symlink_to(folder.link(entry.path))
        elif entry.kind != "d":
            limit -= folder.copy_file(entry.path, new, limit)
            new.chmod(0o755 if entry.kind == "x" else 0o644)
