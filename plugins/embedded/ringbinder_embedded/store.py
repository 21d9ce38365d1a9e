"""Folders on disk that are whole or not there: images, and the environments of JupyterLab.

An entry is made at its final place, since a virtual environment cannot be moved, under a lock that dies
with its holder. It exists for readers once its marker does; the marker is written last. Until everything has
reached the disk, which takes seconds and is not waited for, the marker counts only as long as this machine runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from ringbinder.files import lock_file, make_private, read_state, write_state
from ringbinder.untrusted import UntrustedError, UntrustedTree

_MARKER: Final = "image.json"
_DRAFT: Final = "image.json.new"
_TRASH: Final = ".trash-"
_INTERPRETER: Final = "interpreter.json"
_MAX_LINKS: Final = 40
_BOX: Final = "box"
_LIBRARY: Final = re.compile(r"python3\.\d+t?")
_METADATA: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<version>[0-9][A-Za-z0-9.!+_]*)(?:-py3\.\d+)?\.(?:dist|egg)-info"
)
_MAX_NAMES: Final = 10_000
_LOCK_POLL_SECONDS: Final = 0.1
_DRAFT_SECONDS: Final = 3600.0
_USED: Final = b"used\n"  # a lock file that has it was used when it was written last
_BOOT: Final = "boot"
_SETTLED: Final = b"\n"  # ends a marker of which everything has reached the disk
_UNREADABLE: Final = re.compile(r"[^A-Za-z0-9.]+")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@frozen
class Entry:
    """One folder of a store, and its lock file beside it.

    What the repository's code may write is in `box`; what else is in `folder` is Ringbinder's own.
    """

    folder: Path

    @property
    def box(self) -> UntrustedTree:
        """All that the code of the repository can write."""
        return UntrustedTree(self.folder / _BOX)

    @property
    def env(self) -> UntrustedTree:
        """Its virtual environment."""
        return self.box.subtree("env")

    @property
    def python(self) -> Path:
        """Its interpreter, for the arguments of commands."""
        return self.env.place / "bin" / "python"

    @property
    def repo(self) -> UntrustedTree:
        """The repository's content in an image."""
        return self.box.subtree("repo")

    @property
    def home(self) -> UntrustedTree:
        """The home folder of an image, to which postBuild may have added."""
        return self.box.subtree("home")

    @property
    def scratch(self) -> UntrustedTree:
        """Temporary files of a build."""
        return self.box.subtree("tmp")

    @property
    def is_conda(self) -> bool:
        """Its environment is one of conda, not a virtual environment."""
        return self.env.is_folder("conda-meta")

    def has_package(self, name: str) -> bool:
        """Its environment has the package that is imported as `name`."""
        return any(self.env.is_file(f"{packages}/{name}/__init__.py") for packages in self.site_packages())

    def has_server(self) -> bool:
        """Its environment has a JupyterLab that is a server's: up to version 2 it was the classic notebook's.

        Raises OSError or `UntrustedError`.
        """
        major = self.versions().get("jupyterlab", "0").partition(".")[0]
        return self.has_package("jupyter_server") and int(major.rpartition("!")[2]) > 2

    def site_packages(self) -> list[str]:
        """Folders of packages, relative to `env`; one, unless its author has seen to it otherwise."""
        try:
            names = self.env.names("lib", _MAX_NAMES)
        except (OSError, UntrustedError):
            return []
        return [f"lib/{name}/site-packages" for name in names if _LIBRARY.fullmatch(name)]

    def versions(self) -> dict[str, str]:
        """Versions of the packages in its environment by their normalized names; none of their code runs.

        Raises OSError or `UntrustedError`.
        """
        from packaging.utils import canonicalize_name
        from packaging.version import InvalidVersion, Version

        versions: dict[str, str] = {}
        for packages in self.site_packages():
            for name in self.env.names(packages, _MAX_NAMES):
                if match := _METADATA.fullmatch(name):
                    with contextlib.suppress(InvalidVersion):
                        versions[canonicalize_name(match["name"])] = str(Version(match["version"]))
        return versions

    def read(self) -> dict[str, Any] | None:
        """What the marker says, if the entry is whole; None if it is not there or lost its interpreter."""
        facts = _read_marker(self.folder / _MARKER)
        return facts if facts is not None and self._has_python() else None

    def finished(self) -> dict[str, Any] | None:
        """Facts of the marker, if the entry was made to its end and is not published yet."""
        facts = _read_marker(self.folder / _DRAFT)
        return facts if facts is not None and self._has_python() else None

    def note_interpreter(self) -> None:
        """Records the programs that `python` is a link to, for `interpreter`.

        Call it once the environment is made, before any code of the repository has run: such code can let the
        links lead elsewhere, and what is recorded is shown to it and its notebooks.
        """
        programs: list[str] = []
        program = self.python
        while program.is_symlink() and len(programs) < _MAX_LINKS:
            program = program.parent / program.readlink()
            programs.append(os.path.normpath(program))
        if programs:
            programs.append(os.path.realpath(program))
        write_state(self.folder / _INTERPRETER, json.dumps({"programs": programs}).encode(), sync=False)

    def interpreter(self) -> list[Path]:
        """The programs behind `python` outside of this entry, as `note_interpreter` found them."""
        try:
            programs = (read_state(self.folder / _INTERPRETER) or {}).get("programs", [])
            return [Path(program) for program in programs]
        except (ValueError, TypeError):
            return []

    def _has_python(self) -> bool:
        try:
            there = self.env.kind("bin/python") in ("file", "link")
            return there and all(program.exists() for program in self.interpreter())
        except (OSError, UntrustedError):
            return False

    def is_fresh_draft(self) -> bool:
        """It was finished not long ago."""
        try:
            return time.time() - (self.folder / _DRAFT).stat().st_mtime < _DRAFT_SECONDS
        except FileNotFoundError:
            return False

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Says that everything is in its place; `facts` become the marker's.

        It is trusted until the machine stops, and after that if `settle` has come to its end before. Where it
        it is not known whether the machine has stopped, all of it reaches the disk here.
        """
        boot = _boot_id()
        if not boot:
            _sync_file_system(self.folder)
        marker = json.dumps({**facts, **({_BOOT: boot} if boot else {})})
        write_state(self.folder / _DRAFT, marker.encode(), sync=not boot)

    def publish(self) -> None:
        """Makes a finished entry exist. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / _DRAFT).replace(self.folder / _MARKER)

    def is_settled(self) -> bool:
        """It is published, and outlives the end of power."""
        try:
            return (self.folder / _MARKER).read_bytes().endswith(_SETTLED)
        except FileNotFoundError:
            return False

    def settle(self) -> None:
        """Brings a published entry to the disk, whereupon it outlives the end of power. Blocks; idempotent.

        Without the lock: what is written goes into the marker that was there at the beginning, and does no
        harm if that was removed.
        """
        with contextlib.suppress(FileNotFoundError), (self.folder / _MARKER).open("r+b") as marker:
            content = marker.read()
            if _facts_of(content) is not None and not content.endswith(_SETTLED):
                _sync_file_system(self.folder)
                marker.write(_SETTLED)
                marker.flush()
                os.fsync(marker.fileno())

    def clear(self) -> bool:
        """Removes it: at once for readers, then file by file. True if there was something."""
        trash = self.folder.with_name(f"{_TRASH}{secrets.token_hex(8)}")
        try:
            self.folder.rename(trash)
        except FileNotFoundError:
            return False
        remove_tree(trash)
        return True

    @property
    def used_at(self) -> float | None:
        """When it was used last, in Unix seconds; None if it never was."""
        try:
            facts = self._lock_file.stat()
        except FileNotFoundError:
            return None
        return facts.st_mtime if facts.st_size else None

    def in_use(self) -> bool:
        """Some process uses it, makes it or removes it."""
        try:
            file = os.open(self._lock_file, os.O_RDWR | os.O_CLOEXEC)  # noqa: TID251 - ours
        except FileNotFoundError:
            return False
        try:
            return not lock_file(file, wait=False)
        finally:
            os.close(file)

    async def start_over(self) -> None:
        """Removes what a killed process left of it, once all that this process has started is gone.

        Hold its lock.
        """
        if self.folder.exists():
            from . import leftovers

            await leftovers.end(self.folder)
            await asyncio.to_thread(self.clear)

    @contextlib.asynccontextmanager
    async def locked(self, *, shared: bool = False, on_wait: Callable[[], None] | None = None) -> AsyncIterator[None]:
        """Holds the lock, which dies with its holder: exclusive to make or remove the entry, shared to use it.

        `on_wait` is called at every attempt that fails, and may raise; None: raises BlockingIOError then.
        """
        # There is no waiting for a file lock that can be cancelled.
        while (file := self._take_lock(shared)) is None:
            if on_wait is None:
                raise BlockingIOError(f"{self.folder} is locked")
            on_wait()
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        try:
            if shared:
                os.pwrite(file, _USED, 0)
            yield
        finally:
            if not shared and not self.folder.exists():
                self._lock_file.unlink(missing_ok=True)
            os.close(file)

    @property
    def _lock_file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.lock")

    def _take_lock(self, shared: bool) -> int | None:
        make_private(self.folder.parent)
        file, taken = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), False  # noqa: TID251 - ours
        try:
            if lock_file(file, shared=shared, wait=False):
                # Who removes an entry removes this file too, which then is no one's lock any more.
                taken = os.fstat(file).st_ino == self._lock_file.stat().st_ino
        except FileNotFoundError:
            pass
        finally:
            if not taken:
                os.close(file)
        return file if taken else None


