"""Fixtures for the tests of a plugin. Opt in with ``pytest_plugins = "ringbinder.testing.pytest"``.

They need pytest-asyncio in its auto mode, as the contract suites do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from ..plugins.context import Context
from .clock import FakeClock
from .context import RecordingLog, make_context
from .gitserver import GitServer
from .memory import MemoryApp, memory_app
from .ociregistry import OciServer


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands until the test turns it; the contexts of `plugin_context` have it."""
    return FakeClock()


@pytest.fixture
def recording_log() -> RecordingLog:
    """A log for `fetch`, `build`, `push` and `launch` that remembers."""
    return RecordingLog()


@pytest.fixture
async def plugin_context(tmp_path: Path, fake_clock: FakeClock) -> AsyncIterator[Callable[..., Context]]:
    """Makes contexts, as ``plugin_context("mine", answer=handler)``, and closes them."""
    made: list[Context] = []

    def make(name: str, **arguments: Any) -> Context:
        arguments.setdefault("clock", fake_clock)
        made.append(make_context(tmp_path, name, **arguments))
        return made[-1]

    yield make
    for context in made:
        await context.services.close()


@pytest.fixture
async def git_server(tmp_path: Path) -> AsyncIterator[GitServer]:
    """A git server with no repository yet. Needs git."""
    async with GitServer.running(tmp_path / "served") as server:
        yield server


@pytest.fixture
async def oci_server() -> AsyncIterator[OciServer]:
    """An open OCI registry in memory."""
    async with OciServer.running() as server:
        yield server


@pytest.fixture
async def ringbinder_app(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts applications in memory: ``await ringbinder_app({"provider:mine": MyProvider}, Mine={...})``."""
    async with AsyncExitStack() as stack:

        async def start(plugins: Any = None, **sections: Any) -> MemoryApp:
            return await stack.enter_async_context(memory_app(tmp_path, plugins, **sections))

        yield start
