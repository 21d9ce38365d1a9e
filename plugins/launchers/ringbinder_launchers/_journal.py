"""Launches under way, on disk: after a kill -9 the next start knows what was left at the hub half done.

Every process has a folder of its own with a file for each launch, and holds its lock as long as it lives.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from attrs import asdict, define, field
from ringbinder.filelock import file_locked
from ringbinder.private import make_private
from ringbinder.services import Logger
from ringbinder.statefile import read_state, write_state

from ._places import Place

_LOCK: Final = "lock"


@define(eq=False)
class Journal:
    """In `parent`. What cannot be written is logged, and the launch goes on: no call raises."""

    parent: Path
    log: Logger
    _folder: Path | None = field(default=None, init=False)
    _held: ExitStack = field(factory=ExitStack, init=False)

    def open(self) -> list[Place]:
        """Begins this process's own, and takes over the launches of those that are gone."""
        found: list[Place] = []
        try:
            make_private(self.parent)
            with file_locked(self.parent / _LOCK):
                gone = [*self.parent.glob("*/")]
                folder = Path(tempfile.mkdtemp(dir=self.parent))
                self._held.enter_context(file_locked(folder / _LOCK))
                self._folder = folder
                for old in gone:
                    with suppress(BlockingIOError), file_locked(old / _LOCK, wait=False):
                        found += self._take_over(old)
        except OSError as error:
            self._warn(error)
        return found

    def _take_over(self, folder: Path) -> Iterator[Place]:
        damaged = False
        for file in sorted(folder.glob("*.json")):
            try:
                place = _place(read_state(file))
            except (ValueError, TypeError) as error:
                # Kept, since it may be all that is known of a server at the hub that nobody uses.
                self.log.warning("a launch under way cannot be read, and is not cleaned up", error=str(error))
                damaged = True
                continue
            self.write(place)
            file.unlink()
            yield place
        if not damaged:
            shutil.rmtree(folder, ignore_errors=True)

    def write(self, place: Place) -> None:
        """Notes that a launch at `place` begins. Blocks until that is on the disk."""
        if self._folder is not None:
            try:
                write_state(self._file(self._folder, place), json.dumps(asdict(place)).encode())
            except OSError as error:
                self._warn(error)

    def strike(self, place: Place) -> None:
        """It has become ready, or nothing is left of it."""
        if self._folder is not None:
            self._file(self._folder, place).unlink(missing_ok=True)

    def has(self, place: Place) -> bool:
        return self._folder is not None and self._file(self._folder, place).exists()

    def close(self) -> None:
        """What is written stays for the next start."""
        if self._folder is not None:
            with file_locked(self.parent / _LOCK):
                if not any(self._folder.glob("*.json")):
                    shutil.rmtree(self._folder, ignore_errors=True)
                self._held.close()
            self._folder = None

    def _file(self, folder: Path, place: Place) -> Path:
        return folder / f"{hashlib.sha256(place.id.encode()).hexdigest()}.json"

    def _warn(self, error: OSError) -> None:
        self.log.warning("launches are not written down", folder=str(self.parent), error=str(error))


def _place(state: dict[str, Any] | None) -> Place:
    match state or {}:
        case {"user": str(user), "server": str(server), "temporary": bool(temporary)}:
            return Place(user, server, temporary)
    raise ValueError("it names no place of a server")
