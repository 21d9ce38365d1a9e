"""What people have made in sessions: listed, taken away as a patch or an archive, removed."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from ringbinder import process
from ringbinder.errors import UserError
from ringbinder.model import Work

from .sessions import Session, all_sessions, changed_in, image_of, summary
from .store import Entry, remove_tree

_ID: Final = re.compile(r"[0-9a-f]{16}")
_DIFF_SECONDS: Final = 300.0
# Nothing of the person's own settings of git, some of which run programs.
_GIT_ENV: Final = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C.UTF-8"}

Part = tuple[str, Path, list[str]]
"""Name in the archive, folder, changed files below it."""


def find(state: Path, id: str) -> Session | None:
    """The session of that id, if it runs or has left something."""
    session = Session(id, state / "sessions" / id)
    return session if _ID.fullmatch(id) and session.folder.is_dir() else None


def all_work(state: Path) -> list[Work]:
    """Every session, the oldest first."""
    known = [_record(session, summary(state, session.id)) for session in all_sessions(state)]
    return sorted(known, key=lambda work: work.started or 0.0)


def _record(session: Session, facts: dict[str, Any]) -> Work:
    return Work(
        session.id,
        session.work,
        str(facts.get("repo_url", "")),
        facts.get("started"),
        facts.get("ended"),
        str(facts.get("reason", "")),
        tuple(map(str, facts["changed"])),
    )


async def export(state: Path, session: Session, into: Path, in_thread: Callable[..., Any]) -> None:
    """Writes the changed files of `session` into the new file `into`; `in_thread` runs what blocks.

    Raises `UserError`: ``format-unknown``, ``file-exists``, ``image-gone``, ``nothing-changed``.
    """
    if not into.name.endswith((".patch", ".diff", ".zip", ".tar.gz", ".tgz")):
        raise UserError(
            "format-unknown",
            f"{into}: name a file that ends in .patch, .zip or .tar.gz; that says what is written.",
        )
    if await in_thread(into.exists):
        raise UserError("file-exists", f"{into} exists already; choose another name.")
    image = image_of(state, summary(state, session.id))
    if into.suffix in (".patch", ".diff"):
        if image.read() is None:
            raise UserError(
                "image-gone",
                "The image that this session began with was removed, so its changes cannot be told: "
                "take an archive (.zip or .tar.gz), which then holds all files.",
            )
        await _write_patch(image, session, into, in_thread)
        return
    parts = await in_thread(_parts, session, image)
    if not any(names for _, _, names in parts):
        raise UserError("nothing-changed", "No file was changed in this session.")
    await in_thread(
        _complete, into, lambda new: _write_archive(parts, session.id, new, into.suffix == ".zip")
    )


def discard(session: Session) -> None:
    """Removes the folder of an ended session; its lock must be held. Blocks."""
    remove_tree(session.folder)


def _parts(session: Session, image: Entry) -> list[Part]:
    """The changed files of both folders; all of them if the image is gone."""
    return [
        ("work", session.work, changed_in(image.repo, session.work)),
        (
            "home",
            session.home,
            [name for name in changed_in(image.home, session.home) if not name.startswith(".")],
        ),
    ]


async def _write_patch(image: Entry, session: Session, into: Path, in_thread: Callable[..., Any]) -> None:
    names = await in_thread(changed_in, image.repo, session.work)
    names = [name for name in names if name.partition("/")[0] != ".git"]
    if not names:
        raise UserError("nothing-changed", "No file of the repository was changed in this session.")
    with tempfile.TemporaryDirectory(prefix="ringbinder-") as scratch:
        for side, root in (("a", image.repo), ("b", session.work)):
            await in_thread(_copy, root, names, Path(scratch, side))
        # Not from its output, which would be taken for text.
        patch = Path(scratch, "patch")
        done = await process.run(
            ["git", "-c", "core.attributesFile=", "diff", "--no-index", "--binary", "--no-prefix", "--no-color",
             "--no-ext-diff", "--no-textconv", f"--output={patch}", "a", "b"],
            cwd=Path(scratch), env=process.minimal_env() | _GIT_ENV, timeout=_DIFF_SECONDS,
        )  # fmt: skip
        if done.returncode not in (0, 1):
            raise UserError("patch-failed", f"git could not write the patch: {done.errors.strip()}")
        await in_thread(_complete, into, lambda new: shutil.copyfile(patch, new))


def _copy(root: Path, names: list[str], to: Path) -> None:
    to.mkdir()
    for name in names:
        source, target = root / name, to / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _complete(into: Path, write: Callable[[Path], Any]) -> None:
    """`into` comes into being whole, for its owner alone."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{into.name}-", dir=into.absolute().parent)
    except OSError as error:
        raise UserError("file-not-written", f"{into} cannot be written: {error.strerror}.") from error
    os.close(descriptor)
    new = Path(name)
    try:
        write(new)
        new.replace(into)
    except BaseException as error:
        new.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError("file-not-written", f"{into} cannot be written: {error.strerror}.") from error
        raise


def _write_archive(parts: list[Part], top: str, file: Path, zipped: bool) -> None:
    members = _members(parts, top)
    if not zipped:
        with tarfile.open(file, "w:gz") as tar:
            for path, name in members:
                tar.add(path, name, recursive=False)
        return
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path, name in members:
            if path.is_symlink():
                link = zipfile.ZipInfo(name)
                link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                archive.writestr(link, str(path.readlink()))
            else:
                archive.write(path, name)


def _members(parts: list[Part], top: str) -> Iterator[tuple[Path, str]]:
    for part, root, names in parts:
        for name in names:
            path = root / name
            if path.is_symlink() or path.is_file():  # else it was deleted
                yield path, f"{top}/{part}/{name}"
