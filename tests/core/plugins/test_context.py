"""What core lends to a plugin is this plugin's own, where two could get into each other's way."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Summary, generate_latest
from ringbinder import Context, KeyValueStore, PluginError, PluginMetrics
from ringbinder.runtime.metrics import Metrics
from ringbinder.testing import FakeClock, make_context, memory_app
from ringbinder_fake import FakeProvider


class Counting(FakeProvider):
    """Counts and keeps."""

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self.store = context.store
        self.requests = context.metrics.counter("shelf_requests", "Requests to the shelf", ["status"])
        self.seconds = context.metrics.histogram("shelf_answer_seconds", "Time of an answer", buckets=[1, 5])
        self.quota = context.metrics.gauge("shelf_quota", "What is left of the quota", shared=True)


def shown(metrics: Metrics) -> list[str]:
    """The lines of ``/metrics`` that are of shelves."""
    return [line for line in generate_latest(metrics.registry).decode().splitlines() if "shelf" in line]


async def test_instances_of_one_plugin_have_own_metrics_and_store(tmp_path: Path) -> None:
    instances = {"other": {"plugin": "shelf"}}
    async with memory_app(tmp_path, {"provider:shelf": Counting}, Ringbinder={"instances": instances}) as memory:
        one, other = (memory.app.plugins.get("provider", name) for name in ("shelf", "other"))
        one.requests.labels("found").inc()
        other.requests.labels("found").inc(2)
        one.seconds.observe(3)
        one.quota.set(7)
        other.quota.set(6)
        lines = shown(memory.app.services.metrics)
        await one.store.put("key", 1)
        assert await other.store.get("key") is None
    assert lines.count("# TYPE shelf_requests_total counter") == 1
    assert 'shelf_requests_total{plugin="provider:shelf",status="found"} 1.0' in lines
    assert 'shelf_requests_total{plugin="provider:other",status="found"} 2.0' in lines
    assert 'shelf_answer_seconds_bucket{le="5.0",plugin="provider:shelf"} 1.0' in lines
    assert 'shelf_answer_seconds_count{plugin="provider:other"} 0.0' in lines
    assert [line for line in lines if line.startswith("shelf_quota")] == ["shelf_quota 6.0"]
    assert await KeyValueStore(tmp_path / "state" / "plugins" / "provider-shelf" / "store.sqlite").get("key") == 1


def test_metric_that_is_asked_for_again_is_the_same() -> None:
    metrics = PluginMetrics("provider:shelf", Metrics())
    assert metrics.counter("shelf_requests", "Requests") is metrics.counter("shelf_requests", "Requests")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda metrics: metrics.counter("binderhub_launch_count", "x"), "Ringbinder's own"),
        (lambda metrics: metrics.counter("binderhub_launch_count_total", "x"), "Ringbinder's own"),
        (lambda metrics: metrics.gauge("shelf_x", "x", ["plugin"]), "Ringbinder's own"),
        (lambda metrics: metrics.gauge("shelf_books", "x"), "a counter has this name"),
        (lambda metrics: metrics.counter("shelf_pages", "x", ["size"]), "it has the labels none"),
        (lambda metrics: metrics.counter("shelf books", "x"), "a name is made of"),
    ],
)
def test_metric_that_cannot_be_is_refused(make: Callable[[PluginMetrics], object], words: str) -> None:
    core = Metrics()
    PluginMetrics("provider:other", core).counter("shelf_books", "Books")
    metrics = PluginMetrics("provider:shelf", core)
    metrics.counter("shelf_pages", "Pages")
    with pytest.raises(PluginError, match=rf"plugin 'provider:shelf': the metric .* cannot be made: .*{words}"):
        make(metrics)


class Broken:
    def collect(self) -> Any:
        raise RuntimeError("the shelf is gone")


def test_broken_collector_hides_its_plugin_alone() -> None:
    core = Metrics()
    one, other = PluginMetrics("sink:one", core), PluginMetrics("sink:other", core)
    one.registry.register(Broken())
    one.counter("shelf_requests", "Requests")
    Summary("shelf_sizes", "Sizes", registry=other.registry).observe(2)
    assert 'shelf_sizes_sum{plugin="sink:other"} 2.0' in shown(core)
    assert "binderhub_launch_count" in generate_latest(core.registry).decode()


@pytest.mark.parametrize(("kind", "name", "folder"), [
    ("provider", "shelf", "provider-shelf"), ("", "shelf", "shelf"), ("policy", "../x:y", "policy-..%2Fx%3Ay"),
])  # fmt: skip
def test_state_folder_is_private_and_of_one_plugin(tmp_path: Path, kind: str, name: str, folder: str) -> None:
    services = make_context(tmp_path, "other").services
    context = Context(name, services, services.log, kind=kind)
    assert not services.paths.state.exists()
    made = context.state_folder
    assert made == services.paths.state / "plugins" / folder
    for part in (made, made.parent, services.paths.state):
        assert stat.S_IMODE(part.stat().st_mode) == 0o700
    assert context.state_folder == made


async def test_cache_asks_once_and_again_when_time_is_over(tmp_path: Path) -> None:
    clock = FakeClock()
    context = make_context(tmp_path, "shelf", clock=clock)
    cache, asked = context.cache(10), 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if asked == 2:
            raise RuntimeError("the shelf is gone")
        return asked

    assert await asyncio.gather(*(cache.load("books", ask, 60) for _ in range(3))) == [1, 1, 1]
    assert await cache.load("books", ask, 60) == 1
    await clock.advance(61)
    results = await asyncio.gather(*(cache.load("books", ask, 60) for _ in range(2)), return_exceptions=True)
    assert [str(error) for error in results] == ["the shelf is gone"] * 2
    assert await cache.load("books", ask, lambda value: value - 3.0) == 3
    assert await cache.load("books", ask, 60) == 4
