"""Delivery from a spool: until the sink takes it, also after a restart and on a full disk."""

from __future__ import annotations

import asyncio
import errno
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from ringbinder.config.event_settings import DeliverySettings
from ringbinder.errors import EventsRejected
from ringbinder.events.delivery import Delivery
from ringbinder.events.spool import Read, Spool
from ringbinder.protocol import SinkEvent
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from structlog.testing import capture_logs

from .delivering import delivering

Send = Callable[[str, Sequence[SinkEvent]], Any]


def event(number: int) -> SinkEvent:
    return SinkEvent("example.org/test", 1, {"number": number})


class Sink:
    """Notes what it takes; `broken` says what it raises instead."""

    def __init__(self) -> None:
        self.broken: Exception | None = None
        self.taken: list[SinkEvent] = []
        self.calls: list[list[str]] = []
        self._news = asyncio.Event()

    async def __call__(self, name: str, events: Sequence[SinkEvent]) -> None:
        self.calls.append([event.id for event in events])
        self._news.set()
        if self.broken is not None:
            raise self.broken
        self.taken += events

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not done():
                self._news.clear()
                await self._news.wait()

    @property
    def numbers(self) -> list[int]:
        return [event.fields["number"] for event in self.taken]


class Site:
    """Deliveries one after another over one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.sink = Sink()

    def delivery(self, **settings: Any) -> Delivery:
        self.services = Services(structlog.get_logger(), Paths(self.state, self.state))
        given = {"mode": "at_least_once", "retry_first": 0.01, "retry_most": 0.05, **settings}
        return delivering({"s": DeliverySettings(**given)}, self.sink, self.services, flush_timeout=30)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.services.metrics.registry.get_sample_value(name, {"sink": "s", **labels})

    def count(self, outcome: str) -> int:
        return int(self.metric("ringbinder_sink_events_total", outcome=outcome) or 0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_sink_that_was_down_gets_everything_in_order(site: Site) -> None:
    site.sink.broken = OSError("down")
    delivery = site.delivery(batch=4)
    with capture_logs() as logs:
        async with delivery.running():
            for number in range(10):
                delivery.emit(event(number))
            await site.sink.until(lambda: len(site.sink.calls) >= 3)
            assert site.sink.calls[0] == site.sink.calls[1] == site.sink.calls[2]
            (health,) = delivery.health()
            assert (health.ok, health.ignore_failure) == (False, True)
            assert health.detail == {"mode": "at_least_once", "waiting": 10, "message": "OSError: down"}
            assert site.metric("ringbinder_sink_waiting") == 10
            assert site.metric("ringbinder_sink_healthy") == 0
            assert (site.metric("ringbinder_sink_oldest_seconds") or 0) > 0
            assert (site.metric("ringbinder_sink_spool_bytes") or 0) > 500
            site.sink.broken = None
            await site.sink.until(lambda: len(site.sink.taken) == 10)
    assert site.sink.numbers == list(range(10))
    assert (site.count("queued"), site.count("sent"), site.count("dropped")) == (10, 10, 0)
    assert site.count("retried") >= 8
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert delivery.health()[0].ok


async def test_what_was_not_taken_comes_after_a_restart_with_its_id(site: Site) -> None:
    site.sink.broken = OSError("down")
    first = site.delivery()
    async with first.running():
        for number in range(5):
            first.emit(event(number))
        await site.sink.until(lambda: bool(site.sink.calls))
    offered = list(dict.fromkeys(id for call in site.sink.calls for id in call))
    assert site.count("dropped") == 0
    site.sink.broken = None
    second = site.delivery()
    async with second.running():
        second.emit(event(5))
        await site.sink.until(lambda: len(site.sink.taken) == 6)
    assert site.sink.numbers == list(range(6))
    assert [event.id for event in site.sink.taken][: len(offered)] == offered
    assert (site.count("replayed"), site.count("queued"), site.count("sent")) == (5, 1, 6)
    assert site.metric("ringbinder_sink_waiting") == 0


async def test_events_of_a_sink_that_hangs_at_the_end_are_kept(site: Site) -> None:
    async def hang(name: str, events: Sequence[SinkEvent]) -> None:
        await asyncio.get_running_loop().create_future()

    services = Services(structlog.get_logger(), Paths(site.state, site.state))
    settings = DeliverySettings(mode="at_least_once")
    hanging = delivering({"s": settings}, hang, services, flush_timeout=0.1)
    with capture_logs() as logs:
        async with hanging.running():
            for number in range(3):
                hanging.emit(event(number))
    assert logs == []
    delivery = site.delivery()
    async with delivery.running():
        await site.sink.until(lambda: len(site.sink.taken) == 3)
    assert site.sink.numbers == [0, 1, 2]


async def test_rest_of_a_batch_comes_again_before_later_events(site: Site) -> None:
    async def send(name: str, events: Sequence[SinkEvent]) -> int | None:
        await site.sink(name, events[:2])
        return min(2, len(events))

    services = site.services = Services(structlog.get_logger(), Paths(site.state, site.state))
    delivery = delivering({"s": DeliverySettings(mode="at_least_once")}, send, services)
    async with delivery.running():
        for number in range(7):
            delivery.emit(event(number))
        await site.sink.until(lambda: len(site.sink.taken) == 7)
    assert site.sink.numbers == list(range(7))
    assert (site.count("sent"), site.count("retried")) == (7, 0)


async def test_one_rejected_event_is_counted_and_the_others_arrive(site: Site) -> None:
    async def send(name: str, events: Sequence[SinkEvent]) -> None:
        if any(event.fields["number"] == 3 for event in events):
            raise EventsRejected("no threes")
        await site.sink(name, events)

    services = site.services = Services(structlog.get_logger(), Paths(site.state, site.state))
    delivery = delivering({"s": DeliverySettings(mode="at_least_once")}, send, services)
    with capture_logs() as logs:
        async with delivery.running():
            for number in range(6):
                delivery.emit(event(number))
            await site.sink.until(lambda: len(site.sink.taken) == 5)
    assert site.sink.numbers == [0, 1, 2, 4, 5]
    assert (site.count("sent"), site.count("rejected"), site.count("retried")) == (5, 1, 0)
    assert [entry["event"] for entry in logs] == ["a sink's receiver rejects an event"]


class Disk:
    """Makes every write of the spool fail while it is full; counts the events that were written."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.written = 0
        self._news = asyncio.Event()
        real, loop = Spool.append, asyncio.get_running_loop()

        def append(spool: Spool, events: Sequence[SinkEvent]) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            dropped = real(spool, events)
            self.written += len(events)
            loop.call_soon_threadsafe(self._news.set)
            return dropped

        patch.setattr(Spool, "append", append)

    async def until_written(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.written < count:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr("ringbinder.events.disk_queue._DISK_PAUSE", 0.02)
    return Disk(monkeypatch)


async def test_with_a_full_disk_events_go_from_memory_and_in_order(site: Site, disk: Disk) -> None:
    delivery = site.delivery(batch=3)
    with capture_logs() as logs:
        async with delivery.running():
            delivery.emit(event(0))
            await site.sink.until(lambda: len(site.sink.taken) == 1)
            disk.full = True
            for number in range(1, 11):
                delivery.emit(event(number))
            await site.sink.until(lambda: len(site.sink.taken) == 11)
            (health,) = delivery.health()
            assert health.detail["message"] == "the spool cannot be used: No space left on device"
            disk.full = False
            for number in range(11, 21):
                delivery.emit(event(number))
            emitted = 21
            while not delivery.health()[0].ok:  # the next write finds out
                delivery.emit(event(emitted))
                emitted += 1
                await asyncio.sleep(0.02)
            await site.sink.until(lambda: len(site.sink.taken) == emitted)
    assert site.sink.numbers == list(range(emitted))
    assert site.count("dropped") == 0
    assert [entry["event"] for entry in logs] == [
        "the spool of a sink cannot be used; events wait in memory", "the spool can be written again"
    ]  # fmt: skip


async def test_full_disk_and_sink_down_drops_and_counts_the_oldest(site: Site, disk: Disk) -> None:
    site.sink.broken = OSError("down")
    disk.full = True
    delivery = site.delivery(queue=10, batch=5)
    with capture_logs():
        async with delivery.running():
            for number in range(30):
                delivery.emit(event(number))
            await site.sink.until(lambda: len(site.sink.calls) > 2)
            disk.full, site.sink.broken = False, None
            await site.sink.until(lambda: site.sink.numbers[-1:] == [29])
    assert site.sink.numbers == sorted(site.sink.numbers)
    assert site.count("sent") == len(site.sink.taken)
    assert site.count("dropped") == 30 - len(site.sink.taken)
    assert 10 <= len(site.sink.taken) <= 15


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.real("tmpfs")
async def test_a_real_disk_that_is_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What found room is sent in order, then what had to wait in memory; also after a start on the full disk."""
    monkeypatch.setattr("ringbinder.events.disk_queue._DISK_PAUSE", 0.02)
    site = Site(small_disk)
    site.sink.broken = OSError("down")
    delivery = site.delivery(batch=20)
    with capture_logs():
        async with delivery.running():
            emitted = 0
            while "No space left on device" not in str(delivery.health()[0].detail.get("message")):
                delivery.emit(SinkEvent("example.org/test", 1, {"number": emitted, "text": "x" * 2000}))
                emitted += 1
                await asyncio.sleep(0)
                assert emitted < 10_000
            site.sink.broken = None
            await site.sink.until(lambda: len(site.sink.taken) == emitted)
            assert site.sink.numbers == list(range(emitted))
            assert site.count("dropped") == 0
            site.sink.broken = OSError("down")
            calls = len(site.sink.calls)
            for number in range(emitted, emitted + 20):
                delivery.emit(event(number))
            await site.sink.until(lambda: len(site.sink.calls) > calls)
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    site.sink.broken = None
    with capture_logs():
        async with site.delivery().running():
            await site.sink.until(lambda: len(site.sink.taken) == emitted + 20)
    assert site.sink.numbers == list(range(emitted + 20))


async def test_spool_beyond_its_bound_drops_the_oldest_and_counts(site: Site, disk: Disk) -> None:
    site.sink.broken = OSError("down")
    delivery = site.delivery(spool=4000)
    with capture_logs() as logs:
        async with delivery.running():
            delivery.emit(event(0))
            await site.sink.until(lambda: bool(site.sink.calls))
            for number in range(1, 100):
                delivery.emit(event(number))
                await disk.until_written(number + 1)
            assert delivery.health()[0].detail["message"] == "OSError: down; events were dropped"
            site.sink.broken = None
            await site.sink.until(lambda: site.sink.numbers[-1:] == [99])
    offered, *kept = site.sink.numbers  # the first one was being offered when it had to go
    assert (offered, kept) == (0, list(range(100 - len(kept), 100)))
    assert 0 < site.count("dropped") == 100 - len(kept)
    assert [entry["event"] for entry in logs].count("a sink's spool is full; its oldest events are dropped") == 1


async def test_damaged_lines_of_the_spool_are_logged_and_counted(site: Site) -> None:
    site.sink.broken = OSError("down")
    first = site.delivery()
    with capture_logs():
        async with first.running():
            for number in range(3):
                first.emit(event(number))
            await site.sink.until(lambda: bool(site.sink.calls))
    [segment] = site.state.rglob("*.events")
    segment.write_bytes(segment.read_bytes().replace(b'"number": 1', b'"number": 7'))
    site.sink.broken = None
    with capture_logs() as logs:
        async with site.delivery().running():
            await site.sink.until(lambda: len(site.sink.taken) == 2)
    assert site.sink.numbers == [0, 2]
    assert site.count("dropped") == 1
    assert ("error", "lines of a spool are damaged", 1) in [
        (entry["log_level"], entry["event"], entry.get("count")) for entry in logs
    ]


async def test_spool_that_cannot_be_read_is_read_later(site: Site, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    read, failures = Spool.read, [OSError(errno.EIO, "Input/output error")]

    def failing(spool: Spool, limit: int) -> Read:
        if failures:
            raise failures.pop()
        return read(spool, limit)

    monkeypatch.setattr(Spool, "read", failing)
    delivery = site.delivery()
    with capture_logs() as logs:
        async with delivery.running():
            delivery.emit(event(0))
            await site.sink.until(lambda: len(site.sink.taken) == 1)
            message = delivery.health()[0].detail["message"]
    assert message == "the spool cannot be used: Input/output error"
    assert [entry["error"] for entry in logs] == ["[Errno 5] Input/output error"]


async def test_event_whose_mark_cannot_be_written_comes_once_more(
    site: Site, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(spool: Spool) -> None:
        raise OSError(errno.EIO, "Input/output error")

    first = site.delivery()
    with capture_logs():
        async with first.running():
            with monkeypatch.context() as patch:
                patch.setattr(Spool, "_write_mark", full)
                first.emit(event(0))
                await site.sink.until(lambda: len(site.sink.taken) == 1)
                while first.health()[0].ok:
                    await asyncio.sleep(0.01)
        async with site.delivery().running():
            await site.sink.until(lambda: len(site.sink.taken) == 2)
    assert site.sink.numbers == [0, 0]
    assert site.sink.taken[0].id == site.sink.taken[1].id


async def test_events_that_find_no_disk_at_the_end_count_as_dropped(site: Site, disk: Disk) -> None:
    site.sink.broken = OSError("down")
    disk.full = True
    delivery = site.delivery()
    with capture_logs() as logs:
        async with delivery.running():
            for number in range(3):
                delivery.emit(event(number))
            await site.sink.until(lambda: len(site.sink.calls) > 1)
    assert ("events are lost at the end", 3) in [(entry["event"], entry.get("count")) for entry in logs]
    assert (site.count("sent"), site.count("dropped")) == (0, 3)


async def test_sink_down_amid_a_rejected_batch_gets_the_rest_later(site: Site) -> None:
    """What it has taken one by one before comes again: the batch is marked as a whole."""
    down, up = asyncio.Event(), asyncio.Event()

    async def send(name: str, events: Sequence[SinkEvent]) -> None:
        if len(events) > 1:
            raise EventsRejected("one of them")
        if events[0].fields["number"] == 1 and not up.is_set():
            down.set()
            raise OSError("down")
        await site.sink(name, events)

    services = Services(structlog.get_logger(), Paths(site.state, site.state))
    settings = DeliverySettings(mode="at_least_once", linger=60, batch=3, retry_first=0.01)
    first = delivering({"s": settings}, send, services)
    with capture_logs():
        async with first.running():
            for number in range(3):
                first.emit(event(number))
            await asyncio.wait_for(down.wait(), 60)
        up.set()
        async with delivering({"s": settings}, send, services).running():
            await site.sink.until(lambda: site.sink.numbers[-1:] == [2])
    assert site.sink.numbers == [0, 0, 1, 2]


async def test_unmakeable_spool_folder_is_reported_and_events_go(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("not a folder")
    site = Site(tmp_path)
    delivery = site.delivery()
    with capture_logs() as logs:
        async with delivery.running():
            delivery.emit(event(1))
            await site.sink.until(lambda: len(site.sink.taken) == 1)
            assert "spool cannot be used" in delivery.health()[0].detail["message"]
    assert logs[0]["event"] == "the spool of a sink cannot be used; events wait in memory"
    assert site.sink.numbers == [1]
