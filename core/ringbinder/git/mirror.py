"""Git repositories in folders that strangers can write, as repositories of our own.

Git runs what a repository's configuration names: filters, hooks, monitors, helpers that fetch missing objects. So it
never runs on such a repository. What it needs (objects, refs, index) is taken without following a link into a new
repository, whose configuration is ours; objects on the same disk are hard links. Nothing else comes along: no
configuration, hooks, attributes, alternates or promisors.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import frozen

from ..config.specs import shown
from ..errors import UserError
from ..runtime.threads import Stop
from ..runtime.untrusted import UntrustedError, UntrustedTree

_COPIED: Final = 10 * 2**30
"""Most bytes that are copied of a repository on another disk."""
_POINTER: Final = 4096
_CONFIG_SIZE: Final = 1_000_000
_LIST_SIZE: Final = 100_000_000
_REFS: Final = 200_000
_PREFIX: Final = b"gitdir: "
_HEAD: Final = re.compile(rb"(?:ref: refs/[!-~\x80-\xff]+|[0-9a-f]{40}(?:[0-9a-f]{24})?)\n?")
_FANOUT: Final = re.compile(r"[0-9a-f]{2}")
_OBJECT: Final = re.compile(r"[0-9a-f]{38}(?:[0-9a-f]{24})?")
_PACK: Final = re.compile(r"pack-[0-9a-zA-Z-]+\.(?:pack|idx)")
_SHARED_INDEX: Final = re.compile(r"sharedindex\.[0-9a-f]+")
_SHA256: Final = re.compile(rb"^[ \t]*objectformat[ \t]*=[ \t]*sha256[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
_WORK_TREE: Final = re.compile(rb"^[ \t]*worktree[ \t]*=[ \t]*([^\s\"#;][^\n\"#;]*)$", re.IGNORECASE | re.MULTILINE)


@frozen
class LocalRepository:
    """`git` has HEAD and index, `common` objects and refs; `top` is the work tree's top, None without one."""

    git: UntrustedTree
    """HEAD and index."""
    common: UntrustedTree
    """Objects and refs: of a linked work tree, those of its repository."""
    top: Path | None
    """The top of the work tree; None without one."""


def find(folder: Path) -> LocalRepository | None:
    """Return the repository that looks after `folder`, a path without links: it is there, or in a folder above it."""
    if found := at(folder):
        return found
    return next((found for above in folder.parents if (found := _with_work_tree(above))), None)


def at(folder: Path) -> LocalRepository | None:
    """Return the repository whose top is `folder`, or that is `folder` itself; a path without links."""
    if found := _with_work_tree(folder):
        return found
    tree = UntrustedTree(folder)
    return LocalRepository(tree, tree, None) if _is_repository(tree) else None


def _with_work_tree(top: Path) -> LocalRepository | None:
    tree = UntrustedTree(top)
    with contextlib.suppress(UntrustedError, OSError, ValueError):
        if tree.is_folder(".git"):
            git = tree.subtree(".git")
            return LocalRepository(git, git, top) if _is_repository(git) else None
        if tree.is_file(".git"):
            return _pointed(tree, top)
    return None


def _pointed(tree: UntrustedTree, top: Path) -> LocalRepository | None:
    """The repository that a ``.git`` file names, if that names `top` as a work tree of its own.

    Source: gitrepository-layout(5), `gitdir` of a linked work tree; `core.worktree` of a submodule.
    """
    text = tree.read(".git", _POINTER)
    if not text.startswith(_PREFIX):
        return None
    folder = Path(top, os.fsdecode(text.removeprefix(_PREFIX).rstrip(b"\n"))).resolve()
    if folder.is_relative_to(top):
        return None
    git = UntrustedTree(folder)
    if git.is_file("gitdir"):
        named = Path(folder, os.fsdecode(git.read("gitdir", _POINTER).rstrip(b"\n"))).parent
        common = UntrustedTree(folder.parent.parent) if folder.parent.name == "worktrees" else git
    else:
        line = _WORK_TREE.search(git.read("config", _CONFIG_SIZE))
        named, common = Path(folder, os.fsdecode(line[1].rstrip()) if line else "."), git
    return LocalRepository(git, common, top) if named.resolve() == top and _is_repository(common) else None


