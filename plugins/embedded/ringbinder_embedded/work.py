"""What people have made in sessions: listed, taken away as a patch or an archive, removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ringbinder import UserError, Work, process
from ringbinder.files import temporary_folder
from ringbinder.folder_image import FolderImage
from ringbinder.untrusted import EntryKind, UntrustedError, UntrustedTree

from .sessions import Session, all_sessions, changed_home, changed_work, image_of, summary

_ID: Final = re.compile(r"[0-9a-f]{16}")
_DIFF_SECONDS: Final = 300.0
# Nothing of the person's own settings of git, some of which run programs.
_GIT_ENV: Final = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C.UTF-8"}

_EXPORT_BYTES: Final = 64 * 1024**3
"""Of all files that are taken away at a time: a file can be said to be of any size, and take no disk."""

Part = tuple[str, UntrustedTree, list[str]]
"""Name in the archive, folder, changed files below it."""


def find(state: Path, id: str) -> Session | None:
    """The session of that id, if it runs or has left something."""
    session = Session(id, state / "sessions" / id)
    return session if _ID.fullmatch(id) and session.folder.is_dir() else None


def all_work(state: Path) -> list[Work]:
    """Every session, the oldest first."""
    known = [_record(session, summary(state, session.id)) for session in all_sessions(state)]
    return sorted(known, key=lambda work: work.started or work.ended or 0.0)


def _record(session: Session, facts: dict[str, Any]) -> Work:
    return Work(
        session.id,
        session.work.place,
        str(facts.get("repo_url", "")),
        str(facts.get("ref", "")),
        facts.get("started"),
        facts.get("ended"),
        str(facts.get("reason", "")),
        tuple(map(str, facts["changed"])),
    )


async def export(state: Path, session: Session, into: Path) -> None:
    """Writes the changed files of `session` into the new file `into`.

    Raises `UserError`: ``format-unknown``, ``file-exists``, ``image-gone``, ``nothing-changed``.
    """
    if not into.name.endswith((".patch", ".diff", ".zip", ".tar.gz", ".tgz")):
        raise UserError(
            "format-unknown", f"{into}: name a file that ends in .patch, .zip or .tar.gz; that says what is written."
        )
    if await asyncio.to_thread(into.exists):
        raise UserError("file-exists", f"{into} exists already; choose another name.")
    async with temporary_folder(state / "tmp") as scratch:
        await _export(image_of(state, summary(state, session.id)), session, into, scratch)


async def _export(image: FolderImage, session: Session, into: Path, scratch: Path) -> None:
    if into.suffix in (".patch", ".diff"):
        if image.read() is None:
            raise UserError(
                "image-gone",
                "The image that this session began with was removed, so its changes cannot be computed: "
                "take an archive (.zip or .tar.gz), which then holds all files.",
            )
        try:
            await _write_patch(image, session, into, scratch)
        except UntrustedError as error:
            raise _not_taken(session, error) from error
        return
    try:
        parts = await asyncio.to_thread(_parts, session, image)
        if not any(names for _, _, names in parts):
            raise UserError("nothing-changed", "No file was changed in this session.")
        await asyncio.to_thread(
            _complete, into, lambda new: _write_archive(parts, session.id, new, into.suffix == ".zip", scratch)
        )
    except UntrustedError as error:
        raise _not_taken(session, error) from error


def _not_taken(session: Session, error: UntrustedError) -> UserError:
    return UserError(
        "work-not-taken", f"The files of this session cannot be taken away ({error}); they are in {session.work.place}."
    )


def _parts(session: Session, image: FolderImage) -> list[Part]:
    """The changed files of both folders; all of them if the image is gone."""
    session.make_readable()
    return [("work", session.work, changed_work(session, image)), ("home", session.home, changed_home(session, image))]


async def _write_patch(image: FolderImage, session: Session, into: Path, scratch: Path) -> None:
    await asyncio.to_thread(session.make_readable)
    names = await asyncio.to_thread(changed_work, session, image)
    names = [name for name in names if name.partition("/")[0] != ".git"]
    if not names:
        raise UserError("nothing-changed", "No file of the repository was changed in this session.")
    for side, tree in (("a", image.repo), ("b", session.work)):
        await asyncio.to_thread(_copy, tree, names, scratch / side)
    # Not from its output, which would be taken for text.
    patch = scratch / "patch"
    done = await process.run(
        ["git", "-c", "core.attributesFile=", "diff", "--no-index", "--binary", "--no-prefix", "--no-color",
         "--no-ext-diff", "--no-textconv", f"--output={patch}", "a", "b"],
        cwd=scratch, timeout=_DIFF_SECONDS,
        env=process.minimal_env() | _GIT_ENV | {"GIT_CEILING_DIRECTORIES": str(scratch.parent)},
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise UserError("patch-failed", f"git could not write the patch: {done.errors.strip()}")
    await asyncio.to_thread(_complete, into, lambda new: shutil.copyfile(patch, new))  # noqa: TID251 - ours


def _copy(tree: UntrustedTree, names: list[str], to: Path) -> None:
    to.mkdir()
    copy = UntrustedTree(to)
    left = _EXPORT_BYTES
    links: list[str] = []
    for name in names:
        kind = _kind(tree, name)
        if kind == "link":
            links.append(name)
        elif kind == "file":
            with contextlib.suppress(FileNotFoundError):
                _make_parents(copy, name)
                left -= tree.copy_file(name, to / name, left)
    # Last, and in the copy's own folders only: the session may run, and has other links and folders at any time.
    for name in links:
        with contextlib.suppress(FileNotFoundError, FileExistsError, UntrustedError):
            target = tree.link(name)
            _make_parents(copy, name)
            copy.make_link(name, target)


def _make_parents(tree: UntrustedTree, name: str) -> None:
    *folders, _ = name.split("/")
    for depth in range(1, len(folders) + 1):
        tree.make_folder("/".join(folders[:depth]))


def _kind(tree: UntrustedTree, name: str) -> EntryKind | None:
    """What is at `name`; nothing, if a link has taken the place of a folder on the way to it."""
    try:
        return tree.kind(name)
    except UntrustedError:
        return None


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


def _write_archive(parts: list[Part], top: str, file: Path, zipped: bool, scratch: Path) -> None:
    left = _EXPORT_BYTES
    with _archive(file, zipped) as archive:
        copy = scratch / "file"
        for part, tree, names in parts:
            for name in names:
                member = f"{top}/{part}/{name}"
                kind = _kind(tree, name)
                try:
                    if kind == "link":
                        archive.add_link(member, tree.link(name))
                    if kind != "file":
                        continue
                    left -= tree.copy_file(name, copy, left)  # first, since it may be written to meanwhile
                except FileNotFoundError:
                    continue  # deleted
                archive.add_file(member, copy)
                copy.unlink()


class _Zip:
    def __init__(self, file: Path) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False)

    def add_file(self, name: str, file: Path) -> None:
        self._zip.write(file, _printable(name))

    def add_link(self, name: str, target: str) -> None:
        link = zipfile.ZipInfo(_printable(name))
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        self._zip.writestr(link, os.fsencode(target))

    def close(self) -> None:
        self._zip.close()


class _Tar:
    def __init__(self, file: Path) -> None:
        self._tar = tarfile.open(file, "w:gz")  # noqa: SIM115, TID251 - a file of ours, closed by `close`

    def add_file(self, name: str, file: Path) -> None:
        self._tar.add(file, name, recursive=False)

    def add_link(self, name: str, target: str) -> None:
        link = tarfile.TarInfo(name)
        link.type, link.linkname, link.mode = tarfile.SYMTYPE, target, 0o777
        self._tar.addfile(link)

    def close(self) -> None:
        self._tar.close()


def _archive(file: Path, zipped: bool) -> contextlib.closing[_Zip | _Tar]:
    return contextlib.closing(_Zip(file) if zipped else _Tar(file))


def _printable(name: str) -> str:
    """A file's name as it can stand in a zip file, where names are text."""
    return os.fsencode(name).decode(errors="replace")
