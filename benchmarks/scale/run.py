"""A simulated day of a public Binder on the small API server, with a compressed clock.

    python -m benchmarks.scale.run [--times 1] [--seconds 60] [--check]

``--times 1`` is 6,250 launches and up to 30 builds at once, ``--times 16`` is 100,000 and 480. The application is real,
with the builder `kubernetes` and quotas from watched pods; repositories, registry and hub take no time. The API server
runs in a process of its own.
``--check`` fails if a launch failed, if an image was built twice, or if a launch costs more requests than it should.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar

import psutil
import structlog
from attrs import define, field
from ringbinder import Image, ImageKind, Launcher, LaunchRequest, Log, Plan, Registry, Secret, Server, Target
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder_builders.kubernetes import KubernetesBuilder
from ringbinder_server.serve import collect_seldom

from benchmarks.scale.day import BUILDS_AT_ONCE, DAY, LAUNCHES, Arrival, day

ROOT = Path(__file__).parents[2]
MOST_PER_BUILD = 6.0
"""Requests to the API server: create, follow the log, look for its end, delete; and what a restart of a watch costs."""
MOST_PER_LAUNCH = 0.7


class KnownImages(Registry[Any]):
    """Has the popular images from the beginning, others once they are built."""

    holds: ClassVar[ImageKind] = "oci"
    built: ClassVar[set[str]] = set()

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        there = "popular" in plan.image or plan.image in self.built
        return Image(plan.image, "oci", pushed=True) if there else None

    async def target(self, plan: Plan) -> Target:
        return Target("oci", plan.image)


class Builder(KubernetesBuilder):
    async def build(self, plan: Plan, target: Target, log: Log) -> Image:
        image = await super().build(plan, target, log)
        KnownImages.built.add(image.name)
        return image


class Hub(Launcher[Any]):
    """Stands for a JupyterHub: a pod for every user."""

    runs: ClassVar[ImageKind] = "oci"
    address: ClassVar[str] = ""
    _number = 0

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        self._number += 1
        name = f"jupyter-{self._number}"
        await self.context.http.post(f"{self.address}/-/users/{name}", params={"image": image.name})
        return Server(name, "http://127.0.0.1:1/", Secret(name), image.name)

    async def stop(self, server: Server) -> bool:
        return True


@define
class Measured:
    """Seconds, but for `memory`: bytes."""

    found: list[float] = field(factory=list)
    """From the click to `ready`, of launches whose image was there."""
    built: list[float] = field(factory=list)
    failures: Counter[str] = field(factory=Counter)
    lags: list[float] = field(factory=list)
    servers: list[int] = field(factory=list)
    memory: list[int] = field(factory=list)


def points(group: str) -> Sequence[EntryPoint]:
    ours: dict[str, type] = {
        "ringbinder.registries": KnownImages,
        "ringbinder.builders": Builder,
        "ringbinder.launchers": Hub,
    }

    class Ours(EntryPoint):
        def load(self) -> Any:
            return ours[self.group]

    return [Ours("day", "nowhere:day", group)] if group in ours else list(entry_points(group=group))


@asynccontextmanager
async def application(folder: Path, times: float, seconds: float) -> AsyncIterator[Ringbinder]:
    scale = seconds / DAY
    content = {
        "Ringbinder": {
            "builder": "day", "registry": "day", "launcher": "day", "extra_plugins": ["fake"],
            "state_folder": str(folder / "state"), "cache_folder": str(folder / "cache"),
            "session_memory": 600 * scale, "max_sessions": 1_000_000, "max_sessions_per_client": 1_000_000,
        },
        "BinderHub": {
            "pod_quota": 100_000,
            "concurrent_build_limit": round(BUILDS_AT_ONCE * max(times, 1)),
            "build_namespace": "binder",
        },
        "RateLimiter": {"limit": 0},
        "KubernetesBuildExecutor": {"push_secret": ""},
        "KubernetesCleaner": {"keep_finished": 60 * scale, "cleanup_interval": max(0.1, 60 * scale)},
    }  # fmt: skip
    file = folder / "config.yaml"
    file.write_text(json.dumps(content))
    logger = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(50))
    async with running(load([file]), logger, entry_points=points) as app:
        yield app


async def one(app: Ringbinder, arrival: Arrival, measured: Measured) -> None:
    began, waited, last = time.monotonic(), False, "nothing"
    session = app.launch(LaunchRequest("fake", f"owner/{arrival.repository}/main"))
    async for batch in session.read():
        for _, event in batch:
            waited = waited or event.phase in ("waiting", "building")
            last = event.phase if event.phase != "failed" else event.message.strip()
    if last == "ready":
        (measured.built if waited else measured.found).append(time.monotonic() - began)
    else:
        measured.failures[last] += 1


async def observe(measured: Measured) -> None:
    """Event-loop lag and memory, all along."""
    process = psutil.Process()
    while True:
        due = time.monotonic() + 0.05
        await asyncio.sleep(0.05)
        measured.lags.append(time.monotonic() - due)
        if len(measured.lags) % 20 == 0:
            measured.memory.append(process.memory_info().rss)


async def simulate(folder: Path, times: float, seconds: float) -> tuple[Measured, dict[str, Any], float]:
    """The day; what was measured, what the API server was asked, and how many seconds it took."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.scale.cluster", str(folder), str(seconds), cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    assert await server.stdout.readline() == b"ready\n"
    kubeconfig = folder / "kubeconfig"
    Hub.address = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    measured = Measured()
    async with application(folder, times, seconds) as app:
        collect_seldom()  # as the server does
        watching = asyncio.create_task(observe(measured))
        began, clients = time.monotonic(), []
        for arrival in day(times):
            wait = began + arrival.at * seconds / DAY - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            clients.append(asyncio.create_task(one(app, arrival, measured)))
        await asyncio.gather(*clients)
        took = time.monotonic() - began
        watching.cancel()
    server.stdin.close()
    asked = json.loads(await server.stdout.readline())
    await server.wait()
    return measured, asked, took


