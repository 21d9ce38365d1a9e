"""What a client reads of a launch at a hub: a hub in memory, a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from ringbinder.errors import UserError
from ringbinder.runtime import silence
from ringbinder.runtime.silence import speaker
from ringbinder.secret import Secret
from ringbinder.testing import FakeClock, RecordingLog, make_context
from ringbinder_launchers._options import LauncherOptions
from ringbinder_launchers.jupyterhub import JupyterHubLauncher

from .conftest import IMAGE, PLAN, wish

Answer = Callable[[httpx.Request], Any]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Launches at a hub that answers so; gives the log."""
    context = make_context(tmp_path, "jupyterhub")

    async def start(answer: Answer, clock: FakeClock, **options: Any) -> tuple[RecordingLog, Any]:
        log = RecordingLog()
        found = make_context(tmp_path, "jupyterhub", clock=clock, answer=answer)
        options = {"retries": 2, "spawn_attempts": 1, **options}
        config = LauncherOptions(hub_url="http://hub/", hub_api_token=Secret("token-4719"), **options)
        launcher = JupyterHubLauncher(config, found)
        return log, launcher.launch(IMAGE, wish("a" * 20), PLAN, log)

    yield start
    await context.services.close()


def refusing(message: str) -> Answer:
    """A hub whose spawner refuses to start a server."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/servers/") and request.method == "POST":
            return httpx.Response(422, json={"status": 422, "message": message})
        return httpx.Response(201 if request.method == "POST" else 204, json={"name": "x"})

    return answer


async def test_last_lines_of_a_server_are_read(launch: Any) -> None:
    reason = "The server ended with exit code 3 before it answered\nline 1\nNo module named jupyter"
    log, launching = await launch(refusing(reason), FakeClock(jumps=True))
    with pytest.raises(UserError) as caught:
        await launching
    assert caught.value.code == "launch-failed"
    assert "exit code 3 before it answered; the last that it said: No module named jupyter" in str(caught.value)
    assert log.text.endswith("line 1\nNo module named jupyter")


async def test_last_lines_of_a_server_are_bounded(launch: Any) -> None:
    reason = "x" * 5000 + "\n" + "y\x1b[2J" * 100_000
    log, launching = await launch(refusing(reason), FakeClock(jumps=True))
    with pytest.raises(UserError) as caught:
        await launching
    assert len(str(caught.value)) < 1200
    assert "\x1b" not in str(caught.value)
    assert len(log.text) < 5000


async def test_hub_that_hangs_is_named_within_five_seconds(launch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 s are 0.05 here. First the question for a user hangs, then the news of the server."""
    monkeypatch.setattr(silence, "_FIRST_SECONDS", 0.05)
    answered = {"POST": asyncio.Event(), "GET": asyncio.Event()}
    ready = b'data: {"progress": 100, "ready": true, "url": "/user/x/"}\n\n'

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            await answered["POST"].wait()
            return httpx.Response(201, json={})
        if not request.url.path.endswith("/progress"):
            return httpx.Response(200, json={"name": "x"})
        await answered["GET"].wait()
        return httpx.Response(200, content=ready)

    log, launching = await launch(answer, FakeClock(jumps=True))
    speaker.set(lambda text: log.line(text, "launching"))
    task = asyncio.create_task(launching)
    await log.until("JupyterHub has not answered for 0 s.")
    log.lines.clear()
    answered["POST"].set()
    await log.until("JupyterHub has not answered for 0 s.")
    answered["GET"].set()
    assert (await task).url.startswith("http://hub/user/")
