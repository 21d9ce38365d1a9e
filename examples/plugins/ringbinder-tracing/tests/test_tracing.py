"""The plugin as installed, with OpenTelemetry's own recorder of spans."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("ringbinder_tracing", reason="pip install ./examples/plugins/ringbinder-tracing")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from ringbinder.testing import memory_app

EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def recording() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    EXPORTER.clear()
    return EXPORTER


def test_it_is_found_by_being_installed() -> None:
    (point,) = entry_points(group="ringbinder.plugins", name="tracing")
    assert point.dist is not None
    assert point.dist.name == "ringbinder-tracing"


async def test_every_stage_has_a_span(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    async with memory_app(tmp_path, installed=True) as app:
        events = await app.launch("fake/a/b/main")
    assert events[-1].phase == "ready", events[-1].message
    found = {span.name: dict(span.attributes or {}) for span in spans.get_finished_spans()}
    assert set(found) == {f"ringbinder {stage}" for stage in ("resolve", "check", "build", "push", "launch")}
    assert found["ringbinder resolve"] == {"ringbinder.provider": "fake", "ringbinder.spec": "a/b/main"}
    assert found["ringbinder build"]["ringbinder.repo"] == "https://fake.invalid/a/b"


async def test_an_error_is_recorded_and_goes_on(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    async with memory_app(tmp_path, installed=True, Fake={"fail_at": "build"}) as app:
        events = await app.launch("fake/a/b/main")
    assert events[-1].phase == "failed"
    assert "fail_at" in events[-1].message
    (build,) = [span for span in spans.get_finished_spans() if span.name == "ringbinder build"]
    assert build.status.status_code is StatusCode.ERROR
    assert "BuildError" in str(build.status.description)
