"""The folder of one session: its copy of the repository, and what is kept of it at its end."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from ringbinder import process

from .overlay import Overlay
from .store import Entry, Store, remove_tree

_COPY_SECONDS: Final = 600.0
_EXTENSION: Final = Path(__file__).with_name("ringbinder-idle")
# What programs leave behind without being asked.
_NOISE: Final = frozenset(
    {
        ".ipynb_checkpoints", "__pycache__", ".ipython", ".jupyter", ".cache", ".local", ".config", ".npm",
        ".mypy_cache", ".pytest_cache", ".ruff_cache", ".virtual_documents", ".jupyter_ystore.db",
        ".jupyter-server-log.txt", ".DS_Store",
    }
)  # fmt: skip
_GIT_INDEX: Final = os.path.join(".git", "index")  # noqa: PTH118 - rewritten by `git status`


@frozen
class Session:
    """`folder` and everything below it belong to one server."""

    id: str
    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def runtime(self) -> Path:
        """Jupyter's runtime folder."""
        return self.folder / "runtime"

    @property
    def kept_awake(self) -> Path:
        """The time of this file is when somebody said last that the session shall not count as idle."""
        return self.folder / "kept-awake"

    @property
    def kept_awake_at(self) -> float:
        """Unix seconds; 0 if nobody has said so."""
        try:
            return self.kept_awake.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    @property
    def overlay(self) -> Overlay:
        return Overlay(self.folder / "overlay", self.folder / "jupyter")

    async def copy(self, image: Entry) -> None:
        """Brings the image's content into this new session."""
        self.runtime.mkdir(parents=True, mode=0o700)
        # cp shares the blocks where the file system can, and keeps times, by which changes are found.
        copied = await process.run(
            ["cp", "-a", str(image.repo), str(image.home), str(self.folder)], timeout=_COPY_SECONDS
        )
        if copied.returncode:
            raise OSError(f"the repository could not be copied to {self.folder}: {copied.errors.strip()}")
        (self.folder / image.repo.name).rename(self.work)

    def tell_stop(self, stops_at: float | None) -> None:
        """Lets the pages of this session know when it will be stopped, in Unix seconds; None: not soon.

        The first call adds to JupyterLab the extension that shows it.
        """
        folder = self.overlay.jupyter / "labextensions" / _EXTENSION.name
        if not folder.exists():
            shutil.copytree(_EXTENSION, folder)
        new = folder / "stops.json.new"
        new.write_text(json.dumps({"stops_at": stops_at}))
        new.replace(folder / "stops.json")

    def write(self, **facts: Any) -> None:
        """Adds `facts` to what is known of this session."""
        file = self.folder / "session.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps(_facts(self) | facts))
        new.replace(file)

    def end(self, image: Entry, reason: str) -> list[str]:
        """Removes what need not be kept: all, if no file was changed. Returns the changed files. Blocks."""
        changed = changed_files(self, image)
        if not changed:
            remove_tree(self.folder)
            return []
        for part in (self.overlay.folder, self.overlay.jupyter, self.runtime):
            remove_tree(part)
        if not any(name.startswith("home/") for name in changed):
            remove_tree(self.home)
        self.write(ended=time.time(), reason=reason, changed=changed)
        return changed


def all_sessions(state: Path) -> list[Session]:
    """Every session of which there is a folder, running or kept."""
    root = state / "sessions"
    return (
        [Session(path.name, path) for path in sorted(root.iterdir()) if path.is_dir()]
        if root.is_dir()
        else []
    )


def summary(state: Path, server_id: str) -> dict[str, Any]:
    """What became of a session.

    ``id``, ``kept`` (the folder with its files, or None), ``changed`` (names of files) and what else is
    known: ``image``, ``repo_url``, ``started``, ``ended``, ``reason``. One that ended unchanged leaves
    nothing behind.
    """
    session = Session(server_id, state / "sessions" / Path(server_id).name)
    facts = _facts(session)
    kept = str(session.work) if facts.get("ended") else None
    return {"changed": [], **facts, "id": server_id, "kept": kept}


def image_of(state: Path, facts: Mapping[str, Any]) -> Entry:
    return Store(state / "images").entry(str(facts.get("image", "")))


def changed_files(session: Session, image: Entry) -> list[str]:
    """New, changed and deleted files, relative to the session's work folder; ``home/...`` for those in
    home.

    Hidden files of the home folder, and what programs leave behind, do not count.
    """
    work = _changes(image.repo, session.work)
    home = (name for name in _changes(image.home, session.home) if not name.startswith("."))
    return sorted([*work, *(f"home/{name}" for name in home)])


def changed_in(before: Path, after: Path) -> list[str]:
    """Files that are new, changed or deleted in `after`, but for what programs leave behind. Blocks."""
    return sorted(_changes(before, after))


def _facts(session: Session) -> dict[str, Any]:
    try:
        facts = json.loads((session.folder / "session.json").read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _changes(before: Path, after: Path) -> Iterator[str]:
    old, new = dict(_files(before)), dict(_files(after))
    for name in old.keys() | new.keys():
        if name not in old or name not in new or _differ(old[name], new[name]):
            yield name


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOISE]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            path = Path(folder, name)
            relative = str(path.relative_to(root))
            if name not in _NOISE and relative != _GIT_INDEX:
                yield relative, path


def _differ(before: Path, after: Path) -> bool:
    if before.is_symlink() or after.is_symlink():
        links = before.is_symlink() and after.is_symlink()
        return not links or before.readlink() != after.readlink()
    old, new = before.stat(), after.stat()
    if (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns):
        return False
    return not filecmp.cmp(before, after, shallow=False)
