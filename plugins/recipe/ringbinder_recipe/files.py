"""The files of a repository that say what it asks for. Each may be reached over links that stay in the repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ringbinder import UserError
from ringbinder.untrusted import RECIPE_BYTES, EntryKind, MalformedError, UntrustedError, UntrustedTree, excerpt

LFS_NOTICE: Final = (
    "Some files of this repository are kept with Git LFS, which is not asked: in their place are small text files "
    "that name them. `git lfs pull` in postBuild brings them, where git-lfs is installed.\n"
)
"""For the log, where `uses_lfs`."""

_ATTRIBUTES_BYTES: Final = 1024**2


def uses_lfs(tree: UntrustedTree) -> bool:
    """Return whether files of the repository are kept with Git LFS."""
    try:
        return b"filter=lfs" in tree.read(".gitattributes", _ATTRIBUTES_BYTES)
    except (OSError, UntrustedError):
        return False


def kind(tree: UntrustedTree, file: str) -> EntryKind | None:
    """Return what `file` is, links in the repository followed; None if nothing is there.

    Raises `UserError` (``bad-file``) for a link that leaves the repository.
    """
    try:
        return tree.kind(tree.resolve(file))
    except (UntrustedError, OSError) as error:
        raise unreadable(file, error) from None


def content(tree: UntrustedTree, file: str, limit: int = RECIPE_BYTES) -> bytes:
    """Return the content of `file`, which is there and may have `limit` bytes. Raises `UserError` (``bad-file``)."""
    try:
        return tree.read(tree.resolve(file), limit)
    except (UntrustedError, OSError) as error:
        raise unreadable(file, error) from None


def document(
    tree: UntrustedTree, file: str, parse: Callable[..., Any], limit: int = RECIPE_BYTES, **bounds: int
) -> Any:
    """Return what `parse` makes of `file`, which is as for `content`. Raises `UserError` (``bad-file``)."""
    try:
        return parse(content(tree, file, limit), **bounds)
    except MalformedError as error:
        raise UserError("bad-file", f"{file} {error}.") from None


def unreadable(file: str, error: UntrustedError | OSError) -> UserError:
    """Return the error for a `file` that is not what it must be."""
    reason = error.reason if isinstance(error, UntrustedError) else f"cannot be read: {error.strerror}"
    return UserError(
        "bad-file",
        f"{excerpt(file)} {reason}. What describes an environment must be a regular file of the repository; "
        "links to it may not leave the repository.",
    )