@frozen
class Store:
    """All entries under `root`."""

    root: Path

    def entry(self, name: str) -> Entry:
        """The place of `name`: a readable part, and a hash that tells apart what reads alike."""
        readable = _UNREADABLE.sub("-", name).strip("-.")[-60:]
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        return Entry(self.root / f"{readable}-{digest}")

    def whole(self) -> list[tuple[Entry, dict[str, Any]]]:
        """Every entry that exists, with what its marker says."""
        if not self.root.is_dir():
            return []
        entries = [Entry(path) for path in sorted(self.root.iterdir()) if path.is_dir()]
        return [(entry, facts) for entry in entries if (facts := entry.read()) is not None]

    async def sweep(self) -> None:
        """Removes what killed processes have left: entries half made or half removed, and locks of none.

        An entry that was made to its end is left for a while, since its maker may be about to publish it; one
        that was published and did not reach the disk is brought there.
        """
        await asyncio.to_thread(sweep, self.root)
        names = {path.name.removesuffix(".lock") for path in self.root.glob("[!.]*")}
        for entry in (Entry(self.root / name) for name in sorted(names)):
            with contextlib.suppress(BlockingIOError):  # a living process has it
                async with entry.locked():
                    if not _exists(entry) and not entry.is_fresh_draft():
                        await entry.start_over()
            await asyncio.to_thread(entry.settle)


