"""Images of kind ``folder``: their layout on disk, and how a builder makes one.

An image is a folder that is whole or not there. It is made at its final place, since a virtual environment cannot be
moved, under a lock that dies with its holder. It exists for readers once its marker does; the marker is written last.
Until everything has reached the disk, which takes seconds and is not waited for, the marker counts only as long as this
machine runs. The page "Folder images" of the reference documentation has the layout.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from .errors import BuildError, UserError
from .model import Declined, Image, Plan, Target
from .protocol import Log
from .runtime.filelock import lock_file
from .runtime.private import make_private
from .runtime.statefile import read_state, write_state
from .runtime.untrusted import UntrustedError, UntrustedTree

_MARKER: Final = "image.json"
_DRAFT: Final = "image.json.new"
_TRASH: Final = ".trash-"
_INTERPRETER: Final = "interpreter.json"
_ENVIRONMENT: Final = "environment.json"
_MAX_LINKS: Final = 40
_BOX: Final = "box"
_PARTS: Final = ("repo", "home", "env")
_LOCK_POLL_SECONDS: Final = 0.1
_DRAFT_SECONDS: Final = 3600.0
_USED: Final = b"used\n"  # a lock file that has it was used when it was written last
_BOOT: Final = "boot"
_SETTLED: Final = b"\n"  # ends a marker of which everything has reached the disk
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@frozen
class FolderImage:
    """One image, and its lock file beside it.

    What the repository's code may write is in `box`; what else is in `folder` is Ringbinder's own.
    """

    folder: Path
    """Absolute."""

    @property
    def box(self) -> UntrustedTree:
        """All that the code of the repository can write."""
        return UntrustedTree(self.folder / _BOX)

    @property
    def env(self) -> UntrustedTree:
        """Its environment, which other images may share: a virtual environment, or one of conda."""
        return (self.environment or self).box.subtree("env")

    @property
    def environment(self) -> FolderImage | None:
        """Where the environment is that it shares with other images; None: it has its own."""
        try:
            folder = (read_state(self.folder / _ENVIRONMENT) or {}).get("folder")
        except ValueError:
            return None
        return FolderImage(Path(folder)) if isinstance(folder, str) else None

    def use_environment(self, environment: FolderImage) -> None:
        """Lets it share the environment of `environment`, whose lock is held, in place of one of its own.

        Call it before the image is finished. No code of the repository may run with this environment until then.
        """
        write_state(self.folder / _ENVIRONMENT, json.dumps({"folder": str(environment.folder)}).encode(), sync=False)

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

    def read(self) -> dict[str, Any] | None:
        """What the marker says, if the image is whole; None if it is not there or lost its interpreter."""
        facts = _read_marker(self.folder / _MARKER)
        return facts if facts is not None and self._has_python() else None

    def exists(self) -> bool:
        """Whether it was published, also if its interpreter is gone for now, as on a disk that is not mounted."""
        environment = self.environment
        there = environment is None or environment.box.root.is_dir()
        return there and _read_marker(self.folder / _MARKER) is not None and self.box.root.is_dir()

    def finished(self) -> dict[str, Any] | None:
        """Facts of the marker, if the image was made to its end and is not published yet."""
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
        """The programs behind `python` outside of its environment, as `note_interpreter` found them."""
        try:
            owner = self.environment or self
            programs = (read_state(owner.folder / _INTERPRETER) or {}).get("programs", [])
            return [Path(program) for program in programs]
        except (ValueError, TypeError):
            return []

    def _has_python(self) -> bool:
        environment = self.environment
        if environment is not None and _read_marker(environment.folder / _MARKER) is None:
            return False
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
        """Makes a finished image exist. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / _DRAFT).replace(self.folder / _MARKER)

    def is_settled(self) -> bool:
        """It is published, and outlives the end of power."""
        try:
            return (self.folder / _MARKER).read_bytes().endswith(_SETTLED)
        except FileNotFoundError:
            return False

    def settle(self) -> None:
        """Brings a published image to the disk, whereupon it outlives the end of power. Blocks; idempotent.

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
        UntrustedTree(trash.parent).subtree(trash.name).remove_tree()
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
            await self.end_leftovers()
            await asyncio.to_thread(self.clear)

    async def end_leftovers(self) -> None:
        """Waits for what a killed process has left running in it to end, and kills what does not. Hold its lock."""
        from .runtime import leftovers  # quick to start: psutil is needed after a crash alone

        await leftovers.end(self.folder)

    @contextlib.asynccontextmanager
    async def locked(self, *, shared: bool = False, on_wait: Callable[[], None] | None = None) -> AsyncIterator[None]:
        """Holds the lock, which dies with its holder: exclusive to make or remove the image, shared to use it.

        Who uses an image uses its environment too, which nothing removes then. `on_wait` is called at every attempt
        that fails, and may raise; None: raises BlockingIOError then.
        """
        # There is no waiting for a file lock that can be cancelled.
        while (file := self._take_lock(shared)) is None:
            if on_wait is None:
                raise BlockingIOError(f"{self.folder} is locked")
            on_wait()
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        try:
            async with contextlib.AsyncExitStack() as environment:
                if shared:
                    os.pwrite(file, _USED, 0)
                    if (used := self.environment) is not None:
                        # A process that checks whether any image uses it has it for a moment.
                        await environment.enter_async_context(used.locked(shared=True, on_wait=on_wait or _wait))
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
                # Who removes an image removes this file too, which then is no one's lock any more.
                taken = os.fstat(file).st_ino == self._lock_file.stat().st_ino
        except FileNotFoundError:
            pass
        finally:
            if not taken:
                os.close(file)
        return file if taken else None


def _wait() -> None:
    """Does nothing: one attempt more."""


def remove_cleared(root: Path) -> None:
    """Removes the rest of the images in `root` that a killed process was removing. Blocks."""
    for trash in root.glob(f"{_TRASH}*"):
        UntrustedTree(root).subtree(trash.name).remove_tree()


Fill = Callable[[FolderImage], Awaitable[Mapping[str, Any] | Declined]]


class _MadeElsewhereError(Exception):
    """Another process has made and published the image that this one waited for."""


async def make_folder_image(
    plan: Plan, target: Target, log: Log, fill: Fill, outdated: Callable[[Mapping[str, Any]], str] | None = None
) -> Image | Declined:
    """Makes the image of `plan` in the folder of `target`: the whole of a builder's `build`.

    `fill` gets the image with its folders `repo`, `home` and `scratch`, which are empty. It brings the content, makes
    the environment `env`, calls `note_interpreter` before any code of the repository runs, and returns what the marker
    says beside the usual (``start``, ``sandboxed``, ``size``); or `Declined`. Where it fails, declines or is cancelled,
    nothing is left. `outdated` gives the reason why an image with these facts is to be made again; empty: it is used.

    Raises `UserError` (``image-in-use``) if an outdated one is in use, `BuildError` (``bad-image``) if a folder or the
    environment's Python is missing in the end, and what `fill` raises.
    """
    if target.folder is None:
        raise ValueError("an image of kind folder needs a folder to be made in")
    image = FolderImage(target.folder)
    reported = False

    def wait() -> None:
        nonlocal reported
        if (facts := image.read()) is not None:
            if not (why := outdated(facts) if outdated else ""):
                raise _MadeElsewhereError
            raise UserError(
                "image-in-use",
                f"{plan.image} {why}, and cannot be built again while a notebook runs on it. Stop that notebook, then "
                "launch again.",
            )
        if not reported:
            reported = True
            log.line("Another process is building this image, waiting for it...\n")

    try:
        async with image.locked(on_wait=wait):
            facts = image.read() or image.finished()
            why = outdated(facts) if outdated and facts is not None else ""
            if why:
                log.line(f"This image {why}: it is built again.\n", "building")
            if why or facts is None:
                await image.start_over()
                try:
                    declined = await _made(image, plan, fill)
                except BaseException:
                    await asyncio.shield(asyncio.to_thread(image.clear))
                    raise
                if declined is not None:
                    await asyncio.to_thread(image.clear)
                    return declined
    except _MadeElsewhereError:
        return Image(plan.image, "folder", path=image.folder, pushed=True)
    return Image(plan.image, "folder", path=image.folder)


async def _made(image: FolderImage, plan: Plan, fill: Fill) -> Declined | None:
    for tree in (image.repo, image.home, image.scratch):
        tree.place.mkdir(parents=True)
    more = await fill(image)
    if isinstance(more, Declined):
        return more
    facts = {
        **more,
        "name": plan.image,
        "repo_url": plan.repo.url,
        "ref_url": plan.repo.ref_url,
        "persistent_request": f"v2/{plan.repo.provider}/{plan.repo.resolved_spec}",
    }
    await asyncio.to_thread(_seal, image, facts)
    return None


def _seal(image: FolderImage, facts: Mapping[str, Any]) -> None:
    try:
        image.scratch.remove_tree()
        parts = _PARTS if image.environment is None else _PARTS[:-1]
        replaced = next((name for name in parts if not image.box.is_folder(name)), "")
    except UntrustedError:
        replaced = _BOX
    if replaced:
        raise BuildError(f"The build has put something else into the place of its folder {replaced}.", "bad-image")
    try:
        size = facts["size"] if "size" in facts else image.box.size()
    except UntrustedError as error:
        raise BuildError(f"What the build has made cannot be measured: {error}.", "build-limit") from None
    image.finish({**facts, "size": size, "built_at": time.time()})
    if image.finished() is None:
        raise BuildError(
            "There is no Python in the environment any more: postBuild, or the installation of a package, has removed "
            "or replaced it.",
            "bad-image",
        )


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
