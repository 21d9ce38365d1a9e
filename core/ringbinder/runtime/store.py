"""A small bounded SQLite in the state folder: how long builds and launches took, logs of builds, given consents."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import structlog
from attrs import evolve, frozen

from .private import make_private

Outcome = Literal["success", "failure", "cancelled"]

_BUSY_SECONDS: Final = 10.0
_MAX_DURATIONS: Final = 20_000
_MAX_CONSENTS: Final = 10_000
_MAX_LAUNCHES: Final = 50

# What each version of the file adds to the one before.
# `size` stands before `lines`, so that adding up sizes never reads the pages of the logs themselves.
_SCHEMAS: Final = (
    """
CREATE TABLE logs (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, image TEXT NOT NULL, outcome TEXT NOT NULL,
    finished REAL NOT NULL, seconds REAL NOT NULL, size INTEGER NOT NULL, lines BLOB NOT NULL
);
CREATE TABLE durations (
    seq INTEGER PRIMARY KEY, image TEXT NOT NULL UNIQUE, name TEXT NOT NULL, seconds REAL NOT NULL
);
CREATE INDEX durations_by_name ON durations (name, seq);
""",
    """
CREATE TABLE consents (seq INTEGER PRIMARY KEY, repository TEXT NOT NULL UNIQUE, given REAL NOT NULL);
""",
    """
CREATE TABLE launches (seq INTEGER PRIMARY KEY, launcher TEXT NOT NULL, seconds REAL NOT NULL);
""",
    """
