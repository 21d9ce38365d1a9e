"""What blocks the event loop for a second is named while it does: plugin and hook, or where the loop stands."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from ringbinder import Plugin, hookimpl
from ringbinder.app import Ringbinder
from ringbinder.model import LaunchRequest
from ringbinder.plugins.hookspecs import Ticket
from ringbinder.plugins.watchdog import watched_loop
from ringbinder.runtime.metrics import Metrics
from ringbinder.runtime.services import Services
from ringbinder.testing import memory_app
from structlog.testing import capture_logs

_BACKTRACKING = re.compile("(x+x+)+y")


def _reports(metrics: Metrics, plugin: str, hook: str) -> float:
    labels = {"plugin": plugin, "hook": hook}
    return metrics.registry.get_sample_value("ringbinder_loop_blocked_total", labels) or 0.0


def _block(reported: Callable[[], float]) -> None:
    """Blocks its thread until that has been reported."""
    while not reported():
        time.sleep(0.05)


def _backtrack(reported: Callable[[], float]) -> None:
    for length in itertools.count(16):
        _BACKTRACKING.match("x" * length)
        if reported():
            return


class _Blocking(Plugin[Any]):
    """Blocks in one hook, until it is reported for that."""

    hook = ""
    how = staticmethod(_block)

    def _reported(self) -> float:
        services: Services = self.context.services
        return _reports(services.metrics, f"plugin:{self.context.name}", self.hook)

    def _at(self, hook: str) -> None:
        if hook == self.hook:
            self.how(self._reported)

    async def admit(self, ticket: Ticket) -> None:
        await asyncio.sleep(0)
        self._at("admit")

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self._at("lifespan")
        yield

    @hookimpl(wrapper=True)
    def resolve(self) -> Generator[None, Any, Any]:
        result = yield
        self._at("resolve")
        return result


@pytest.mark.parametrize("how", [_block, _backtrack])
@pytest.mark.parametrize("hook", ["admit", "lifespan", "resolve"])
async def test_a_plugin_that_blocks_the_loop_is_named(tmp_path: Path, hook: str, how: Any) -> None:
    class Sticky(_Blocking):
        pass

    Sticky.hook, Sticky.how = hook, staticmethod(how)
    with capture_logs() as logs:
        async with memory_app(tmp_path, {"plugin:sticky": Sticky}) as memory:
            app: Ringbinder = memory.app
            await app.resolve(LaunchRequest("fake", "user/repo/HEAD"))
            assert _reports(app.services.metrics, "plugin:sticky", hook) == 1
    (entry,) = [entry for entry in logs if "blocks the event loop" in entry["event"]]
    assert (entry["log_level"], entry["plugin"], entry["hook"]) == ("error", "plugin:sticky", hook)
    assert entry["seconds"] >= 1
    assert f"{__name__}.{how.__name__}" in entry["at"]


async def test_what_blocks_the_loop_outside_of_hooks_is_named() -> None:
    metrics = Metrics()
    with capture_logs() as logs:
        async with watched_loop(structlog.get_logger(), metrics):
            await asyncio.sleep(0)
            _block(lambda: _reports(metrics, "", ""))
    (entry,) = logs
    assert "outside of any hook" in entry["event"]
    assert f"{__name__}._block" in entry["at"]
    assert f"{__name__}.test_what_blocks_the_loop_outside_of_hooks_is_named" in entry["at"]
