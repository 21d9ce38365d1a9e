"""The sink as installed, against a metadata server and an API of our own that speak like Google's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import distribution, entry_points
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "ringbinder_sink_google_cloud", reason="pip install ./examples/plugins/ringbinder-sink-google-cloud"
)

import structlog
from aiohttp import web
from attrs import define, field
from ringbinder import ConfigError, LaunchRequest
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load


@define
class Google:
    """A metadata server and `entries:write`; `statuses` are its next answers."""

    statuses: list[int] = field(factory=list)
    bodies: list[dict[str, Any]] = field(factory=list)
    tokens: int = 0
    address: str = ""
    taken: asyncio.Event = field(factory=asyncio.Event)

    async def metadata(self, request: web.Request) -> web.Response:
        headers = {"Metadata-Flavor": "Google"}
        if request.path.endswith("/token"):
            self.tokens += 1
            return web.json_response({"access_token": "short-lived", "expires_in": 3600}, headers=headers)
        if request.path.endswith("project/project-id"):
            return web.Response(text="test-project", headers=headers)
        if "service-accounts" in request.path:
            return web.json_response({"email": "binder@example.org", "scopes": []}, headers=headers)
        return web.Response(text="ok", headers=headers)

    async def write(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer short-lived"
        body = await request.json()
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.taken.set()
        return web.json_response({}, status=status)


@pytest.fixture
async def google(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Google]:
    google = Google()
    app = web.Application()
    app.router.add_post("/v2/entries:write", google.write)
    app.router.add_get("/{path:.*}", google.metadata)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"
    google.address = f"http://{host}"
    monkeypatch.setenv("GCE_METADATA_HOST", host)
    monkeypatch.setenv("GCE_METADATA_IP", host)
    monkeypatch.setenv("NO_GCE_CHECK", "false")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    yield google
    await runner.cleanup()


@asynccontextmanager
async def launching(google: Google, folder: Path, **sets: str) -> AsyncIterator[Ringbinder]:
    given = {
        "Ringbinder.builder": "fake",
        "Ringbinder.registry": "fake",
        "Ringbinder.launcher": "fake",
        "Ringbinder.extra_plugins": "[fake]",
        "Ringbinder.sinks": "[google_cloud]",
        "Ringbinder.state_folder": str(folder),
        "Ringbinder.cache_folder": str(folder),
        "GoogleCloudSink.endpoint": google.address,
        "EventLog.delivery.google_cloud": "{linger: 0, retry_first: 10ms, schemas: [binderhub.*]}",
        **sets,
    }
    config = load((), environ={}, sets=[f"{name}={value}" for name, value in given.items()])
    async with running(config, structlog.get_logger()) as app:
        yield app


async def test_it_is_a_distribution_of_its_own() -> None:
    (point,) = entry_points(group="ringbinder.sinks", name="google_cloud")
    assert point.dist is not None
    assert point.dist.name == "ringbinder-sink-google-cloud"
    assert "ringbinder_sink_google_cloud" not in str(distribution("ringbinder-core").files or "")


async def test_launch_is_sent_again_with_its_id_after_a_failure(google: Google, tmp_path: Path) -> None:
    google.statuses = [503, 200]
    async with launching(google, tmp_path) as app:
        session = app.launch(LaunchRequest("fake", "a/b/main"))
        async for _ in session.read():
            pass
        await asyncio.wait_for(google.taken.wait(), 60)
    first, second = google.bodies
    assert first == second
    assert first["logName"] == "projects/test-project/logs/binderhub-events-text"
    (entry,) = first["entries"]
    assert entry["severity"] == "INFO"
    assert len(entry["insertId"]) == 32
    payload = entry["jsonPayload"]
    assert (payload["schema"], payload["version"], payload["spec"]) == (
        "binderhub.jupyter.org/launch", 6, "a/b/main",
    )  # fmt: skip
    assert google.tokens == 1
    assert "short-lived" not in json.dumps(google.bodies)


async def test_without_credentials_it_shows_what_is_missing(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="no credentials for Google Cloud"):
        async with launching(google, tmp_path):
            pass
