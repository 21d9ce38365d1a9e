"""`events_of`: what the sinks are told while something happens, with the fake plugins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from attrs import define
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder.launches.sessions import Session
from ringbinder.model import Client, LaunchRequest
from ringbinder.protocol import SinkEvent


@define
class Heard:
    """A running application, and what its sinks would be told."""

    app: Ringbinder
    events: list[SinkEvent]

    async def launch(self, spec: str = "a/b/main", provider: str = "fake", **request: Any) -> Session:
        """A launch, read to its end."""
        client = Client(ip="192.0.2.55", host="binder.example", origin="https://origin.example")
        session = self.app.launch(LaunchRequest(provider, spec, client=client, **request))
        async for _ in session.read():
            pass
        assert session.task is not None
        await session.task
        return session

    def names(self) -> list[str]:
        return [event.schema.rpartition("/")[2] for event in self.events]

    def one(self, name: str) -> Mapping[str, Any]:
        """The fields of the one event of that name."""
        (event,) = [event for event in self.events if event.schema.rpartition("/")[2] == name]
        return event.fields


Hear = Callable[..., AbstractAsyncContextManager[Heard]]


@pytest.fixture
def hear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hear:
    """`async with hear({"Section.option": value}, plugin) as heard`."""

    @asynccontextmanager
    async def start(sets: Mapping[str, str] | None = None, *plugins: object) -> AsyncIterator[Heard]:
        given = {
            "Ringbinder.builder": "fake",
            "Ringbinder.registry": "fake",
            "Ringbinder.launcher": "fake",
            "Ringbinder.extra_plugins": "[fake]",
            "Ringbinder.sinks": "[jsonlines]",
            "Ringbinder.state_folder": str(tmp_path / "state"),
            "Ringbinder.cache_folder": str(tmp_path / "cache"),
            **(sets or {}),
        }
        config = load((), environ={}, sets=[f"{name}={value}" for name, value in given.items()])
        log = structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()])
        received: list[SinkEvent] = []
        async with running(config, log) as app:
            for number, plugin in enumerate(plugins):
                app.plugins.hooks.register(plugin, f"plugin:test{number}", general=True)
            deliver = app.delivery.emit

            def listen(event: SinkEvent) -> None:
                received.append(event)
                deliver(event)

            monkeypatch.setattr(app.emitter, "_deliver", listen)
            yield Heard(app, received)
        metrics = app.services.metrics.registry
        for schema in app.emitter.catalogue:
            labels = {"schema": schema.name, "outcome": "invalid"}
            assert not metrics.get_sample_value("ringbinder_events_total", labels)

    return start
