"""Launches under way, on disk: after a kill -9 the next start knows what was left at the hub half done.

Every process has a folder of its own with a file for each launch, and holds its lock as long as it lives.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import asdict, define, field
from ringbinder.services import Logger

from ._places import Place

_LOCK: Final = "lock"


@define(eq=False)
class Journal:
    """In `parent`. What cannot be written is logged, and the launch goes on: no call raises."""

    parent: Path
    log: Logger
    _folder: Path | None = field(default=None, init=False)
    _held: int = field(default=-1, init=False)

    def open(self) -> list[Place]:
        """Begins this process's own, and takes over the launches of those that are gone."""
        found: list[Place] = []
        try:
            self.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.parent / _LOCK):
                gone = [*self.parent.glob("*/")]
                folder = Path(tempfile.mkdtemp(dir=self.parent))
                self._held = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
                fcntl.flock(self._held, fcntl.LOCK_EX)
                self._folder = folder
                for old in gone:
                    with suppress(BlockingIOError), _locked(old / _LOCK, fcntl.LOCK_NB):
                        found += self._take_over(old)
        except OSError as error:
            self._warn(error)
        return found

    def _take_over(self, folder: Path) -> Iterator[Place]:
        for file in folder.glob("*.json"):
            with suppress(ValueError, TypeError):
                place = Place(**json.loads(file.read_text()))
                self.write(place)
                yield place
        shutil.rmtree(folder, ignore_errors=True)

    def write(self, place: Place) -> None:
        """A launch at `place` begins."""
        if self._folder is not None:
            try:
                self._file(self._folder, place).write_text(json.dumps(asdict(place)))
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
            with _locked(self.parent / _LOCK):
                if not any(self._folder.glob("*.json")):
                    shutil.rmtree(self._folder, ignore_errors=True)
                os.close(self._held)
            self._folder = None

    def _file(self, folder: Path, place: Place) -> Path:
        return folder / f"{hashlib.sha256(place.id.encode()).hexdigest()}.json"

    def _warn(self, error: OSError) -> None:
        self.log.warning("launches are not written down", folder=str(self.parent), error=str(error))


@contextmanager
def _locked(path: Path, more: int = 0) -> Iterator[None]:
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | more)
        yield
    finally:
        os.close(lock)
