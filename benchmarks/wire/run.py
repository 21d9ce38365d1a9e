"""Streams under load, with the fake plugins: `python -m benchmarks.wire.run [a b c d e] [--quick]`.

(a) cached launches, (b) one build with many watchers, (c) memory of an idle stream, (d) a cached launch while
builds stream, (e) watchers that never read. Prints one JSON object a line; seconds and bytes. Clients and server
share the machine's processors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from benchmarks.wire.load import Target, Watcher, floor, ringbinder

LINE = 80
CACHED = {"FakeRegistry.cached": "true"}


def tell(**row: Any) -> None:
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
    print(json.dumps(rounded), flush=True)


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {f"{name}_p50": statistics.median(ordered), f"{name}_p99": ordered[int(0.99 * (len(ordered) - 1))]}


async def launch(target: Target, spec: str) -> tuple[float, float]:
    """Seconds to `built` and to `ready`."""
    started = time.monotonic()
    watcher = await Watcher.opened(target, spec)
    try:
        (built, ready), _ = await watcher.until(b'"phase": "built"', b'"phase": "ready"')
    finally:
        watcher.close()
    return built - started, ready - started


async def cached_launches(quick: bool) -> None:
    async with ringbinder(CACHED) as target:
        for clients in (1, 32, 200):
            times: list[tuple[float, float]] = []
            end = time.monotonic() + (2 if quick else 8)

            async def client(number: int, end: float = end, times: list[tuple[float, float]] = times) -> None:
                while time.monotonic() < end:
                    times.append(await launch(target, f"o/n/r{number}"))

            cpu, started = target.cpu, time.monotonic()
            await asyncio.gather(*(client(number) for number in range(clients)))
            seconds = time.monotonic() - started
            tell(
                part="a", clients=clients, launches_per_second=len(times) / seconds,
                cpu_per_launch=(target.cpu - cpu) / len(times),
                **spread("built", [built for built, _ in times]),
                **spread("ready", [ready for _, ready in times]),
            )  # fmt: skip
    async with ringbinder({**CACHED, "FakeLauncher.launch_seconds": 5}) as target:
        for clients in (1, 32, 200):
            started = time.monotonic()
            times = list(await asyncio.gather(*(launch(target, f"o/n/h{n}") for n in range(clients))))
            tell(
                part="a, hub of 5 s", clients=clients, all_ready=time.monotonic() - started,
                **spread("ready", [ready for _, ready in times]),
            )  # fmt: skip


async def watched(target: Target, watchers: int) -> tuple[float, float, int]:
    """Seconds from the first watcher's first line to the last one's last, processor seconds, and lines got."""
    opened = []
    for number in range(watchers):
        opened.append(await Watcher.opened(target, "o/n/r", build_only=True))
        if number % 50 == 49:
            await asyncio.sleep(0.01)
    await asyncio.gather(*(watcher.until(b"Fake build of") for watcher in opened))
    cpu = target.cpu
    first = asyncio.create_task(opened[0].until(b"Fake build: line ", b'"phase": "pushing"'))
    rest = [asyncio.create_task(watcher.until(b'"phase": "pushing"')) for watcher in opened[1:]]
    ends = await asyncio.gather(first, *rest)
    seconds = max(times[-1] for times, _ in ends) - ends[0][0][0]
    spent = target.cpu - cpu
    for watcher in opened:
        watcher.close()
    return seconds, spent, sum(lines for _, lines in ends)


async def one_build(quick: bool) -> None:
    lines = 1000
    for watchers in (1, 10, 100) if quick else (1, 10, 100, 1000):
        silence = 1 + watchers / 200
        sets = {
            # Lines are measured, not the launches that follow.
            "BinderHub.enable_api_only_mode": "true",
            "FakeBuilder.lines": lines,
            "FakeBuilder.line_bytes": LINE,
            "FakeBuilder.build_seconds": silence,
        }
        async with ringbinder(sets) as target:
            seconds, cpu, got = await watched(target, watchers)
        async with floor(watchers, lines, LINE, 256) as target:
            least, least_cpu, _ = await watched(target, watchers)
        single = min(lines, 100_000 // watchers)  # a write each: a million would take minutes
        async with floor(watchers, single, LINE, 1) as target:
            line_by_line, line_cpu, _ = await watched(target, watchers)
        speed, by_line = got / seconds, single * watchers / line_by_line
        tell(
            part="b", watchers=watchers, lines_per_second=speed, floor=lines * watchers / least,
            floor_line_by_line=by_line, times_the_floor=seconds / least,
            times_the_floor_line_by_line=by_line / speed, cpu_us_per_line=1e6 * cpu / got,
            floor_cpu_us_per_line=1e6 * least_cpu / got,
            floor_line_by_line_cpu_us_per_line=1e6 * line_cpu / (single * watchers),
            missing=lines * watchers - got,
        )  # fmt: skip


async def idle_streams(quick: bool) -> None:
    count = 200 if quick else 1000
    async with ringbinder({"FakeBuilder.build_seconds": 600}) as target:
        warm = [await Watcher.opened(target, "o/n/r") for _ in range(50)]
        await asyncio.gather(*(watcher.until(b"Fake build of") for watcher in warm))
        before = target.memory
        opened = [await Watcher.opened(target, "o/n/r") for _ in range(count)]
        await asyncio.gather(*(watcher.until(b"Fake build of") for watcher in opened))
        tell(part="c", streams=count, bytes_per_stream=(target.memory - before) // count)
        for watcher in warm + opened:
            watcher.close()


async def launch_under_load(quick: bool) -> None:
    builds, lines = 30, 3000
    sets = {"FakeBuilder.lines": lines, "FakeBuilder.build_seconds": 1, "FakeBuilder.line_bytes": LINE}
    async with ringbinder({**sets, "BinderHub.concurrent_build_limit": builds}) as target:
        await launch(target, "o/cached/r")
        alone = [await launch(target, "o/cached/r") for _ in range(20)]
        opened = [await Watcher.opened(target, f"o/n{number}/r") for number in range(builds)]
        streams = [asyncio.create_task(w.until(b"Fake build: line ", b'"phase": "built"')) for w in opened]
        times = []
        while not all(stream.done() for stream in streams):
            started = time.monotonic()
            _, ready = await launch(target, "o/cached/r")
            times.append((started, ready))
        ends = [stream.result() for stream in streams]
        begin, end = min(t[0] for t, _ in ends), max(t[-1] for t, _ in ends)
        busy = [ready for started, ready in times if begin - 0.05 <= started <= end]
        tell(
            part="d", alone=statistics.median(ready for _, ready in alone), launches=len(busy), worst=max(busy),
            streaming_seconds=end - begin, lines=sum(lines for _, lines in ends), **spread("ready", busy),
        )  # fmt: skip
        for watcher in opened:
            watcher.close()


async def never_reading(quick: bool) -> None:
    lines, count = 70_000, 20 if quick else 100
    sets = {"FakeBuilder.lines": lines, "FakeBuilder.line_bytes": 100, "FakeBuilder.build_seconds": 2}

    async def grown(deaf: int) -> int:
        async with ringbinder(sets) as target:
            opened = [await Watcher.opened(target, "o/n/r", buffer=1024) for _ in range(deaf)]
            for watcher in opened:
                cast(asyncio.Transport, watcher.writer.transport).pause_reading()
            hearing = await Watcher.opened(target, "o/n/r")
            await hearing.until(b"Fake build of")
            before = target.memory
            await hearing.until(b'"phase": "built"')
            await asyncio.sleep(2)  # its log is kept by then
            after: int = target.memory
            for watcher in (*opened, hearing):
                watcher.close()
            return after - before

    with_none, with_all = await grown(0), await grown(count)
    tell(part="e", watchers=count, shared_log=with_none, bytes_per_watcher=(with_all - with_none) // count)


PARTS: dict[str, Callable[[bool], Awaitable[None]]] = {
    "a": cached_launches, "b": one_build, "c": idle_streams, "d": launch_under_load, "e": never_reading,
}  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="shorter and with fewer clients")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536) if most > 0 else 65536, most))
    for part in given.parts:
        await PARTS[part](given.quick)


if __name__ == "__main__":
    asyncio.run(main())
