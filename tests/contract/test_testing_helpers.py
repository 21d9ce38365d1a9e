"""The helpers for plugin authors: an application in memory, a clock, trouble, answers in place of the network."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import ringbinder.testing
from ringbinder import GitSource, LaunchRequest, PluginError, Provider, ProviderInfo, Repo, TransientError
from ringbinder.config.options import NoOptions
from ringbinder.plugins.context import Context
from ringbinder.testing import FakeClock, Stall, Trouble, make_context, memory_app, troubled
from ringbinder.testing.__main__ import KINDS
from ringbinder.testing.apiserver import ApiServer
from ringbinder.testing.gitserver import GitServer
from ringbinder.testing.rules import rules_of


class Library(Provider[NoOptions]):
    """Knows every book, whose edition a web API tells."""

    def describe(self) -> ProviderInfo:
        return ProviderInfo("Library", ".+", "Book", "emma")

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        url = f"https://library.example/{request.spec}"
        return Repo(url, GitSource(url, "1" * 40), "1" * 40, request.spec, url, "library-book")


async def test_a_whole_launch_in_memory(tmp_path: Path) -> None:
    async with memory_app(tmp_path, {"provider:book": Library}, FakeBuilder={"lines": 2}) as running:
        events = await running.launch("book/emma")
        assert (events[-1].phase, events[-1].data["repo_url"]) == ("ready", "https://library.example/emma")
        (launch,) = await running.happened.until("binderhub.jupyter.org/launch")
        assert launch.fields["status"] == "success"


async def test_a_plugin_in_trouble(tmp_path: Path, ringbinder_app: Callable[..., Any]) -> None:
    trouble = Trouble("resolve", error=TransientError("the library is closed"), times=1)
    running = await ringbinder_app({"provider:book": troubled(Library, trouble)})
    first, second = await running.launch("book/emma"), await running.launch("book/emma")
    assert first[-1].phase == "failed"
    assert "the library is closed" in first[-1].message
    assert second[-1].phase == "ready"
    assert trouble.met == 1


async def test_launch_whose_call_is_cancelled_fails_without_hanging(tmp_path: Path) -> None:
    plugin = troubled(Library, Trouble("resolve", cancelled=True))
    async with memory_app(tmp_path, {"provider:book": plugin}) as running:
        provider = running.app.plugins.get("provider", "book")
        task = asyncio.ensure_future(provider.resolve(LaunchRequest("book", "emma")))
        await asyncio.wait({task})
        assert task.cancelled()


def test_trouble_is_for_hooks() -> None:
    with pytest.raises(ValueError, match="no awaited hook 'resole'"):
        troubled(Library, Trouble("resole"))


async def test_an_application_that_cannot_start_shows_why(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="registry:mine"):
        async with memory_app(tmp_path, {"registry:mine": Library}):
            pass


async def test_the_clock_wakes_sleepers_in_order(fake_clock: FakeClock) -> None:
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await fake_clock.sleep(seconds)
        woken.append(f"{name} at {fake_clock.now:g}")

    fake_clock.now = 0
    tasks = [asyncio.ensure_future(sleeper(name, wait)) for name, wait in (("b", 20), ("a", 10), ("c", 30))]
    await fake_clock.advance(25)
    assert woken == ["a at 10", "b at 20"]
    assert (fake_clock.sleepers, fake_clock.now) == (1, 25)
    await fake_clock.within(5, tasks[2])
    assert woken[-1] == "c at 30"


async def test_a_clock_that_jumps() -> None:
    clock = FakeClock(0, jumps=True)
    await clock.sleep(5)
    assert (clock.time(), clock.monotonic(), clock.sleeps) == (5, 5, [5])


async def test_requests_are_answered_without_a_network(plugin_context: Callable[..., Context]) -> None:
    context = plugin_context("mine", answer=lambda request: httpx.Response(200, json={"path": request.url.path}))
    answer = await context.http.get("https://api.example/things")
    assert answer.json() == {"path": "/things"}


async def test_a_context_has_the_clock_of_the_test(tmp_path: Path) -> None:
    clock = FakeClock(7)
    context = make_context(tmp_path, "mine", clock=clock)
    assert context.clock.time() == 7
    await context.services.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_explains_itself(kind: str) -> None:
    suite = getattr(ringbinder.testing, f"{kind.capitalize()}Contract")
    rules = list(rules_of(suite))
    assert rules
    assert [rule.title for rule in rules if not rule.about] == []


def test_rules_are_printed_by_the_module() -> None:
    command = [sys.executable, "-W", "error", "-m", "ringbinder.testing"]
    printed = subprocess.run([*command, "sink"], capture_output=True, text=True, check=True).stdout
    assert "### sink: failure is reported\n\nCore tries again what" in printed
    assert "PolicyContract" not in printed
    refused = subprocess.run([*command, "sinx"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the kinds are provider, registry" in refused.stderr


async def test_memory_app_with_a_clock_and_nothing_installed(tmp_path: Path) -> None:
    clock = FakeClock()
    async with memory_app(tmp_path, {"provider:book": Library}, clock=clock) as running:
        assert running.app.services.clock is clock
        assert {found.name for found in running.app.plugins.found} == {"book", "fake", "recorder"}
        events = await running.launch("fake/a/b/main")
    assert events[-1].phase == "ready", events[-1].message


class Echo(ApiServer):
    async def content(self, path: str, request: Any) -> Any:
        return {"got": (await request.read()).decode()}


async def test_api_server_sees_bodies_and_answers_async() -> None:
    async with Echo.running() as api, httpx.AsyncClient() as http:
        response = await http.post(f"{api.address}/x", content="hello")
        assert response.json() == {"got": "hello"}
    assert [seen.body for seen in api.requests] == [b"hello"]


async def test_servers_with_one_stall_stall_together(tmp_path: Path) -> None:
    stall = Stall()
    async with (
        GitServer.running(tmp_path, stall=stall) as git,
        Echo.running(stall=stall) as api,
        httpx.AsyncClient() as http,
    ):
        for address in (git.address, api.address):
            async with git.stalled() as asked:
                answer = asyncio.create_task(http.get(f"{address}/x"))
                async with asyncio.timeout(60):
                    await asked.wait()
                assert not answer.done()
            await answer
