"""The folder of one session: its copy of the repository, and what is kept of it at its end.

Everything that the notebook can write is in `Session.box`; the rest of the folder is Ringbinder's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from ringbinder import UserError, process
from ringbinder.files import make_private, read_state, sync_state, write_state
from ringbinder.folder_image import FolderImage
from ringbinder.untrusted import UntrustedError, UntrustedTree

from .overlay import Overlay
from .store import Store

_COPY_SECONDS: Final = 600.0
_EXTENSION: Final = Path(__file__).with_name("ringbinder-idle")
_RECORD: Final = "session.json"
# What programs leave behind without being asked.
_NOISE: Final = frozenset(
    {
        ".ipynb_checkpoints", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".virtual_documents",
        ".jupyter_ystore.db", ".jupyter-server-log.txt", ".DS_Store",
    }
)  # fmt: skip
_GIT_INDEX: Final = ".git/index"  # rewritten by `git status`
_YEAR_10000: Final = 253402300800
_CHUNK: Final = 1 << 20
_MAX_FILES: Final = 500_000
"""Files and folders of a session that are compared with its image's; of more, all is kept."""
_COMPARED_BYTES: Final = 4 * 1024**3
"""Bytes of files that are compared at a time, whose sizes are equal and times are not; the others count as changed."""
_LISTED_NAMES: Final = 20_000
"""Changed files that the record of a session names, each with 4 kB at most."""
_UNCOMPARED: Final = "."
"""Stands for all files, in place of their names."""


