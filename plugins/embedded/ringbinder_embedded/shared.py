"""Environments that images share, of however many commits and repositories.

Each is in a folder image of its own, made from what an `EnvironmentRequest` holds and nothing else, and never changed
after that. Its name is the digest of everything that decides it, and a number: one with a higher number has newer
packages, or takes the place of one that was damaged. It is removed once no image uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from ringbinder import BuildError, Log, process
from ringbinder.files import read_state, write_state
from ringbinder.folder_image import FolderImage, remove_cleared
from ringbinder.untrusted import UntrustedError, UntrustedTree

from .sandbox import Sandbox, interpreters

_FILES: Final = "files.json"
_BUILT_AT: Final = "built_at"
_COMPLETE: Final = "complete"
_INCOMPLETE_SECONDS: Final = 86400.0
"""How long one is used in which something was left out, perhaps since it could not be fetched."""
_NICE: Final = 10
_BYTECODE: Final = "__pycache__"
_WAITS: Final = "Another build makes the environment that this one needs, waiting for it...\n"

Make = Callable[[FolderImage], Awaitable[bool]]
"""Makes the `env` of an entry, whose `home` and `scratch` are there; false: something was left out that fits later."""


@frozen
class EnvironmentStore:
    """The environments below `root`, which the images below `images` use."""

    root: Path
    images: Path

    async def share(self, image: FolderImage, key: str, oldest: float, now: float, make: Make, log: Log) -> int:
        """Lets `image` use the environment of `key`, made at `oldest` or later; returns its bytes on disk.

        Where there is none, or it is damaged, `make` makes it. Raises what `make` raises, and leaves nothing then.
        """
        waits = _Once(log)
        made: FolderImage | None = None
        while True:
            entries = self._entries(key)
            for entry in entries:
                async with entry.locked(shared=True, on_wait=waits.report):
                    facts = entry.read()
                    if facts is None or (entry != made and _age(facts, now) > now - oldest):
                        continue
                    if entry == made or not (lack := await asyncio.to_thread(damage, entry)):
                        image.use_environment(entry)
                        if entry != made:
                            log.line(
                                "Using an environment that is there already: the same was asked for.\n", "building"
                            )
                        return int(facts["size"])
                log.line(f"A shared environment is damaged ({lack}): it is made again.\n", "building")
                await self.remove_damaged(entry)
            number = max((_number(entry) for entry in entries), default=0) + 1
            entry = FolderImage(self.root / f"{key}-{number}")
            async with entry.locked(on_wait=waits.report):
                if not entry.folder.exists():  # else another build has just made it
                    await self._make(entry, make, now)
                    made = entry

    async def _make(self, entry: FolderImage, make: Make, now: float) -> None:
        try:
            for tree in (entry.home, entry.scratch):
                await asyncio.to_thread(tree.place.mkdir, parents=True)
            complete = await make(entry)
            await asyncio.to_thread(_seal, entry, now, complete)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(entry.clear))
            raise

    async def remove_damaged(self, environment: FolderImage) -> str:
        """Removes it if it is damaged and no notebook runs in it, whereupon its images are built again.

        Returns what it lacks; empty: it was not removed.
        """
        with contextlib.suppress(BlockingIOError):
            async with environment.locked():
                if environment.exists() and (lack := await asyncio.to_thread(damage, environment)):
                    await asyncio.to_thread(environment.clear)
                    return lack
        return ""

    async def remove_unused(self, environment: FolderImage) -> None:
        """Removes it if no image uses it, or it is half made."""
        with contextlib.suppress(BlockingIOError):  # a living process has it
            async with environment.locked():
                if not (environment.exists() and await asyncio.to_thread(self._is_used, environment)):
                    await environment.start_over()

    async def sweep(self) -> None:
        """Removes what killed processes have left, and what no image uses any more."""
        await asyncio.to_thread(remove_cleared, self.root)
        names = {path.name.removesuffix(".lock") for path in self.root.glob("[!.]*")}
        for entry in (FolderImage(self.root / name) for name in sorted(names)):
            await self.remove_unused(entry)

    def _is_used(self, environment: FolderImage) -> bool:
        return any(image.environment == environment for image in _folders(self.images))

    def _entries(self, key: str) -> list[FolderImage]:
        """The environments of `key`, the newest first, whole or not."""
        entries = (entry for entry in _folders(self.root) if entry.folder.name.rpartition("-")[0] == key)
        return sorted(entries, key=_number, reverse=True)


def environments(state: Path) -> EnvironmentStore:
    return EnvironmentStore(state / "environments", state / "images")


def damage(environment: FolderImage) -> str:
    """What has changed in `environment` since it was made; empty: nothing. What was added does not count. Blocks."""
    try:
        wanted = read_state(environment.folder / _FILES) or {}
        with environment.env.handle() as env:
            for path, facts in wanted.items():
                try:
                    # Nothing is opened, and a launch waits for it: the path's folders are not looked at one by one.
                    if _facts(os.stat(path, dir_fd=env, follow_symlinks=False)) != facts:
                        return f"{path} was changed"
                except OSError:
                    return f"{path} was removed"
    except (OSError, ValueError, UntrustedError) as error:
        return str(error)
    return ""


async def settle(environment: FolderImage, sandbox: Sandbox) -> None:
    """Does what the first notebook need not wait for: bytecode, modes against changes by mistake, and the disk."""
    folder = environment.box.place
    env = process.minimal_env() | {"HOME": str(folder)}
    # -S: nothing that a package brings runs.
    argv = [str(environment.python), "-I", "-S", "-m", "compileall", "-q", str(environment.env.place / "lib")]
    if not await sandbox.lack():
        argv = sandbox.wrapper(environment.box.root, interpreters(environment), folder, env) + argv
    async with environment.locked(shared=True, on_wait=lambda: None):
        command = await process.start(argv, cwd=folder, env=env, nice=_NICE)
        try:
            await command.wait()  # what cannot be compiled is so when it is imported
        finally:
            await command.stop(grace=0)
        await asyncio.to_thread(_protect, environment)


def _protect(environment: FolderImage) -> None:
    with contextlib.suppress(OSError, UntrustedError):
        environment.env.make_read_only()
    environment.settle()


def _age(facts: Mapping[str, Any], now: float) -> float:
    """Seconds since it was made; without end for one that is to be tried again."""
    age = now - float(facts.get(_BUILT_AT, 0))
    return age if facts.get(_COMPLETE) or age < _INCOMPLETE_SECONDS else math.inf


def _seal(entry: FolderImage, now: float, complete: bool) -> None:
    """Checks what was made, and publishes it."""
    for tree in (entry.home, entry.scratch):
        tree.remove_tree()
    try:
        files, size = _files(entry.env), entry.env.size()
    except UntrustedError as error:
        raise BuildError(f"The environment cannot be used: {error}.", "bad-image") from None
    write_state(entry.folder / _FILES, json.dumps(files).encode(), sync=False)
    entry.finish({"size": size, _BUILT_AT: now, _COMPLETE: complete})
    if entry.finished() is None:
        raise BuildError("There is no Python in the environment: a package has removed or replaced it.", "bad-image")
    entry.publish()


def _files(env: UntrustedTree) -> dict[str, list[int]]:
    """Kind, size and time of all files but bytecode, which Python writes when it first imports a module."""

    def is_bytecode(path: str) -> bool:
        return path.rpartition("/")[2] == _BYTECODE

    walked = env.walk(skip=is_bytecode)
    return {path: _facts(facts) for path, facts in walked if not stat.S_ISDIR(facts.st_mode)}


def _facts(facts: os.stat_result) -> list[int]:
    return [stat.S_IFMT(facts.st_mode), facts.st_size, int(facts.st_mtime)]


def _folders(root: Path) -> Iterable[FolderImage]:
    if not root.is_dir():
        return
    yield from (FolderImage(path) for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _number(entry: FolderImage) -> int:
    number = entry.folder.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


class _Once:
    """A line of a log that is written once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._reported = False

    def report(self) -> None:
        if not self._reported:
            self._reported = True
            self._log.line(_WAITS, "building")