def part(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def report(times: float, seconds: float, measured: Measured, asked: dict[str, Any], took: float) -> dict[str, Any]:
    launches = round(LAUNCHES * times)
    requests = Counter(asked["requests"])
    # Watches and lists go by time, not by launches: a compressed day has fewer, a real one 1440 of each watch.
    per_time = sum(count for name, count in requests.items() if name.startswith(("watch", "list pods")))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = usage.ru_maxrss * 1024
    return {
        "launches": launches,
        "of them failed": dict(measured.failures),
        "builds": asked["pods"],
        "seconds that the day took": round(took, 1),
        "requests by kind": dict(sorted(requests.items())),
        "requests per launch": round((requests.total() - per_time) / launches, 3),
        "requests per build": round((requests.total() - per_time) / asked["pods"], 2),
        "watches and lists": per_time,
        "ready, image there: p50, p99 (ms)": [round(part(measured.found, share) * 1000, 1) for share in (0.5, 0.99)],
        "ready, built: p50, p99 (s)": [round(part(measured.built, share), 2) for share in (0.5, 0.99)],
        "event-loop lag: mean, p99, most (ms)": [
            round(value * 1000, 1)
            for value in (statistics.fmean(measured.lags), part(measured.lags, 0.99), max(measured.lags))
        ],
        "CPU per launch (ms)": round((usage.ru_utime + usage.ru_stime) * 1000 / launches, 2),
        "memory: begin, end, peak (MB)": [
            round(size / 1e6) for size in (measured.memory[0], measured.memory[-1], peak)
        ],
    }  # fmt: skip


def problems(times: float, result: dict[str, Any]) -> list[str]:
    images = len({arrival.repository for arrival in day(times) if "popular" not in arrival.repository})
    found = []
    if result["of them failed"]:
        found.append(f"launches failed: {result['of them failed']}")
    if result["builds"] != images:
        found.append(f"{result['builds']} build pods for {images} images")
    if result["requests per launch"] > MOST_PER_LAUNCH:
        found.append(f"{result['requests per launch']} requests per launch; at most {MOST_PER_LAUNCH}")
    if result["requests per build"] > MOST_PER_BUILD:
        found.append(f"{result['requests per build']} requests per build; at most {MOST_PER_BUILD}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=float, default=1.0, help="how many times the usual number of launches")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the day takes")
    parser.add_argument("--check", action="store_true", help="fail if it is not as it should be")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KUBECONFIG"] = f"{folder}/kubeconfig"
        outcome = asyncio.run(simulate(Path(folder), arguments.times, arguments.seconds))
    result = report(arguments.times, arguments.seconds, *outcome)
    print(json.dumps(result, indent=2))
    wrong = problems(arguments.times, result) if arguments.check else []
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
