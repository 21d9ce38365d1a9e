"""The spool: in order, whole, and nothing marked comes back, whatever happens between two calls."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ringbinder.events.spool import Spool
from ringbinder.protocol import SinkEvent

LIMIT = 1 << 30


def event(number: int, size: int = 0) -> SinkEvent:
    return SinkEvent(
        "example.org/test",
        3,
        {"number": number, "text": "é\n" * size},
        level="warning",
        repo="https://e.org/a",
    )


def opened(folder: Path, limit: int = LIMIT) -> Spool:
    spool = Spool(folder, limit, "never")
    spool.open()
    return spool


def all_of(spool: Spool, batch: int = 7) -> list[SinkEvent]:
    """Reads and marks what is there."""
    found: list[SinkEvent] = []
    while spool.count:
        read = spool.read(batch)
        found += read.events
        spool.mark(read)
    return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 6), st.integers(0, 200)),
        st.tuples(st.just("take"), st.integers(1, 9), st.booleans()),
        st.tuples(st.just("killed"), st.booleans(), st.just(0)),
        st.tuples(st.just("torn"), st.integers(1, 40), st.just(0)),
        st.tuples(st.just("full"), st.integers(1, 5), st.integers(0, 300)),
    ),
    max_size=40,
)


@given(steps=STEPS, segment=st.integers(1, 3000))
@example(steps=[("append", 2, 0), ("take", 9, True), ("killed", True, 0), ("append", 1, 0)], segment=1)
def test_any_history_keeps_order_and_loses_nothing(steps: list[tuple[str, int, int]], segment: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr("ringbinder.events.spool._SEGMENT_BYTES", segment)
        folder = Path(name)
        spool = opened(folder)
        expected: list[SinkEvent] = []
        number = 0
        for step, count, detail in steps:
            new = [event(number + at, detail) for at in range(count)]
            if step == "append":
                assert spool.append(new) == 0
                expected += new
                number += count
            elif step == "take":
                read = spool.read(count)
                assert read.events == expected[: len(read.events)]
                assert read.events or not expected or read.lines == 0
                if detail:
                    spool.mark(read)
                    del expected[: len(read.events)]
            elif step == "full":
                if _fits(spool, new, room=detail):
                    expected += new
                    number += count
            else:
                # Killed: nothing is closed in order. The descriptors go, and with them the lock.
                files = sorted(folder.rglob("*.events"))
                if step == "torn" and files:
                    with files[-1].open("ab") as file:
                        file.write(b"deadbeef {" * count)
                spool.close()
                spool = opened(folder)
            assert spool.count == len(expected)
        assert all_of(spool) == expected
        spool.close()
        assert all_of(opened(folder)) == []


def _fits(spool: Spool, events: list[SinkEvent], room: int) -> bool:
    """Appends as on a disk with `room` bytes left."""
    real = os.write

    def write(file: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(file, data[:room])
        room -= written
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ringbinder.events.spool.os.write", write)
        try:
            spool.append(events)
        except OSError:
            return False
    return True


def test_ids_times_and_fields_come_back_as_they_were(tmp_path: Path) -> None:
    events = [event(number, 3) for number in range(5)]
    spool = opened(tmp_path)
    spool.append(events)
    assert all_of(spool) == events


def test_a_damaged_line_costs_that_event_alone(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    events = [event(number) for number in range(5)]
    spool.append(events)
    (file,) = tmp_path.rglob("*.events")
    text = file.read_bytes()
    at = text.index(b'"number": 2')
    file.write_bytes(text[: at + 10] + b"7" + text[at + 11 :])
    read = spool.read(100)
    assert [found.fields["number"] for found in read.events] == [0, 1, 3, 4]
    assert read.damaged == 1
    spool.mark(read)
    assert spool.count == 0


@pytest.mark.parametrize("damage", [b"", b"\xff" * 128, b"0" * 64])
def test_without_its_mark_everything_comes_again(tmp_path: Path, damage: bytes) -> None:
    spool = opened(tmp_path)
    events = [event(number) for number in range(5)]
    spool.append(events)
    spool.mark(spool.read(3))
    spool.close()
    (mark,) = tmp_path.rglob("mark")
    mark.write_bytes(damage)
    assert all_of(opened(tmp_path)) == events


def test_one_half_of_the_mark_is_enough(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    events = [event(number) for number in range(6)]
    spool.append(events)
    for _ in range(2):
        spool.mark(spool.read(2))
    spool.close()
    (mark,) = tmp_path.rglob("mark")
    whole = mark.read_bytes()
    mark.write_bytes(whole[:64] + b"x" * 64)
    assert all_of(opened(tmp_path))[-2:] == events[-2:]


def test_beyond_its_bound_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit=20_000)
    dropped = 0
    held = spool.read(5)
    for number in range(500):
        dropped += spool.append([event(number)])
        assert spool.bytes <= 20_000
        if number == 50:
            held = spool.read(5)
    spool.mark(held)  # of a segment that is gone by now
    left = [found.fields["number"] for found in all_of(spool)]
    assert left == list(range(500 - len(left), 500))
    assert len(left) > 50
    assert dropped == 500 - len(left)


def test_one_event_larger_than_the_bound_is_still_written(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit=1000)
    spool.append([event(0)])
    assert spool.append([event(1, 2000)]) == 1
    assert [found.fields["number"] for found in all_of(spool)] == [1]


def test_segments_that_were_taken_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringbinder.events.spool._SEGMENT_BYTES", 1000)
    spool = opened(tmp_path)
    for number in range(100):
        spool.append([event(number)])
    assert len(list(tmp_path.rglob("*.events"))) > 10
    all_of(spool)
    assert len(list(tmp_path.rglob("*.events"))) <= 1
    spool.append([event(1)])
    assert len(all_of(spool)) == 1


def test_each_process_has_a_slot_and_the_next_takes_it_over(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.append([event(1)])
    second.append([event(2), event(3)])
    second.mark(second.read(1))
    assert first.read(10).events[0].fields["number"] == 1
    second.close()  # killed
    third = opened(tmp_path)  # the slot of `second`
    assert [found.fields["number"] for found in third.read(10).events] == [3]
    third.close()
    first.close()
    last = opened(tmp_path)
    assert sorted(found.fields["number"] for found in all_of(last)) == [1, 3]
    assert all_of(opened(tmp_path)) == []


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size`; the runner may write into one, so not a moment longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([event(0)])
    (file,) = tmp_path.rglob("*.events")
    with file_limit(file.stat().st_size + 50):
        with pytest.raises(OSError, match="too large"):
            spool.append([event(1, 100)])
        assert [found.fields["number"] for found in spool.read(9).events] == [0]
        spool.mark(spool.read(9))  # a mark takes no new room
    spool.append([event(2)])
    spool.close()
    assert [found.fields["number"] for found in all_of(opened(tmp_path))] == [2]


def test_first_mark_on_a_full_disk_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    spool.append([event(1), event(2)])
    write = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if offset + len(data) > os.fstat(file).st_size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    assert len(all_of(spool, batch=1)) == 2
    assert spool.count == 0
    spool.close()
    assert opened(tmp_path).count == 0


def test_what_was_taken_gives_its_room_back_when_there_is_none(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([event(0, 1000)])
    (file,) = tmp_path.rglob("*.events")
    with file_limit(file.stat().st_size + 50):
        with pytest.raises(OSError, match="too large"):
            spool.append([event(1, 1000)])
        spool.mark(spool.read(9))
        spool.append([event(2, 1000)])
    assert spool.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.events"))
    assert [found.fields["number"] for found in spool.read(9).events] == [2]
    assert not file.exists()


@pytest.mark.parametrize("policy", ["always", "interval", "never"])
def test_how_often_the_disk_is_asked_to_keep_it(tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("ringbinder.events.spool.os.fsync", asked.append)
    spool = Spool(tmp_path, LIMIT, policy)  # type: ignore[arg-type]
    spool.open()
    for number in range(10):
        spool.append([event(number)])
    spool.close()
    if policy == "always":
        assert len(asked) >= 10
    elif policy == "interval":
        assert 2 <= len(asked) < 10
    else:
        assert asked == []


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from ringbinder.protocol import SinkEvent
from ringbinder.events.spool import Spool
spool = Spool(Path({str(tmp_path)!r}))
spool.open()
spool.append([SinkEvent("s", 1, {{"number": 7}})])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -9
    spool = opened(tmp_path)
    assert [found.fields["number"] for found in all_of(spool)] == [7]
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


@pytest.mark.parametrize("payload", [b"[]", b"null", b"{}", b'{"schema": 1, "more": 2}', b"{", b"[" * 100_000, b"\xff"])
def test_whole_line_of_another_hand_counts_as_damaged(tmp_path: Path, payload: bytes) -> None:
    spool = opened(tmp_path)
    spool.append([event(1)])
    spool.close()
    [segment] = tmp_path.glob("*/*.events")
    segment.write_bytes(b"%08x %s\n" % (zlib.crc32(payload), payload) + segment.read_bytes())
    (segment.parent / "notes.events").write_text("not ours")
    spool = opened(tmp_path)
    read = spool.read(10)
    assert (read.damaged, [found.fields["number"] for found in read.events]) == (1, [1])
    spool.close()


def test_segment_that_was_taken_before_a_kill_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark is written first: a process may be killed before the segments below it are deleted."""
    monkeypatch.setattr("ringbinder.events.spool._SEGMENT_BYTES", 1)
    spool = opened(tmp_path)
    for number in range(3):
        spool.append([event(number)])
    first, *_ = sorted(tmp_path.rglob("*.events"))
    content = first.read_bytes()
    for _ in range(2):
        spool.mark(spool.read(1))
    spool.close()
    first.write_bytes(content)
    spool = opened(tmp_path)
    assert not first.exists()
    assert [found.fields["number"] for found in all_of(spool)] == [2]


def test_segment_that_was_shortened_does_not_hold_up_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringbinder.events.spool._SEGMENT_BYTES", 1)
    spool = opened(tmp_path)
    for number in range(3):
        spool.append([event(number)])
    min(tmp_path.rglob("*.events")).write_bytes(b"")
    assert [found.fields["number"] for found in all_of(spool)] == [1, 2]


def test_half_a_write_that_cannot_be_taken_back_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    spool.append([event(0)])

    def refuse(file: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("ringbinder.events.spool.os.ftruncate", refuse)
        assert not _fits(spool, [event(1)], room=50)
    spool.append([event(2)])
    assert [found.fields["number"] for found in all_of(spool)] == [0, 2]
    spool.close()
    assert all_of(opened(tmp_path)) == []


def test_spool_whose_slots_are_all_in_use_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringbinder.events.spool._SLOTS", 2)
    held = [opened(tmp_path), opened(tmp_path)]
    with pytest.raises(OSError, match=f"all 2 slots of {tmp_path} are in use"):
        opened(tmp_path)
    held.pop().close()
    opened(tmp_path).close()
