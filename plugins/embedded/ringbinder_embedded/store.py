"""The folders of the embedded mode: images, and the environments of JupyterLab, below one root."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from ringbinder.folder_image import FolderImage, remove_cleared
from ringbinder.untrusted import UntrustedTree

_UNREADABLE: Final = re.compile(r"[^A-Za-z0-9.]+")


@frozen
class Store:
    """All entries under `root`."""

    root: Path

    def entry(self, name: str) -> FolderImage:
        """The place of `name`: a readable part, and a hash that tells apart what reads alike."""
        readable = _UNREADABLE.sub("-", name).strip("-.")[-60:]
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        return FolderImage(self.root / f"{readable}-{digest}")

    def whole(self) -> list[tuple[FolderImage, dict[str, Any]]]:
        """Every entry that exists, with what its marker says."""
        if not self.root.is_dir():
            return []
        entries = [FolderImage(path) for path in sorted(self.root.iterdir()) if path.is_dir()]
        return [(entry, facts) for entry in entries if (facts := entry.read()) is not None]

    async def sweep(self) -> None:
        """Removes what killed processes have left: entries half made or half removed, and locks of none.

        An entry that was made to its end is left for a while, since its maker may be about to publish it; one
        that was published and did not reach the disk is brought there.
        """
        await asyncio.to_thread(remove_cleared, self.root)
        names = {path.name.removesuffix(".lock") for path in self.root.glob("[!.]*")}
        for entry in (FolderImage(self.root / name) for name in sorted(names)):
            with contextlib.suppress(BlockingIOError):  # a living process has it
                async with entry.locked():
                    if not entry.exists() and not entry.is_fresh_draft():
                        await entry.start_over()
            await asyncio.to_thread(entry.settle)


def images(state: Path) -> Store:
    return Store(state / "images")


def remove_tree(folder: Path) -> None:
    """Removes a folder of ours with all that strangers have put into it; one that is gone already is fine. Blocks."""
    UntrustedTree(folder.parent).subtree(folder.name).remove_tree()
