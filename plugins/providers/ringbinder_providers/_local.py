"""Links to folders of this machine, and what they mean now. For the command line only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from attrs import frozen
from ringbinder import FolderSource, GitSource, Link, UserError
from ringbinder.git import FULL_SHA, Access, Git
from ringbinder.specs import shown

from . import _folder
from ._pages import to_open
from ._specs import escaped, invalid

_FORM: Final = re.compile(r"\.{1,2}(?:/|\Z)|/|~(?:/|\Z)|file://", re.IGNORECASE)
_FILE_URL: Final = re.compile(r"file://(?:localhost)?/", re.IGNORECASE)
# By its form alone, an address that ends so is a file to open, in a folder to launch.
_OPENED: Final = frozenset({".ipynb", ".md", ".py"})


def recognize(name: str, link: str) -> Link | None:
    """``.``, ``./x``, ``../x``, ``/x``, ``~/x`` and ``file:///x`` as a link of the provider `name`."""
    if not _FORM.match(link):
        return None
    if link[:7].lower() == "file://":
        if not (start := _FILE_URL.match(link)):
            return None
        link = "/" + unquote(link[start.end() :])
    try:
        path = Path(os.path.abspath(os.path.expanduser(link)))  # noqa: PTH100, PTH111  Path alone keeps ".."
        to_launch = path.parent if path.suffix.lower() in _OPENED else path
        spec = f"{escaped(to_launch.as_uri())}/HEAD"
    except (OSError, ValueError):
        return None
    return Link(name, spec, to_open([path.name] if to_launch != path else []))


@frozen
class Folders:
    """Resolves ``file:`` addresses. `limit` is the most bytes that a folder may hold."""

    git: Git
    limit: int

    async def resolve(self, url: str, ref: str) -> GitSource | FolderSource:
        """A commit if the folder is exactly that (or `ref` names one in it), else the folder as of now.

        Raises `UserError`.
        """
        folder = self._existing(url)
        tree = await _folder.inspect(folder, self.git)
        if tree.bare:
            return await self._commit(folder, ref)
        if ref == "HEAD":
            if tree.commit:
                return GitSource(folder.as_uri(), tree.commit)
            return FolderSource(folder, await _folder.digest(folder, tree, self.limit))
        if FULL_SHA.fullmatch(ref) and not (tree.top and await _folder.has_commit(folder, ref, self.git)):
            return await self._as_it_was(folder, tree, ref)
        if tree.top:
            return await self._commit(folder, ref)
        raise UserError(
            "ref-not-found",
            f'{shown(str(folder))} is not the top folder of a git repository, so it has no "{shown(ref)}": '
            "launch it with HEAD.",
        )

    async def _commit(self, folder: Path, ref: str) -> GitSource:
        url = folder.as_uri()
        return GitSource(url, (await self.git.resolve(url, ref, Access(local=True))).commit)

    async def _as_it_was(self, folder: Path, tree: _folder.WorkTree, digest: str) -> FolderSource:
        if await _folder.digest(folder, tree, self.limit) != digest:
            raise UserError(
                "ref-not-found",
                f"{shown(str(folder))} is no longer as it was at {digest}: launch it with HEAD as of now.",
            )
        return FolderSource(folder, digest)

    async def fetch(self, source: FolderSource, into: Path) -> None:
        tree = await _folder.inspect(source.path, self.git)
        await _folder.copy(source, tree, into, self.limit)

    def _existing(self, url: str) -> Path:
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise invalid(f'"{shown(url)}" is not an address of a folder: give file:///path/of/it.')
        folder = Path(unquote(parts.path))
        try:
            if folder.is_dir():
                return folder
            kind = "is a file: launch its folder" if folder.exists() else "does not exist"
        except (OSError, ValueError) as error:
            kind = f"cannot be read ({getattr(error, 'strerror', None) or 'malformed'})"
        raise UserError("repo-not-found", f"{shown(str(folder))} {kind}.")
