"""The event log: positions are dense and stable, a bound leaves one gap, a reader that waits is woken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder import Event
from ringbinder.launches.event_buffer import EventLog
from ringbinder.runtime.wakeup import Wakeup


def line(text: str) -> Event:
    return Event("building", text)


@given(
    sizes=st.lists(st.integers(0, 40), max_size=400),
    max_events=st.integers(1, 30),
    max_bytes=st.integers(1, 3000),
)
def test_bounds_keep_the_newest_events(sizes: list[int], max_events: int, max_bytes: int) -> None:
    log = EventLog(max_events, max_bytes)
    events = [line("x" * size) for size in sizes]
    for number, event in enumerate(events):
        log.append(event)
        assert log.end == number + 1
        assert log.newest is event
        kept = events[log.kept_from : log.end]
        assert [event for _, event in log.read(log.kept_from, log.end)] == kept
        assert 1 <= len(kept) <= max_events
        assert len(kept) == 1 or sum(event.size for event in kept) <= max_bytes
        with_one_more = events[max(0, log.kept_from - 1) : log.end]
        assert (
            log.kept_from == 0
            or len(with_one_more) > max_events
            or sum(event.size for event in with_one_more) > max_bytes
        ), "nothing is dropped without need"


@given(
    total=st.integers(0, 300),
    max_events=st.integers(1, 50),
    start=st.integers(0, 310),
    length=st.integers(0, 310),
    limit=st.integers(1, 20),
)
def test_what_is_gone_is_one_gap_in_its_place(total: int, max_events: int, start: int, length: int, limit: int) -> None:
    log = EventLog(max_events)
    events = [line(str(number)) for number in range(total)]
    for event in events:
        log.append(event)
    stop = min(start + length, total)
    found = log.read(start, stop, limit)
    position = start
    for number, event in found:
        if gap := event.data.get("gap"):
            assert position == start, "a gap comes first"
            assert number == start + gap - 1
            assert number == min(log.kept_from, stop) - 1
            assert str(gap) in event.message
        else:
            assert number == position
            assert event is events[number]
        position = number + 1
    whole = [number for number, event in found if "gap" not in event.data]
    wanted = range(max(start, min(log.kept_from, stop)), stop)
    assert whole == list(wanted)[:limit]


def test_a_gap_has_the_phase_of_what_is_gone() -> None:
    log = EventLog(max_events=2)
    for phase in ("waiting", "built", "launching", "launching"):
        log.append(Event(phase, ""))
    ((position, gap), *_) = log.read(0, log.end)
    assert (position, gap.phase, gap.data) == (1, "waiting", {"gap": 2})


def test_an_event_that_is_no_json_does_not_enter() -> None:
    log = EventLog()
    with pytest.raises(TypeError):
        log.append(Event("building", "x", {"layer": object()}))
    assert (log.end, log.read(0, log.end)) == (0, [])
    log.append(line("x"))
    assert log.end == 1


def test_a_closed_log_takes_nothing() -> None:
    log = EventLog()
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.append(line("x"))


def test_an_append_takes_the_same_time_in_a_long_log() -> None:
    """Counted in moves of entries, not in seconds: the prefix is cut off only now and then."""
    log = EventLog(max_events=1000)
    for number in range(20_000):
        log.append(line(str(number)))
        assert len(log._events) <= 2 * 1000 + 65
    assert log.kept_from == 19_000


async def test_the_bell_wakes_all_who_wait_and_forgets_who_left() -> None:
    wakeup = Wakeup()
    waiting = [asyncio.create_task(wakeup.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    wakeup.notify_all()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [task.cancelled() for task in waiting] == [True, False, False]
    again = asyncio.create_task(wakeup.wait())
    await asyncio.sleep(0)
    assert not again.done()
    wakeup.notify_all()
    await again


async def test_bounded_wait_for_a_wakeup_reports_its_end() -> None:
    wakeup = Wakeup()
    assert await wakeup.wait(0.01) is False
    waiting = asyncio.create_task(wakeup.wait(60))
    await asyncio.sleep(0)
    wakeup.notify_all()
    assert await waiting is True


def render(events: Sequence[tuple[int, Event]]) -> bytes:
    return b"".join(b"%d %s\n" % (number, event.json) for number, event in events)


def test_events_are_rendered_once_for_successive_readers() -> None:
    log = EventLog()
    for number in range(640):
        log.append(line(f"{number:080}\n"))
    first, second = ([log.rendered(at, at + 64, 0, render) for at in range(0, 640, 64)] for _ in range(2))
    assert [id(frames) for frames in first] == [id(frames) for frames in second]


def test_rendered_events_that_are_kept_are_bounded() -> None:
    log = EventLog()
    log.append(line("x" * 600_000))
    log.append(line("y" * 600_000))
    oldest, newest = log.rendered(0, 1, 0, render), log.rendered(1, 2, 0, render)
    assert log.rendered(1, 2, 0, render) is newest
    assert log.rendered(0, 1, 0, render) is not oldest
    assert log.rendered(0, 1, 0, render) == oldest
