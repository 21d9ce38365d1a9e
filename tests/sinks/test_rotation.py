"""The jsonlines sink sets its file aside, by size and by time, and no line is lost or told twice."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from ringbinder.plugins.context import Context
from ringbinder.protocol import SinkEvent
from ringbinder.runtime.clock import SystemClock
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from ringbinder_sinks.jsonlines import JsonLinesOptions, JsonLinesSink


class Clock(SystemClock):
    now = 1_700_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make(tmp_path: Path, clock: Clock) -> AsyncIterator[Callable[..., JsonLinesSink]]:
    services = Services(structlog.get_logger(), Paths(tmp_path, tmp_path), clock)
    context = Context("jsonlines", services, services.log)
    yield lambda **options: JsonLinesSink(JsonLinesOptions(**options), context)
    await services.close()


def event(number: int, **fields: Any) -> SinkEvent:
    return SinkEvent("example.org/test", 1, {"number": number, **fields})


def numbers(folder: Path) -> list[list[int]]:
    """Of each file, those set aside first, in order."""
    files = [*sorted(folder.glob("events.jsonl.*")), folder / "events.jsonl"]
    return [[json.loads(line)["number"] for line in file.read_text().splitlines()] for file in files]


async def test_by_size(make: Callable[..., JsonLinesSink], clock: Clock, tmp_path: Path) -> None:
    sink = make(rotate_size=1000, rotate_keep=0)
    async with sink.lifespan():
        for number in range(50):
            clock.now += 1
            await sink.emit([event(number)])
        await sink.emit([event(50, text="x" * 5000)])  # larger than a whole file
    files = numbers(tmp_path)
    assert [number for file in files for number in file] == list(range(51))
    assert len(files) > 4
    assert all(path.stat().st_size <= 1000 for path in tmp_path.glob("events.jsonl.*"))


async def test_by_time(make: Callable[..., JsonLinesSink], clock: Clock, tmp_path: Path) -> None:
    day = 86400.0
    sink = make(rotate_every=day)
    async with sink.lifespan():
        for number, moment in enumerate((10.0, day - 1, day + 1, 2 * day - 1, 4 * day)):
            clock.now = 20_000 * day + moment
            await sink.emit([event(number)])
            os.utime(tmp_path / "events.jsonl", (clock.now, clock.now))
    assert numbers(tmp_path) == [[0, 1], [2, 3], [4]]


async def test_the_oldest_are_deleted_and_nothing_else(
    make: Callable[..., JsonLinesSink], clock: Clock, tmp_path: Path
) -> None:
    others = [tmp_path / "events.jsonl.gz", tmp_path / "events.jsonl.20200101", tmp_path / "other"]
    for path in others:
        path.write_text("not ours")
    sink = make(rotate_size=1, rotate_keep=2)
    async with sink.lifespan():
        for number in range(10):
            await sink.emit([event(number)])  # within one tick of the clock
    aside = sorted(path for path in tmp_path.glob("events.jsonl.2*Z*"))
    assert [json.loads(path.read_text())["number"] for path in aside] == [7, 8]
    assert all(path.exists() for path in others)


async def test_several_writers_rotate_one_file(make: Callable[..., JsonLinesSink], tmp_path: Path) -> None:
    sinks = [make(rotate_size=2000, rotate_keep=0) for _ in range(3)]
    await asyncio.gather(
        *[sinks[number % 3].emit([event(number * 10 + at) for at in range(10)]) for number in range(60)]
    )
    found = [number for file in numbers(tmp_path) for number in file]
    assert sorted(found) == list(range(600))
    for sink in sinks:
        async with sink.lifespan():
            pass


async def test_ids_on_request(make: Callable[..., JsonLinesSink], tmp_path: Path) -> None:
    sink, one = make(event_ids=True), event(1)
    async with sink.lifespan():
        await sink.emit([one])
    assert json.loads((tmp_path / "events.jsonl").read_text())["id"] == one.id
