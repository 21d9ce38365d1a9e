"""Events in a SQLite file, for questions without a data warehouse: `ringbinder events query`."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from attrs import frozen
from ringbinder import ConfigError, Context, Duration, EventQuery, EventRow, Sink, SinkEvent, UserError, option
from ringbinder.files import make_private

_VERSION: Final = 1
_BUSY_SECONDS: Final = 10.0
_TIDY_SECONDS: Final = 600.0
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PERIODS: Final = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
_COLUMNS: Final = ("schema", "version", "level", "provider", "repo")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, timestamp REAL NOT NULL, schema TEXT NOT NULL, version INTEGER NOT NULL,
    level TEXT NOT NULL, provider TEXT NOT NULL, repo TEXT NOT NULL, fields TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_schema ON events (schema, timestamp);
CREATE INDEX IF NOT EXISTS events_by_time ON events (timestamp);
"""


@frozen
class SqliteOptions:
    path: str = option("events.sqlite", help="The file; a relative path is in the state folder.")
    keep: Duration = option(0.0, help="How long events are kept, such as `365d`; 0: for ever. Older ones are deleted.")


class SqliteSink(Sink[SqliteOptions]):
    """One row an event. An event that comes twice is kept once."""

    Config = SqliteOptions
    sections = ("SqliteSink",)

    def __init__(self, config: SqliteOptions, context: Context) -> None:
        super().__init__(config, context)
        self._path = context.paths.state / Path(config.path).expanduser()
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._tidied = -_TIDY_SECONDS

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Raises ConfigError if the file cannot be used."""
        try:
            await asyncio.to_thread(self._write, [])
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                [f"SqliteSink.path (sink {self.context.name!r}): cannot use {self._path}: {error}"]
            ) from error
        try:
            yield
        finally:
            await asyncio.to_thread(self._close)

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        await asyncio.to_thread(self._write, events)

    async def query(self, query: EventQuery) -> list[EventRow]:
        """Counts events. Raises UserError if there are none yet, or for a field that is no name."""
        return await asyncio.to_thread(self._query, query)

    def _write(self, events: Sequence[SinkEvent]) -> None:
        rows = [
            (
                event.id, event.timestamp, event.schema, event.version, event.level,
                str(event.fields.get("provider", "")), event.repo, json.dumps(dict(event.fields)),
            )
            for event in events
        ]  # fmt: skip
        with self._lock:
            db = self._opened()
            with db:
                db.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
                if self.config.keep and time.monotonic() - self._tidied > _TIDY_SECONDS:
                    oldest = self.context.clock.time() - self.config.keep
                    db.execute("DELETE FROM events WHERE timestamp < ?", (oldest,))
                    self._tidied = time.monotonic()

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            make_private(self._path.parent)
            self._path.touch(mode=0o600 if self._path.is_relative_to(self.context.paths.state) else 0o640)
            db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version > _VERSION:
                    raise sqlite3.DatabaseError("a later version of Ringbinder has written it")  # noqa: TRY301
                db.executescript(_TABLES)
                db.execute(f"PRAGMA user_version = {_VERSION}")
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _query(self, query: EventQuery) -> list[EventRow]:
        if not self._path.exists():
            raise UserError("no-events", f"There are no events yet: {self._path} does not exist.")
        columns = [_expression(name) for name in query.by]
        keys = "".join(f"{column} AS key{at}, " for at, column in enumerate(columns))
        grouped = f" GROUP BY {', '.join(f'key{at}' for at in range(len(columns)))}" if columns else ""
        # Names have been checked by `_expression`; every value is a parameter.
        sql = (
            f"SELECT {keys}count(*), min(timestamp), max(timestamp), avg(json_extract(fields, '$.seconds'))"  # noqa: S608
            " FROM events WHERE schema GLOB ? AND timestamp >= ? AND timestamp < ?"
            f"{grouped} ORDER BY count(*) DESC, max(timestamp) DESC LIMIT ?"
        )
        db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
        try:
            rows = db.execute(sql, (query.schema, query.since, query.until, query.limit)).fetchall()
        except sqlite3.Error as error:
            raise UserError("events-unreadable", f"{self._path} cannot be read: {error}.") from error
        finally:
            db.close()
        return [
            EventRow(tuple("" if key is None else str(key) for key in row[:-4]), *row[-4:]) for row in rows if row[-4]
        ]


def _expression(name: str) -> str:
    """The SQL of what to group by."""
    if name in _COLUMNS:
        return name
    if name in _PERIODS:
        return f"strftime('{_PERIODS[name]}', timestamp, 'unixepoch')"
    if _FIELD.fullmatch(name):
        return f"json_extract(fields, '$.{name}')"
    raise UserError("field-invalid", f"{name!r} is no name of a field: letters, digits and underscores.")
