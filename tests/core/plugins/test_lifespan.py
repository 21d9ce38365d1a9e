"""Plugins start in order and stop in reverse; one that fails or hangs on the way holds up nobody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from ringbinder import ConfigError, PluginError
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from tests.core.conftest import Site

ORDER = ["policy", "file", "local", "local", "local", "gh", "git"]


async def test_plugins_start_in_order_and_stop_in_reverse(site: Site) -> None:
    plugins = site.loaded(sinks=["file"])
    assert site.trace == []
    async with plugins.running():
        assert site.trace == [f"{name} in" for name in ORDER]
        site.trace.clear()
    assert site.trace == [f"{name} out" for name in reversed(ORDER)]


async def test_an_exception_of_the_application_stops_all_and_passes(site: Site) -> None:
    plugins = site.loaded(sinks=["file"])
    with pytest.raises(KeyError, match="mine"):
        async with plugins.running():
            raise KeyError("mine")
    assert site.trace[len(ORDER) :] == [f"{name} out" for name in reversed(ORDER)]


START_FAILS = {
    "error": ("raise OSError('no disk')", "it did not start (rb-x 1.0): OSError: no disk"),
    "exit": ("sys.exit(3)", "sys.exit(3)"),
    "cancelled": ("raise asyncio.CancelledError", "something that it waited for was cancelled"),
    "no yield": ("return", "didn't yield"),
    "hangs": ("await asyncio.Event().wait()", "not ready within 0.05 seconds (Ringbinder.lifespan_timeout)"),
}


def starting_with(statement: str) -> str:
    """The body of a plugin whose life span begins with `statement`."""
    return f"""
        async def lifespan(self):
            {statement}
            yield
    """


@pytest.mark.parametrize("case", START_FAILS)
async def test_one_that_does_not_start_is_left_out_if_nothing_needs_it(site: Site, case: str) -> None:
    statement, words = START_FAILS[case]
    site.provider("rb-x", "x", starting_with(statement))
    plugins = site.loaded(lifespan_timeout=0.05)
    assert plugins.providers == ("x", "gh", "git")
    with capture_logs() as logs:
        async with plugins.running():
            assert list(plugins.providers) == ["gh", "git"]
            broken = site.row(plugins, "provider", "x")
            assert broken.state == "failed"
            assert words in broken.reason
            with pytest.raises(PluginError, match="no plugin of this name"):
                plugins.hooks.hooks_of("provider:x")
    assert [(entry["plugin"], entry["reason"]) for entry in logs] == [("provider:x", broken.reason)]
    assert "git in" in site.trace


@pytest.mark.parametrize("case", START_FAILS)
async def test_plugin_that_does_not_start_is_an_error_if_named(site: Site, case: str) -> None:
    statement, words = START_FAILS[case]
    site.provider("rb-x", "x", starting_with(statement))
    plugins = site.loaded(lifespan_timeout=0.05, extra_plugins=["x"])
    with pytest.raises(PluginError) as caught:
        async with plugins.running():
            pytest.fail("it runs")
    assert words in str(caught.value)
    assert caught.value.hook == "lifespan"
    started = ["policy", "local", "local", "local"]
    assert site.trace == [f"{name} in" for name in started] + [f"{name} out" for name in reversed(started)]


async def test_config_error_of_a_plugin_stays_a_config_error(site: Site) -> None:
    body = starting_with("raise ConfigError(['ExtraProvider.hostname: not reachable'])")
    site.provider("rb-x", "x", body)
    plugins = site.loaded(extra_plugins=["x"])
    with pytest.raises(ConfigError, match="not reachable"):
        async with plugins.running():
            pytest.fail("it runs")


STOP_FAILS = {
    "error": ("raise OSError('gone')", "a plugin failed while stopping"),
    "exit": ("sys.exit(3)", "a plugin failed while stopping"),
    "hangs": ("await asyncio.Event().wait()", "a plugin takes too long to stop; it is cancelled"),
    "second yield": ("yield", "a plugin failed while stopping"),
}


@pytest.mark.parametrize("case", STOP_FAILS)
async def test_one_that_does_not_stop_is_logged_and_the_others_stop(site: Site, case: str) -> None:
    statement, words = STOP_FAILS[case]
    body = f"""
        async def lifespan(self):
            yield
            {statement}
    """
    site.provider("rb-x", "x", body)
    plugins = site.loaded(lifespan_timeout=0.05)
    with capture_logs() as logs:
        async with plugins.running():
            site.trace.clear()
    assert [(entry["plugin"], entry["event"]) for entry in logs] == [("provider:x", words)]
    assert site.trace == ["git out", "gh out", "local out", "local out", "local out", "policy out"]


async def test_work_that_fails_in_a_life_span_cancels_no_one_else(site: Site) -> None:
    body = """
        async def lifespan(self):
            self.fail = asyncio.Event()
            async def work():
                await self.fail.wait()
                raise OSError("connection lost")
            async with asyncio.TaskGroup() as group:
                group.create_task(work())
                yield
    """
    site.provider("rb-x", "x", body)
    plugins = site.loaded()
    with capture_logs() as logs:
        async with plugins.running():
            plugins.get("provider", "x").fail.set()
            async with asyncio.timeout(10):
                while not logs:
                    await asyncio.sleep(0)
    assert [(entry["plugin"], entry["event"]) for entry in logs] == [("provider:x", "a plugin failed while running")]
    assert site.trace[-1] == "policy out"


class Hurry:
    """Runs the plugins in a task of its own that can be cancelled."""

    def __init__(self, plugins: Any) -> None:
        self.plugins = plugins
        self.task = asyncio.create_task(self.run())
        self.leave = asyncio.Event()

    async def run(self) -> None:
        async with self.plugins.running():
            await self.leave.wait()


async def test_a_start_that_is_cancelled_stops_what_has_started(site: Site) -> None:
    body = """
        begun = asyncio.Event()
        async def lifespan(self):
            self.begun.set()
            try:
                await asyncio.Event().wait()
                yield
            finally:
                TRACE.append("x ended")
    """
    site.provider("rb-x", "x", body)
    plugins = site.loaded()
    hurry = Hurry(plugins)
    await plugins.get("provider", "x").begun.wait()
    hurry.task.cancel()
    await asyncio.wait({hurry.task})
    assert hurry.task.cancelled()
    started = ["policy", "local", "local", "local"]
    ended = [f"{name} out" for name in reversed(started)]
    assert site.trace == [*(f"{name} in" for name in started), "x ended", *ended]


async def test_a_stop_that_is_cancelled_hurries_and_still_stops_all(site: Site) -> None:
    body = """
        leaving = asyncio.Event()
        async def lifespan(self):
            yield
            self.leaving.set()
            try:
                await asyncio.Event().wait()
            finally:
                TRACE.append("x ended")
    """
    site.provider("rb-x", "x", body)
    plugins = site.loaded()
    hurry = Hurry(plugins)
    hurry.leave.set()
    await plugins.get("provider", "x").leaving.wait()
    hurry.task.cancel()
    await asyncio.wait({hurry.task})
    assert hurry.task.cancelled()
    assert site.trace[-5:] == ["x ended", "local out", "local out", "local out", "policy out"]


async def test_one_that_ignores_its_end_is_left_behind(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringbinder.plugins.lifespan._GRACE", 0.05)
    body = """
        release = asyncio.Event()
        async def lifespan(self):
            yield
            while not self.release.is_set():
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    pass
    """
    site.provider("rb-x", "x", body)
    plugins = site.loaded(lifespan_timeout=0.05)
    before = asyncio.all_tasks()
    with capture_logs() as logs:
        async with plugins.running():
            pass
    assert [entry["event"] for entry in logs] == [
        "a plugin takes too long to stop; it is cancelled",
        "a plugin takes no notice of being cancelled; it is left behind",
    ]
    assert site.trace[-1] == "policy out"
    plugins.get("provider", "x").release.set()
    await asyncio.wait(asyncio.all_tasks() - before)


async def test_they_can_run_again(site: Site) -> None:
    plugins = site.loaded()
    for _ in range(2):
        async with plugins.running():
            pass
    assert site.trace.count("gh in") == site.trace.count("gh out") == 2


async def test_nothing_is_left_running(site: Site) -> None:
    plugins = site.loaded(sinks=["file"])
    before = asyncio.all_tasks()
    async with plugins.running():
        assert len(asyncio.all_tasks() - before) == len(ORDER)
    assert asyncio.all_tasks() == before
