"""Locks that were made before: in the registry for all replicas, or if they are private in this process's folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import asdict, define, field, frozen
from ringbinder import ConfigError, Context, DigestMismatch, MissingBlob, PluginError, TransientError
from ringbinder.concurrency import Cache
from ringbinder.files import write_state
from ringbinder.untrusted import MAX_LOCK_VALUES, MalformedError, check_shape, parse_json

from .model import Lock, Package
from .records import Record, Records

_SHARED_BYTES: Final = 4 * 2**20
"""What registries take at least, and `Records.read_content` reads at most."""
_RECENT: Final = 32
"""Locks in memory: those of large conda environments have some megabytes."""
_RECENT_SECONDS: Final = 600.0
_PACKAGE: Final = {
    "kind": str, "name": str, "version": str, "url": str, "digest": str, "size?": int, "shared": bool,
    "facts": {str: object},
}  # fmt: skip
_SHAPE: Final = {"key": str, "made": float, "python": str, "conda": bool, "packages": [_PACKAGE]}


@frozen
class KnownLock:
    """A lock, and when it was made."""

    lock: Lock
    made: float
    """Unix seconds."""


@define(eq=False)
class LockStore:
    """Locks by the key of what they were made from: 64 hexadecimal digits.

    A store that cannot be reached is one that knows nothing: the lock is made again.
    """

    context: Context
    records: Records | None = None
    """Of the shared repository of layers; None: everything stays in this process's folder."""
    keep: float = 90 * 86_400.0
    """Seconds for which a lock in this process's folder is kept after its last use; 0: for ever."""
    _folder: Path = field(init=False)
    _recent: Cache[str, KnownLock] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._folder = self.context.state_folder / "locks"
        self._recent = self.context.cache(_RECENT)

    async def find(self, key: str) -> KnownLock | None:
        """Return the newest lock with this key, wherever it is."""
        if recent := self._recent.get(key):
            return recent
        known = [await asyncio.to_thread(self._read, key), await self._shared(key)]
        newest = max((lock for lock in known if lock), key=lambda lock: lock.made, default=None)
        if newest:
            self._recent.put(key, newest, _RECENT_SECONDS)
        return newest

    async def add(self, key: str, lock: Lock, *, private: bool) -> None:
        """Keep `lock` under `key`; for this process alone if it is `private`."""
        made = self.context.clock.time()
        self._recent.put(key, KnownLock(lock, made), _RECENT_SECONDS)
        content = await asyncio.to_thread(_written, key, KnownLock(lock, made))
        try:
            if private or self.records is None or len(content) > _SHARED_BYTES:
                await asyncio.to_thread(self._write, key, content)
            else:
                await self.records.write(Record(f"lock-{key}"), content)
        except (TransientError, ConfigError, PluginError, MissingBlob, OSError) as error:
            self.context.log.warning("lock not stored, it will be made again", reason=str(error))

    async def _shared(self, key: str) -> KnownLock | None:
        if self.records is None:
            return None
        try:
            if (record := await self.records.read(f"lock-{key}")) is None:
                return None
            content = await self.records.read_content(record)
            known = await asyncio.to_thread(_parsed, key, content)
            await self.records.renew(record)
        except (TransientError, ConfigError, PluginError, MissingBlob, DigestMismatch, MalformedError) as error:
            self.context.log.warning("lock of the registry not usable, it is made again", reason=str(error))
            return None
        return known

    def _read(self, key: str) -> KnownLock | None:
        try:
            content = (self._folder / key).read_bytes()
            known = _parsed(key, content)
        except FileNotFoundError:
            return None
        except (OSError, MalformedError) as error:
            self.context.log.warning("lock not usable, it is made again", reason=str(error))
            return None
        os.utime(self._folder / key, (now := self.context.clock.time(), now))
        return known

    def _write(self, key: str, content: bytes) -> None:
        """Write a lock, and remove those that were not used for long."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_state(self._folder / key, content, sync=False)
        now = self.context.clock.time()
        os.utime(self._folder / key, (now, now))
        for file in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process removes it
                if self.keep and file.stat().st_mtime + self.keep < now:
                    file.unlink()


def _parsed(key: str, content: bytes) -> KnownLock:
    about: Mapping[str, Any] = parse_json(content, values=MAX_LOCK_VALUES)
    check_shape(about, _SHAPE)
    if about["key"] != key:
        raise MalformedError("is the lock of something else")
    packages = tuple(Package(**({"size": None} | package)) for package in about["packages"])
    return KnownLock(Lock(packages, about["python"], about["conda"]), about["made"])


def _written(key: str, known: KnownLock) -> bytes:
    return json.dumps(asdict(known.lock) | {"key": key, "made": known.made}, sort_keys=True).encode()