def _is_repository(tree: UntrustedTree) -> bool:
    return tree.is_file("HEAD") and tree.is_folder("objects") and tree.is_folder("refs")


def make(found: LocalRepository, into: Path, stop: Stop) -> None:
    """Make the repository `into` with what `found` holds. Blocks.

    Without objects if they cannot all be had: git says then that they are missing. Raises UserError.
    """
    try:
        _make_lists(found, into, stop)
    except (UntrustedError, OSError) as error:
        raise UserError(
            "folder-unreadable", f"The repository in {shown(str(found.git.place))} cannot be read: {error}."
        ) from None
    with contextlib.suppress(UntrustedError, OSError):
        _make_objects(found.common, into, stop)


def _make_lists(found: LocalRepository, into: Path, stop: Stop) -> None:
    for folder in ("objects/pack", "objects/info", "refs/heads", "info"):
        (into / folder).mkdir(parents=True)
    (into / "HEAD").write_bytes(_ref(found.git, "HEAD") or b"ref: refs/heads/none\n")
    (into / "config").write_text(_own_config(found.common))
    indexes = [name for name in found.git.names() if name == "index" or _SHARED_INDEX.fullmatch(name)]
    lists = [(found.common, name) for name in ("packed-refs", "shallow", "info/exclude")]
    for tree, name in [*((found.git, name) for name in indexes), *lists]:
        with contextlib.suppress(FileNotFoundError):
            tree.copy_file(name, into / name, _LIST_SIZE)
    for name, facts in found.common.walk("refs", _REFS):
        stop.check()
        if stat.S_ISDIR(facts.st_mode):
            (into / name).mkdir(exist_ok=True)
        elif stat.S_ISREG(facts.st_mode) and (content := _ref(found.common, name)):
            (into / name).write_bytes(content)


def _ref(tree: UntrustedTree, name: str) -> bytes | None:
    """The content of a ref; None if it is none."""
    content = tree.read(name, _POINTER)
    return content if _HEAD.fullmatch(content) else None


def _own_config(common: UntrustedTree) -> str:
    """Of theirs, the kind of object names alone: without it their index could not be read."""
    sha256 = False
    with contextlib.suppress(UntrustedError, OSError):
        sha256 = _SHA256.search(common.read("config", _CONFIG_SIZE)) is not None
    form = "\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = sha256\n" if sha256 else ""
    return f"[core]\n{form}[uploadpack]\n\tallowAnySHA1InWant = true\n"


def _make_objects(common: UntrustedTree, into: Path, stop: Stop) -> None:
    left = _COPIED
    for folder in common.names("objects"):
        wanted: Callable[[str], object] = _PACK.fullmatch if folder == "pack" else _OBJECT.fullmatch
        if folder != "pack" and not _FANOUT.fullmatch(folder):
            continue
        (into / "objects" / folder).mkdir(exist_ok=True)
        # The index of a pack last: git looks for that.
        for name in sorted(filter(wanted, common.names(f"objects/{folder}")), reverse=True):
            stop.check()
            left -= _take(common, f"objects/{folder}", name, into / "objects" / folder / name, left)


def _take(common: UntrustedTree, folder: str, name: str, target: Path, limit: int) -> int:
    """Makes `target` a second name of a regular file, else its copy; the bytes that this took."""
    with contextlib.suppress(OSError), common.handle(folder) as handle:
        os.link(name, target, src_dir_fd=handle, follow_symlinks=False)
        # Judged where no one can exchange it any more.
        if stat.S_ISREG(target.lstat().st_mode):
            return 0
        target.unlink()
        return 0
    return common.copy_file(f"{folder}/{name}", target, limit)