ALTER TABLE logs ADD COLUMN users TEXT NOT NULL DEFAULT '';
""",
)
_VERSION: Final = len(_SCHEMAS)

_DROP_OLD_LOGS: Final = """
DELETE FROM logs WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, row_number() OVER newest AS place, sum(size) OVER newest AS total
        FROM logs WINDOW newest AS (ORDER BY seq DESC ROWS UNBOUNDED PRECEDING)
    ) WHERE place > ? OR total > ?
)
"""

# What the machine or another process can do to a good file. Damage shows as anything else: a missing table, a
# broken constraint, an unsupported format, besides SQLITE_CORRUPT and SQLITE_NOTADB.
_CIRCUMSTANCES: Final = frozenset(
    {
        sqlite3.SQLITE_AUTH, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_TOOBIG,
    }
)  # fmt: skip

T = TypeVar("T")


@frozen
class KeptLog:
    """The log of a finished build. `id` is a capability: 128 random bits, unguessable."""

    id: str
    image: str
    """Full image name with its tag."""
    outcome: Outcome
    finished: float
    """Unix seconds."""
    seconds: float
    """How long the build took."""
    lines: bytes
    """The events, one JSON object a line."""
    users: frozenset[str] = frozenset()
    """Who has asked for the build (`User.key`), where people log in."""


class _NewerVersion(Exception):
    """The file was written by a later Ringbinder."""


class Store:
    """Thread-safe; opens on first use; every write is bounded by count and bytes, the oldest go first.

    Several processes may use one file. What is kept here is a convenience, so no call raises: when the disk
    is full or the file cannot be used, that is logged and nothing is kept or found. A damaged file is moved
    aside (to a name with ``.damaged-`` and the Unix time) and a new one begun. Calls are short, but they
    block: from the event loop, make them in a thread.
    """

    def __init__(self, path: Path, max_logs: int = 500, max_bytes: int = 64 * 1024 * 1024) -> None:
        """`max_bytes` bounds the sum of all logs' `lines`."""
        self._path = path
        self._max_logs = max_logs
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._heals = True
        self._log = structlog.get_logger(__name__)

    def keep_log(self, log: KeptLog) -> None:
        """Keeps `log`, replacing one with the same id; of one too long to be kept whole, its newest lines."""
        lines = _newest_lines(log.lines, self._max_bytes)

        def write(db: sqlite3.Connection) -> None:
            with _transaction(db):
                db.execute(
                    "INSERT OR REPLACE INTO logs (id, image, outcome, finished, seconds, size, lines, users)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        log.id, log.image, log.outcome, log.finished, log.seconds, len(lines), lines,
                        "\n".join(sorted(log.users)),
                    ),
                )  # fmt: skip
                db.execute(_DROP_OLD_LOGS, (self._max_logs, self._max_bytes))
                if log.outcome == "success":
                    db.execute(
                        "INSERT OR REPLACE INTO durations (image, name, seconds) VALUES (?, ?, ?)",
                        (log.image, _without_tag(log.image), log.seconds),
                    )
                    db.execute(
                        "DELETE FROM durations WHERE seq <= (SELECT max(seq) FROM durations) - ?", (_MAX_DURATIONS,)
                    )

        self._use(write, "the log of a build is not kept", image=log.image)

    def log(self, id: str) -> KeptLog | None:
        """The kept log of that id, if it is still there."""

        def read(db: sqlite3.Connection) -> Any:
            return db.execute(
                "SELECT id, image, outcome, finished, seconds, lines, users FROM logs WHERE id = ?", (id,)
            ).fetchone()

        row = self._use(read, "the log of a build cannot be read")
        if row is None:
            return None
        users = str(row[-1])  # which damage may have changed to anything
        return evolve(KeptLog(*row[:-1]), users=frozenset(users.split("\n") if users else ()))

    def last_outcome(self, image: str) -> tuple[Outcome, float] | None:
        """How the newest build of exactly `image` that was not cancelled ended, and when (Unix seconds)."""

        def read(db: sqlite3.Connection) -> Any:
            return db.execute(
                "SELECT outcome, finished FROM logs WHERE image = ? AND outcome != 'cancelled'"
                " ORDER BY seq DESC LIMIT 1",
                (image,),
            ).fetchone()

        row = self._use(read, "the outcome of the last build cannot be read", image=image)
        return (row[0], row[1]) if row else None

    def last_build_seconds(self, image: str) -> float | None:
        """How long the newest successful build of `image` took, if it is remembered.

        Else of the same image with another tag: the same repository at another commit.
        """

        def read(db: sqlite3.Connection) -> Any:
            return db.execute(
                "SELECT seconds FROM durations WHERE name = ? ORDER BY image = ? DESC, seq DESC LIMIT 1",
                (_without_tag(image), image),
            ).fetchone()

        row = self._use(read, "the time of the last build cannot be read", image=image)
        return row[0] if row else None

    def built_images(self) -> list[str]:
        """Full names of the images that were built successfully, as far as they are remembered, the newest first."""

        def read(db: sqlite3.Connection) -> list[Any]:
            return db.execute("SELECT image FROM durations ORDER BY seq DESC").fetchall()

        return [image for (image,) in self._use(read, "the names of built images cannot be read") or []]

    def keep_launches(self, launcher: str, seconds: Iterable[float]) -> None:
        """Remembers how long launches took, the oldest first; the last fifty of each launcher are kept."""

        def write(db: sqlite3.Connection) -> None:
            with _transaction(db):
                db.executemany(
                    "INSERT INTO launches (launcher, seconds) VALUES (?, ?)", [(launcher, s) for s in seconds]
                )
                db.execute(
                    "DELETE FROM launches WHERE launcher = ? AND seq NOT IN"
                    " (SELECT seq FROM launches WHERE launcher = ? ORDER BY seq DESC LIMIT ?)",
                    (launcher, launcher, _MAX_LAUNCHES),
                )

        self._use(write, "the times of launches are not kept", launcher=launcher)

    def launches(self, launcher: str) -> list[float]:
        """How long the last launches took, as far as that is remembered, in seconds; the oldest first."""

        def read(db: sqlite3.Connection) -> list[Any]:
            return db.execute("SELECT seconds FROM launches WHERE launcher = ? ORDER BY seq", (launcher,)).fetchall()

        rows = self._use(read, "the times of launches cannot be read", launcher=launcher) or []
        return [seconds for (seconds,) in rows]

    def give_consent(self, repository: str, when: float) -> None:
        """Remembers that somebody allowed `repository` to run here; `when` in Unix seconds."""

        def write(db: sqlite3.Connection) -> None:
            with _transaction(db):
                db.execute("INSERT OR IGNORE INTO consents (repository, given) VALUES (?, ?)", (repository, when))
                db.execute("DELETE FROM consents WHERE seq <= (SELECT max(seq) FROM consents) - ?", (_MAX_CONSENTS,))

        self._use(write, "a consent is not remembered", repository=repository)

    def consents(self) -> dict[str, float]:
        """What was allowed and when (Unix seconds), the oldest first."""

        def read(db: sqlite3.Connection) -> list[Any]:
            return db.execute("SELECT repository, given FROM consents ORDER BY seq").fetchall()

        return dict(self._use(read, "consents cannot be read") or [])

    def has_consent(self, repository: str) -> bool:
        """Whether `give_consent` was called for it, and it was not forgotten."""

        def read(db: sqlite3.Connection) -> Any:
            return db.execute("SELECT 1 FROM consents WHERE repository = ?", (repository,)).fetchone()

        return bool(self._use(read, "a consent cannot be read", repository=repository))

    def forget_consent(self, repository: str) -> bool:
        """True if there was one, and now is not."""

        def write(db: sqlite3.Connection) -> bool:
            with _transaction(db):
                return db.execute("DELETE FROM consents WHERE repository = ?", (repository,)).rowcount > 0

        return bool(self._use(write, "a consent cannot be forgotten", repository=repository))

    def close(self) -> None:
        """Closes the file; a later call opens it again."""
        with self._lock:
            self._close()

    def _use(self, work: Callable[[sqlite3.Connection], T], trouble: str, **about: str) -> T | None:
        with self._lock:
            try:
                try:
                    return work(self._open())
                except sqlite3.Error as error:
                    if not self._heals or not _is_damage(error):
                        raise
                    # What fails on a new file as well is not damage: do not move that one away, and so on.
                    self._heals = False
                    self._move_aside(error)
                    result = work(self._open())
                    self._heals = True
                    return result
            except (sqlite3.Error, OSError, UnicodeEncodeError, _NewerVersion) as error:
                self._log.warning(trouble, file=str(self._path), error=str(error) or repr(error), **about)
                return None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        make_private(self._path.parent)
        # SQLite gives its side files (-wal, -shm) the mode of the main one. An existing file is not opened
        # here: closing it again would drop the locks of this process's other connections to it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)
        self._inode = self._path.stat().st_ino
        db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        self._connection = db
        return db

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _move_aside(self, error: sqlite3.Error) -> None:
        self._close()
        if self._path.stat().st_ino != self._inode:
            return  # another process has done it already
        aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{self._path}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")
        self._log.error(
            "the database is damaged; it was moved aside and a new one is begun",
            file=str(self._path), moved_to=str(aside), error=str(error),
        )  # fmt: skip


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE takes the write lock first, so that waiting for another process is possible.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk or a damaged file may have ended the transaction already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA journal_size_limit = 4194304")
    if _version(db) < _VERSION:
        with _transaction(db):
            # Another process may have been first.
            for schema in _SCHEMAS[_version(db) :]:
                for statement in schema.split(";"):
                    db.execute(statement)
            if _version(db) < _VERSION:
                db.execute(f"PRAGMA user_version = {_VERSION}")
    if _version(db) > _VERSION:
        raise _NewerVersion("it was written by a later version of Ringbinder; use that one, or move the file away")

    # Lasting, once done; SQLite does not wait for another process here, and that one does it as well.
    with suppress(sqlite3.OperationalError):
        db.execute("PRAGMA journal_mode = WAL")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)  # errors of the module itself have none
    return code is not None and code & 0xFF not in _CIRCUMSTANCES


def _newest_lines(lines: bytes, limit: int) -> bytes:
    if len(lines) <= limit:
        return lines
    start = lines.find(b"\n", len(lines) - limit - 1) + 1
    return lines[start:] if start else b""


def _without_tag(image: str) -> str:
    name, colon, tag = image.rpartition(":")
    return name if colon and "/" not in tag else image
