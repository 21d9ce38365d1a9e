"""A small key-value store in a file."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import frozen

from ..errors import StoreError
from .private import make_private

_BUSY_SECONDS: Final = 10.0
_PAGE_BYTES: Final = 4096
_KEY_BYTES: Final = 512
_VALUE_BYTES: Final = 64 * 1024
_STORE_BYTES: Final = 16 * 1024**2
_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_PUT: Final = "INSERT INTO entries VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

T = TypeVar("T")


@frozen
class KeyValueStore:
    """Values of JSON by key, in a file that several processes may use at the same time.

    What a call has written stays, also if the process is killed right afterwards, and is there whole or not at all.
    A key has at most 512 bytes, a value 64 KiB as JSON, the file 16 MiB: nothing is dropped to make room. Calls do
    not block the event loop. Each raises `StoreError` if the file cannot be read or written, is damaged or full, and
    ValueError for a key or value that is too large, TypeError for a value that is no JSON. A call that is cancelled may
    still write.
    """

    _path: Path

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`."""
        values = await self._use(lambda db: db.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone())
        return json.loads(values[0]) if values else default

    async def put(self, key: str, value: Any) -> None:
        """Keep `value` under `key`, in place of what was there."""
        row = _row(key, value)
        await self._use(lambda db: db.execute(_PUT, row))

    async def delete(self, key: str) -> None:
        """Forget `key`, if it is there."""
        await self._use(lambda db: db.execute("DELETE FROM entries WHERE key = ?", (key,)))

    async def update(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Keep what `change` makes of the value of `key` (None if there is none), and return it.

        No other process writes meanwhile. `change` is called in a thread; it must be quick and use nothing of this
        store. What it raises is raised, and nothing is written.
        """

        def work(db: sqlite3.Connection) -> Any:
            known = db.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            value = change(json.loads(known[0]) if known else None)
            db.execute(_PUT, _row(key, value))
            return value

        return await self._use(work)

    async def items(self, prefix: str = "") -> dict[str, Any]:
        """Return all keys that begin with `prefix` and their values, in the order of the keys."""
        query = "SELECT key, value FROM entries WHERE substr(key, 1, ?) = ? ORDER BY key"
        rows = await self._use(lambda db: db.execute(query, (len(prefix), prefix)).fetchall())
        return {key: json.loads(value) for key, value in rows}

    async def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._connection() as db:
                db.execute("BEGIN IMMEDIATE")  # waits for other processes here, and nowhere later
                db.execute(_SCHEMA)
                result = work(db)
                db.execute("COMMIT")
                return result
        except (sqlite3.Error, OSError) as error:
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            why = f"it has {_STORE_BYTES >> 20} MiB, or the disk is full" if full else str(error)
            raise StoreError(f"{self._path} cannot be used: {why}") from error

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """For one transaction: nothing is left open, and what was not committed is rolled back."""
        make_private(self._path.parent)
        # SQLite gives its journal the mode of the file.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as db:
            db.execute(f"PRAGMA max_page_count = {_STORE_BYTES // _PAGE_BYTES}")
            yield db


def _row(key: str, value: Any) -> tuple[str, str]:
    text = json.dumps(value, allow_nan=False)
    if len(key.encode()) > _KEY_BYTES:
        raise ValueError(f"a key has at most {_KEY_BYTES} bytes: {key[:60]!r}...")
    if len(text) > _VALUE_BYTES:
        raise ValueError(f"the value of {key!r} has more than {_VALUE_BYTES >> 10} KiB")
    return key, text
