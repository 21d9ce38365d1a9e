"""Sinks that sleep for ever, raise or flood: launches go on, and each is named in `/health` and the metrics."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

RUN = Path(__file__).parents[3] / "benchmarks/sinks/run.py"


@pytest.fixture
def benchmark_of_sinks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark's own module: its sinks are the ones to be tested."""
    spec = importlib.util.spec_from_file_location("benchmark_of_sinks", RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


async def test_launches_go_on_and_bad_sinks_are_named(
    benchmark_of_sinks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringbinder.events.queues._SLOW_SECONDS", 0.0)
    sinks = ["jsonlines", "sleeping", "raising", "flooding"]
    async with asyncio.timeout(120):
        row = await benchmark_of_sinks.measured(sinks, 100, 4)
    assert "has not answered for" in row["health"]["sink:sleeping"]
    assert "RuntimeError: a bug" in row["health"]["sink:raising"]
    assert "it emits too many events itself" in row["health"]["sink:flooding"]
    metrics = row["metrics"]
    for sink in ("sleeping", "raising", "flooding"):
        assert f'ringbinder_sink_healthy{{sink="{sink}"}} 0.0' in metrics
    assert 'ringbinder_sink_events_total{outcome="sent",sink="raising"} 0.0' in metrics
    assert 'ringbinder_plugin_errors_total{hook="emit",plugin="sink:raising"}' in metrics
    assert 'ringbinder_events_refused_total{plugin="flooding"}' in metrics