@frozen
class Session:
    """`folder` and everything below it belong to one server."""

    id: str
    folder: Path

    @property
    def box(self) -> UntrustedTree:
        """All that the notebook can write."""
        return UntrustedTree(self.folder / "box")

    @property
    def work(self) -> UntrustedTree:
        return self.box.subtree("work")

    @property
    def home(self) -> UntrustedTree:
        return self.box.subtree("home")

    @property
    def runtime(self) -> UntrustedTree:
        """Jupyter's runtime folder."""
        return self.box.subtree("runtime")

    @property
    def jupyter(self) -> Path:
        """A folder for Jupyter's data path: kernelspecs, and the extension that shows when this session ends."""
        return self.folder / "jupyter"

    @property
    def settings(self) -> Path:
        """A folder for Jupyter's configuration path."""
        return self.folder / "settings"

    @property
    def readable(self) -> tuple[Path, ...]:
        """What the notebook reads beside `box`."""
        return self.jupyter, self.settings

    @property
    def kept_awake(self) -> Path:
        """The time of this file is when somebody said last that the session shall not count as idle."""
        return self.folder / "kept-awake"

    @property
    def kept_awake_at(self) -> float:
        """Unix seconds; 0 if no one has said so."""
        try:
            return self.kept_awake.stat().st_mtime
        except OSError:
            return 0.0

    @property
    def overlay(self) -> Overlay:
        return Overlay(self.box.subtree("overlay"), self.jupyter)

    async def copy(self, image: FolderImage) -> None:
        """Brings the image's content into this new session. Raises `UserError` (``bad-image``)."""
        if not (image.box.is_folder("repo") and image.box.is_folder("home")):
            raise UserError(
                "bad-image",
                "The image has lost the folder of its repository or its home folder. Remove it with "
                "`ringbinder images rm`, and launch again to have it built.",
            )
        root = self.folder / "box"
        make_private(root)
        # cp shares the blocks where the file system can, and keeps times, by which changes are found.
        copy = ["cp", "-a", str(image.repo.place), str(image.home.place), str(root)]
        if (await process.run(copy, timeout=_COPY_SECONDS)).returncode:
            # postBuild may have taken away its owner's permission to read a file.
            await asyncio.to_thread(UntrustedTree(root).remove_tree)
            await asyncio.to_thread(image.repo.make_readable)
            await asyncio.to_thread(image.home.make_readable)
            make_private(root)
            copied = await process.run(copy, timeout=_COPY_SECONDS)
            if copied.returncode:
                raise OSError(f"the repository could not be copied to {root}: {copied.errors.strip()}")
        with self.box.handle() as box:
            os.rename("repo", "work", src_dir_fd=box, dst_dir_fd=box)  # noqa: TID251 - relative to a handle
        self.box.make_folder("runtime")

    def tell_stop(self, stops_at: float | None) -> None:
        """Lets the pages of this session know when it will be stopped, in Unix seconds; None: not soon.

        The first call adds to JupyterLab the extension that shows it.
        """
        folder = self.jupyter / "labextensions" / _EXTENSION.name
        if not folder.exists():
            shutil.copytree(_EXTENSION, folder)  # noqa: TID251 - from and to folders of ours
        write_state(folder / "stops.json", json.dumps({"stops_at": stops_at}).encode(), sync=False)

    def write(self, *, sync: bool = True, **facts: Any) -> None:
        """Adds `facts` to what is known of this session. Raises ValueError if that is damaged."""
        known = read_state(self.folder / _RECORD) or {}
        write_state(self.folder / _RECORD, json.dumps(known | facts).encode(), sync=sync)

    def sync(self) -> None:
        """Brings what `write` wrote to the disk. Blocks."""
        with contextlib.suppress(FileNotFoundError):  # it has ended, and nothing was changed in it
            sync_state(self.folder / _RECORD)
            sync_state(self.folder)

    def end(self, image: FolderImage, reason: str) -> list[str]:
        """Removes what need not be kept: all, if no file was changed. Returns the changed files. Blocks."""
        try:
            self.make_readable()
            changed = changed_files(self, image)
        except UntrustedError:
            changed = [_UNCOMPARED]  # too many files, or too deep
        if not changed:
            self.remove()
            return []
        for part in ("overlay", "runtime"):
            self.box.remove_tree(part)
        for folder in self.readable:
            UntrustedTree(folder).remove_tree()
        if not any(name == _UNCOMPARED or name.startswith("home/") for name in changed):
            self.home.remove_tree()
        # A damaged record stays: by it, this session's files are kept.
        with contextlib.suppress(ValueError):
            self.write(ended=time.time(), reason=reason, changed=changed[:_LISTED_NAMES])
        return changed

    def make_readable(self) -> None:
        """Lets the owner read all files that count as work. Blocks; raises `UntrustedError` if these are too many."""
        self.box.unlock()
        for folder in ("work", "home"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # nothing there is compared
                self.box.make_readable(folder)

    def remove(self) -> None:
        """Removes all of it. Blocks."""
        FolderImage(self.folder).clear()

    def has_begun(self) -> bool:
        """Code may have run in it: it was not killed while the repository was being copied."""
        return (self.folder / _RECORD).exists() or self.jupyter.exists()


def all_sessions(state: Path) -> list[Session]:
    """Every session of which there is a folder, running or kept."""
    root = state / "sessions"
    if not root.is_dir():
        return []
    folders = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [Session(path.name, path) for path in sorted(folders)]


def summary(state: Path, server_id: str) -> dict[str, Any]:
    """What became of a session.

    ``id``, ``kept`` (the folder with its files, or None), ``changed`` (names of files) and what else is
    known: ``image``, ``repo_url``, ``started``, ``ended``, ``reason``; ``damaged`` if its record cannot be read.
    One that ended unchanged leaves nothing behind.
    """
    session = Session(server_id, state / "sessions" / Path(server_id).name)
    try:
        facts = _checked(read_state(session.folder / _RECORD), session)
    except ValueError:
        facts = _unknown(session)
    kept = str(session.work.place) if facts.get("ended") else None
    return {"changed": [], **facts, "id": server_id, "kept": kept}


def _checked(facts: dict[str, Any] | None, session: Session) -> dict[str, Any]:
    if facts is None:
        if session.folder.exists() and session.has_begun():
            raise ValueError("its record is not there")
        return {}
    for name in ("image", "repo_url", "ref", "reason"):
        if not isinstance(facts.get(name, ""), str):
            raise ValueError(f"{name} is no text")  # noqa: TRY004 - so with all that is wrong in a file
    for name in ("started", "ended"):
        value = facts.get(name)
        if value is None and name == "ended":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
            raise ValueError(f"{name} is no time")
    changed = facts.get("changed", [])
    if not isinstance(changed, list) or not all(isinstance(name, str) for name in changed):
        raise ValueError("changed is no list of names")
    return facts


def _unknown(session: Session) -> dict[str, Any]:
    """Facts in the place of a record that cannot be read: nothing of the session is removed for that."""
    running = FolderImage(session.folder).in_use()
    return {
        "damaged": True,
        "ended": None if running else session.folder.stat().st_ctime,
        "reason": f"its record {session.folder / _RECORD} is damaged",
    }


def image_of(state: Path, facts: Mapping[str, Any]) -> FolderImage:
    return Store(state / "images").entry(str(facts.get("image", "")))


def changed_files(session: Session, image: FolderImage) -> list[str]:
    """New, changed and deleted files, relative to the session's work folder; ``home/...`` for those in
    home.

    Hidden files of the home folder, and what programs leave behind, do not count. Blocks; raises `UntrustedError`
    if there are too many files.
    """
    work, home = changed_work(session, image), changed_home(session, image)
    return sorted([*work, *(f"home/{name}" for name in home)])


def changed_work(session: Session, image: FolderImage) -> list[str]:
    """So for the work folder alone, with names relative to it."""
    return sorted(_changes(image.repo, session.work, {_GIT_INDEX}))


def changed_home(session: Session, image: FolderImage) -> list[str]:
    """So for the home folder alone, with names relative to it."""
    return sorted(_changes(image.home, session.home, (), hidden=False))


def _changes(
    before: UntrustedTree, after: UntrustedTree, skipped: Collection[str], *, hidden: bool = True
) -> Iterator[str]:
    def skip(path: str) -> bool:
        return path.rpartition("/")[2] in _NOISE or path in skipped or (not hidden and path.startswith("."))

    old, new = dict(_files(before, skip)), dict(_files(after, skip))
    compared = 0
    for name in old.keys() | new.keys():
        if name not in old or name not in new or old[name].kind != new[name].kind:
            yield name
        elif old[name] != new[name]:
            compared += new[name].size
            if old[name].size != new[name].size or compared > _COMPARED_BYTES or not _same(before, after, name):
                yield name


@frozen
class _Facts:
    kind: int
    size: int
    time: int


def _files(tree: UntrustedTree, skip: Callable[[str], bool]) -> Iterator[tuple[str, _Facts]]:
    """Regular files and links below `tree`, if it is there."""
    for path, facts in tree.walk(limit=_MAX_FILES, skip=skip) if tree.is_folder(".") else ():
        if stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
            yield path, _Facts(stat.S_IFMT(facts.st_mode), facts.st_size, facts.st_mtime_ns)


def _same(before: UntrustedTree, after: UntrustedTree, name: str) -> bool:
    """Whether two files of the same size, or two links, have the same content; what cannot be read has not."""
    try:
        if before.kind(name) == "link":
            return before.link(name) == after.link(name)
        with before.open(name) as old, after.open(name) as new:
            left = os.fstat(old.fileno()).st_size
            while left > 0:
                content = old.read(min(_CHUNK, left))
                if content != new.read(len(content)) or not content:
                    return False
                left -= len(content)
            return not new.read(1)
    except (OSError, UntrustedError):
        return False