def images(state: Path) -> Store:
    return Store(state / "images")


def sweep(root: Path) -> None:
    """Removes the rest of entries that a killed process was removing. Blocks."""
    for trash in root.glob(f"{_TRASH}*"):
        remove_tree(trash)


def remove_tree(folder: Path) -> None:
    """Removes a folder of ours with all that strangers have put into it; one that is gone already is fine. Blocks."""
    UntrustedTree(folder.parent).subtree(folder.name).remove_tree()


def _exists(entry: Entry) -> bool:
    # Not `read`: an image whose interpreter is gone for now, on a disk not mounted, is not removed for that.
    return _read_marker(entry.folder / _MARKER) is not None and entry.box.root.is_dir()


def _read_marker(path: Path) -> dict[str, Any] | None:
    try:
        return _facts_of(path.read_bytes())
    except OSError:
        return None


def _facts_of(marker: bytes) -> dict[str, Any] | None:
    """What a marker says; None if it is damaged, or was not settled before the machine stopped."""
    try:
        facts = json.loads(marker)
    except ValueError:
        return None
    if not isinstance(facts, dict):
        return None
    boot = facts.pop(_BOOT, None)
    return facts if boot is None or marker.endswith(_SETTLED) or boot == _boot_id() else None


@functools.cache
def _boot_id() -> str:
    """What is different after each start of the machine (Linux); empty where that is not known."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _sync_file_system(folder: Path) -> None:
    # One call for thousands of files: fsync of each would take minutes on a slow disk.
    if sys.platform == "linux":
        import ctypes

        descriptor = os.open(folder, os.O_RDONLY)  # noqa: TID251 - ours
        try:
            if ctypes.CDLL(None).syncfs(descriptor) == 0:
                return
        finally:
            os.close(descriptor)
    os.sync()
