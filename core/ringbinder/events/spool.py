"""Events on disk until a sink has taken them: segments of checksummed lines, and a mark of how far it has.

It survives being killed at any point, a full disk and a damaged line. What was being written when the process
was killed is either there whole or not at all; what was sent and not yet marked is sent again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from attrs import asdict, define, field

from ..config.event_settings import Fsync
from ..protocol import SinkEvent
from ..runtime.filelock import lock_file
from ..runtime.private import make_private

_SUFFIX: Final = ".events"
_SEGMENT_BYTES: Final = 4 * 1024 * 1024
_SYNC_SECONDS: Final = 1.0
_SLOTS: Final = 256
_MARK_BYTES: Final = 64
_Data = bytes  # `Spool.bytes` hides that name


class Position(NamedTuple):
    """A place between two lines."""

    segment: int
    offset: int


@define
class _Segment:
    size: int
    left: int
    """Lines that are not yet marked."""


class Read(NamedTuple):
    """What one `Spool.read` gave; to be handed to `mark` when a sink has taken the events."""

    events: list[SinkEvent]
    damaged: int
    lines: int
    end: Position


@define(eq=False)
class Spool:
    """One sink's spool below `folder`. One thread at a time; every call may block.

    Each process has a slot of its own in the folder, locked. What a process that was killed has left in
    another slot is taken over by the next one that starts. Every call may raise OSError.
    """

    folder: Path
    limit: int = 256 * 1024**2
    """Bytes; beyond them the oldest segment goes."""
    fsync: Fsync = "interval"
    count: int = field(default=0, init=False)
    """Events that are not yet marked."""
    bytes: int = field(default=0, init=False)
    _slot: Path = field(init=False)
    _lock: int | None = field(default=None, init=False)
    _marks: int | None = field(default=None, init=False)
    _turn: int = field(default=0, init=False)
    _segments: dict[int, _Segment] = field(factory=dict, init=False)
    _at: Position = field(default=Position(0, 0), init=False)
    _current: int = field(default=0, init=False)
    _file: int | None = field(default=None, init=False)
    _unsynced: bool = field(default=False, init=False)
    _synced: float = field(default=0.0, init=False)

    @property
    def unsynced(self) -> bool:
        """`sync` has something to do."""
        return self._unsynced and self.fsync != "never"

    @property
    def is_open(self) -> bool:
        return self._marks is not None

    def open(self) -> None:
        """Takes a slot and looks what is in it. Afterwards `count` says what is still to be sent.

        If it raises, it may be tried again.
        """
        try:
            self._open()
        except OSError:
            self.close()
            raise

    def _open(self) -> None:
        self._segments.clear()
        make_private(self.folder)
        for number in range(_SLOTS):
            self._slot = self.folder / str(number)
            self._lock = _locked(self._slot)
            if self._lock is not None:
                break
        else:
            raise OSError(f"all {_SLOTS} slots of {self.folder} are in use")
        self._marks = os.open(self._slot / "mark", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._at, self._turn = _read_mark(self._marks)
        for _ in range(2):  # while there is room for both halves
            self._write_mark()
        for number, path in _segments(self._slot):
            if number < self._at.segment:
                path.unlink()
                continue
            start = self._at.offset if number == self._at.segment else 0
            with path.open("rb") as file:
                file.seek(start)
                left = sum(1 for line in file if line.endswith(b"\n"))
            self._segments[number] = _Segment(path.stat().st_size, left)
        # Never written to again: its last line may be torn.
        self._current = max(self._segments, default=self._at.segment)
        self._total()
        self._skip_read_segments()
        self._take_over()

    def append(self, events: Sequence[SinkEvent]) -> int:
        """Writes `events`; if it raises, none of them is there. Returns how many old ones had to go."""
        data = b"".join(_line(event) for event in events)
        dropped = self._make_room(len(data))
        try:
            self._write(data)
        except OSError:
            if not self._give_back():
                raise
            self._write(data)
        self._segments[self._current].left += len(events)
        self._total()
        if self.fsync == "interval" and time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()
        return dropped

    def _write(self, data: _Data) -> None:
        file = self._writable()
        segment = self._segments[self._current]
        try:
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            self._unsynced = True
            if self.fsync == "always":
                os.fsync(file)
                self._unsynced = False
        except OSError:
            try:
                os.ftruncate(file, segment.size)
            except OSError:
                self._close_segment()
            raise
        segment.size += len(data)

    def _give_back(self) -> bool:
        """Frees what the segment that is written to takes up, if all of it was sent; False if it was not."""
        segment = self._segments.get(self._current)
        if segment is None or not segment.size or self._at < Position(self._current, segment.size):
            return False
        self._close_segment()
        self._skip_read_segments()
        return True

    def sync(self) -> None:
        """Makes the disk keep what was written."""
        if self._file is not None and self.unsynced:
            os.fsync(self._file)
        self._unsynced, self._synced = False, time.monotonic()

    def read(self, limit: int) -> Read:
        """The oldest events that are not marked, at most `limit`, of one segment; the same until they are."""
        self._skip_read_segments()
        at, events, damaged, lines = self._at, [], 0, 0
        segment = self._segments.get(at.segment)
        if segment is None:
            return Read([], 0, 0, at)
        offset = at.offset
        with self._path(at.segment).open("rb") as file:
            file.seek(offset)
            while lines < limit and offset < segment.size:
                line = file.readline(segment.size - offset)
                offset += len(line)
                if not line:
                    offset = segment.size  # shortened by somebody else: nothing more is there
                    break
                lines += line.endswith(b"\n")
                event = _event(line)
                if event is not None:
                    events.append(event)
                elif line.endswith(b"\n"):
                    damaged += 1
        return Read(events, damaged, lines, Position(at.segment, offset))

    def mark(self, read: Read) -> None:
        """Says that a sink has taken what was read; whole segments are deleted."""
        if read.end < self._at:
            return  # it had to go in the meantime
        self._at = read.end
        if segment := self._segments.get(read.end.segment):
            segment.left = max(0, segment.left - read.lines)
        self._total()
        self._write_mark()
        self._skip_read_segments()

    def close(self) -> None:
        """Frees the slot; what is there stays."""
        with suppress(OSError):
            self.sync()
        self._close_segment()
        for descriptor in (self._marks, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._marks = self._lock = None

    def _writable(self) -> int:
        if self._file is not None and self._segments[self._current].size < self._segment_bytes:
            return self._file
        with suppress(OSError):
            self.sync()
        self._close_segment()
        number = max(self._current, self._at.segment) + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path(number), flags, 0o600)
        self._current = number
        self._segments[number] = _Segment(0, 0)
        if self.fsync != "never":
            with _folder(self._slot) as slot:
                os.fsync(slot)
        return self._file

    @property
    def _segment_bytes(self) -> int:
        return max(1, min(_SEGMENT_BYTES, self.limit // 8))

    def _close_segment(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _make_room(self, size: int) -> int:
        dropped = 0
        while self._segments and self.bytes + size > self.limit:
            oldest = min(self._segments)
            if oldest == self._current:
                self._close_segment()
            dropped += self._segments[oldest].left
            self._remove(oldest)
            self._at = max(self._at, Position(oldest + 1, 0))
            self._total()
        if dropped:
            with suppress(OSError):
                self._write_mark()
        return dropped

    def _skip_read_segments(self) -> None:
        """Deletes the segments that are marked whole, but for the one that is written to."""
        while (segment := self._segments.get(self._at.segment)) is None or self._at.offset >= segment.size:
            later = [number for number in self._segments if number > self._at.segment]
            if segment is not None and self._at.segment == self._current and self._file is not None:
                return
            if segment is not None:
                self._remove(self._at.segment)
                self._total()
            if not later:
                return
            self._at = Position(min(later), 0)

    def _remove(self, number: int) -> None:
        del self._segments[number]
        with suppress(FileNotFoundError):
            self._path(number).unlink()

    def _write_mark(self) -> None:
        # In place, in two halves by turns: it takes no new room on a full disk, and one half is always whole.
        if self._marks is not None:
            text = b"%d %d %d" % (self._turn, *self._at)
            half = (b"%08x %s" % (zlib.crc32(text), text)).ljust(_MARK_BYTES - 1) + b"\n"
            os.pwrite(self._marks, half, (self._turn % 2) * _MARK_BYTES)
            self._turn += 1

    def _take_over(self) -> None:
        for slot in sorted(self.folder.iterdir()):
            if slot == self._slot or not slot.name.isdecimal() or (held := _locked(slot)) is None:
                continue
            try:
                self._copy(slot)
            finally:
                os.close(held)

    def _copy(self, slot: Path) -> None:
        marks = os.open(slot / "mark", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            at, _ = _read_mark(marks)
        finally:
            os.close(marks)
        for number, path in _segments(slot):
            with path.open("rb") as file:
                file.seek(at.offset if number == at.segment else 0)
                events = [event for line in file if number >= at.segment and (event := _event(line))]
            if events:
                self.append(events)
            path.unlink()

    def _path(self, number: int) -> Path:
        return self._slot / f"{number:012}{_SUFFIX}"

    def _total(self) -> None:
        self.count = sum(segment.left for segment in self._segments.values())
        self.bytes = sum(segment.size for segment in self._segments.values())


def _segments(slot: Path) -> list[tuple[int, Path]]:
    """The files of events in `slot` with their numbers, oldest first; what else is called so is left alone."""
    names = ((path.name.removesuffix(_SUFFIX), path) for path in slot.glob(f"*{_SUFFIX}"))
    return sorted((int(name), path) for name, path in names if name.isdecimal())


def _line(event: SinkEvent) -> bytes:
    payload = json.dumps({**asdict(event, recurse=False), "fields": dict(event.fields)}).encode()
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def _event(line: bytes) -> SinkEvent | None:
    """The event of a line; None if the line is torn or damaged."""
    checksum, _, payload = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or not payload or checksum != b"%08x" % zlib.crc32(payload):
        return None
    try:
        return SinkEvent(**json.loads(payload))
    except (TypeError, ValueError, RecursionError):  # whole, and of another version or hand
        return None


def _read_mark(descriptor: int) -> tuple[Position, int]:
    """The newest whole mark and the turn of the next one."""
    found = Position(0, 0), 0
    for half in (0, 1):
        checksum, _, text = os.pread(descriptor, _MARK_BYTES, half * _MARK_BYTES).strip().partition(b" ")
        if checksum == b"%08x" % zlib.crc32(text) and text:
            turn, segment, offset = (int(word) for word in text.split())
            if turn >= found[1]:
                found = Position(segment, offset), turn + 1
    return found


def _locked(slot: Path) -> int | None:
    """The slot's lock, to be closed; None if another process has it."""
    slot.mkdir(mode=0o700, exist_ok=True)
    file = os.open(slot / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if lock_file(file, wait=False, needed=False):
        return file
    os.close(file)
    return None


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
