"""Events as lines of JSON, in a file or on standard output."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import frozen, validators
from ringbinder import ByteSize, ConfigError, Context, Duration, Sink, SinkEvent, option
from ringbinder.files import locked, make_private

_STDOUT: Final = "-"
_MOMENT: Final = "%Y%m%dT%H%M%S.%f"


@frozen
class JsonLinesOptions:
    path: str = option(
        "events.jsonl",
        help="File that the lines are appended to, made with its folders if missing; a relative path is "
        "in the state folder. `-`: standard output.",
    )
    rotate_size: ByteSize = option(
        0, help="A file that would grow beyond this is set aside, and a new one begun; 0: never."
    )
    rotate_every: Duration = option(
        0.0, help="The file is set aside at each multiple of this since 1970 (UTC): `1d` is midnight; 0: never."
    )
    rotate_keep: int = option(
        10,
        validator=validators.ge(0),
        help="How many files set aside are kept, `<path>.<UTC time>`; the oldest are deleted. 0: all.",
    )
    event_ids: bool = option(
        False, help="Add the key `id` to each line, by which a reader finds what was delivered twice."
    )


class JsonLinesSink(Sink[JsonLinesOptions]):
    """One event a line, in BinderHub's capsule (reference: its event log).

    Several processes may write to one file: each locks it for the time of a batch, and a line that was torn,
    by a full disk or a crash, is ended before the next. A file that something else moves or deletes
    (logrotate) is made again at the next event; or the sink itself sets it aside, by size or time.
    """

    Config = JsonLinesOptions
    sections = ("JsonLinesSink",)

    def __init__(self, config: JsonLinesOptions, context: Context) -> None:
        super().__init__(config, context)
        self._path = context.paths.state / Path(config.path).expanduser()
        self._write = self._to_stdout if config.path == _STDOUT else self._to_file
        # Elsewhere, the program that ships logs may be in this user's group.
        self._mode = 0o600 if self._path.is_relative_to(context.paths.state) else 0o640
        self._lock = threading.Lock()
        self._file: int | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Raises ConfigError if the file cannot be written to."""
        try:
            await asyncio.to_thread(self._write, b"")
        except OSError as error:
            raise ConfigError(
                [
                    f"JsonLinesSink.path (sink {self.context.name!r}): cannot write to {self._path}: "
                    f"{error.strerror}. Name a file that may be written to, or `-` for standard output."
                ]
            ) from error
        try:
            yield
        finally:
            await asyncio.to_thread(self._close)

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        lines = b"".join(self._line(event) for event in events)
        await asyncio.to_thread(self._write, lines)

    def _line(self, event: SinkEvent) -> bytes:
        try:
            capsule = event.capsule()
            if self.config.event_ids:
                capsule["id"] = event.id
            return json.dumps(capsule, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            # One event that is no JSON must not take the others of its batch with it.
            self.context.log.warning("event left out: it is not JSON", schema=event.schema, error=str(error))
            return b""

    def _to_stdout(self, lines: bytes) -> None:
        with self._lock:
            sys.stdout.write(lines.decode())
            sys.stdout.flush()

    def _to_file(self, lines: bytes) -> None:
        # Locked: a call that ran into its time limit goes on in its thread while the next one starts.
        with self._lock:
            while True:
                file = self._opened()
                # Where there are no locks, appending still keeps all but torn lines apart.
                with locked(file):
                    if not self._is_in_place(file):
                        continue  # another process has set it aside
                    if lines and self._is_due(file, len(lines)):
                        self._set_aside()
                        continue
                    left = _line_end(file) + lines if lines else b""
                    while left:
                        left = left[os.write(file, left) :]
                    return

    def _is_due(self, file: int, more: int) -> bool:
        status, options = os.fstat(file), self.config
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            return False
        if options.rotate_size and status.st_size + more > options.rotate_size:
            return True
        period, now = options.rotate_every, self.context.clock.time()
        return bool(period) and status.st_mtime // period < now // period

    def _set_aside(self) -> None:
        moment = datetime.fromtimestamp(self.context.clock.time(), UTC)
        if former := self._aside():
            # Names sort by age, also where the clock has stood still or was set back.
            stamp = former[-1].name.removeprefix(f"{self._path.name}.").removesuffix("Z")
            newest = datetime.strptime(stamp, _MOMENT).replace(tzinfo=UTC)
            moment = max(moment, newest + timedelta(microseconds=1))
        self._path.rename(self._path.with_name(f"{self._path.name}.{moment.strftime(_MOMENT)}Z"))
        if self.config.rotate_keep:
            for old in self._aside()[: -self.config.rotate_keep]:
                old.unlink(missing_ok=True)

    def _aside(self) -> list[Path]:
        """The files set aside, oldest first."""
        name = re.compile(re.escape(self._path.name) + r"\.[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")
        return sorted(path for path in self._path.parent.iterdir() if name.fullmatch(path.name))

    def _opened(self) -> int:
        if self._file is not None:
            if self._is_in_place(self._file):
                return self._file
            self._close_file()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, self._mode)
        except FileNotFoundError:
            make_private(self._path.parent)
            self._file = os.open(self._path, flags, self._mode)
        return self._file

    def _is_in_place(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        with self._lock:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line_end(file: int) -> bytes:
    """What ends the last line of `file` if it was torn; else nothing."""
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return b""
    return b"" if os.pread(file, 1, status.st_size - 1) == b"\n" else b"\n"
