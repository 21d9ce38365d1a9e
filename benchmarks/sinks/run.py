"""Launches beside sinks that misbehave: what a launch takes with and without them.

    python benchmarks/sinks/run.py [--launches 100] [--at-once 4] [--rounds 20] [--folder /dev/shm]

Everything is real but for the fake provider, registry, builder and launcher, which take no time: what is
measured is Ringbinder itself. Every launch builds, hence emits seven events to each sink. Many short rounds, in
which the mixes of sinks take turns, spread what else the machine does evenly over them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import generate_latest
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder.config.options import NoOptions
from ringbinder.model import LaunchRequest
from ringbinder.plugins.bases import Sink
from ringbinder.plugins.context import Context
from ringbinder.protocol import SinkEvent

NOISE = {
    "$id": "noisy/heard",
    "version": 1,
    "question": "How much noise can a sink make?",
    "type": "object",
    "additionalProperties": False,
    "properties": {"of": {"type": "string"}},
}


class Sleeping(Sink[NoOptions]):
    """Sleeps for ever."""

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        await asyncio.get_running_loop().create_future()


class Raising(Sink[NoOptions]):
    """Takes nothing."""

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        raise RuntimeError("a bug")


class Flooding(Sink[NoOptions]):
    """Answers each event with ten of its own, and emits for ever beside that."""

    def __init__(self, config: NoOptions, context: Context) -> None:
        super().__init__(config, context)
        context.events.register(NOISE)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.context.tasks.start(self._flood(), "flood")
        yield

    async def _flood(self) -> None:
        while True:
            for _ in range(100):
                self.context.events.emit("noisy/heard", of="nothing")
            await asyncio.sleep(0.005)

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        for event in events:
            for _ in range(10):
                self.context.events.emit("noisy/heard", of=event.schema)


def points(group: str) -> list[EntryPoint]:
    found = list(entry_points(group=group))
    if group == "ringbinder.sinks":
        found += [EntryPoint(name.lower(), f"{__name__}:{name}", group) for name in ("Sleeping", "Raising", "Flooding")]
    return found


async def measured(sinks: Sequence[str], launches: int, at_once: int, below: str | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=below) as folder, Path("/dev/null").open("w") as nowhere:
        sets = {
            "Ringbinder.builder": "fake",
            "Ringbinder.registry": "fake",
            "Ringbinder.launcher": "fake",
            "Ringbinder.extra_plugins": "[fake]",
            "Ringbinder.sinks": json.dumps(list(sinks)),
            "Ringbinder.state_folder": folder,
            "Ringbinder.cache_folder": folder,
            "EventLog.flush_timeout": "0.1",
        }
        # The one that raises keeps its events on disk and tries again and again.
        if "raising" in sinks:
            sets["EventLog.delivery.raising"] = "{mode: at_least_once, retry_first: 10ms, retry_most: 100ms}"
        config = load((), environ={}, sets=[f"{name}={value}" for name, value in sets.items()])
        log = structlog.wrap_logger(
            structlog.PrintLogger(nowhere),
            wrapper_class=structlog.make_filtering_bound_logger(40),
        )
        async with running(config, log, entry_points=points) as app:
            await _timed(app, 50, at_once, "warm")
            seconds = await _timed(app, launches, at_once, "measured")
            unwell = {
                line.service: line.detail.get("message", "")
                for line in await app.health()
                if line.service.startswith("sink:")
            }
            metrics = generate_latest(app.services.metrics.registry).decode()
        return {"seconds": seconds, "health": unwell, "metrics": metrics}


async def _timed(app: Ringbinder, launches: int, at_once: int, owner: str) -> list[float]:
    slots, seconds = asyncio.Semaphore(at_once), []

    async def launch(number: int) -> None:
        async with slots:
            began = time.perf_counter()
            session = app.launch(LaunchRequest("fake", f"{owner}/r{number}/main"))
            async for batch in session.read():
                if batch and batch[-1][1].phase == "ready":
                    seconds.append(time.perf_counter() - began)
            await asyncio.sleep(0)

    await asyncio.gather(*(launch(number) for number in range(launches)))
    assert len(seconds) == launches, "some launches failed"
    return seconds


MIXES: tuple[tuple[str, ...], ...] = (
    (),
    ("jsonlines",),
    ("jsonlines", "sleeping"),
    ("jsonlines", "raising"),
    ("jsonlines", "flooding"),
    ("jsonlines", "sleeping", "raising", "flooding"),
)


async def main(launches: int, at_once: int, rounds: int, below: str | None) -> None:
    """Prints, for each mix of sinks, how long the launches of all rounds took, and that beside no sink at all."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for sinks in MIXES:
            found.setdefault(sinks, []).append(await measured(sinks, launches, at_once, below))
    base: list[float] = []
    for sinks, rows in found.items():
        seconds = [second for row in rows for second in row["seconds"]]
        parts = statistics.quantiles(seconds, n=100)
        shown = [parts[49], parts[98], max(seconds)]
        base = base or shown
        times = {
            name: [round(value * 1000, 1), round(value / without, 2)]
            for name, value, without in zip(("p50", "p99", "max"), shown, base, strict=True)
        }
        line = {"sinks": sinks, "ms_and_ratio": times, "health": rows[-1]["health"]}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launches", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", help="where the state is; one in memory leaves other users of the disk out")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.launches, arguments.at_once, arguments.rounds, arguments.folder))
