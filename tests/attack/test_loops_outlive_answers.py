"""No loop of ours is ended by what another service answers: with a good answer, each works again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import define, field
from ringbinder.errors import RingbinderError
from ringbinder.plugins.context import Context
from ringbinder.runtime.clock import SystemClock
from ringbinder.secret import Secret
from ringbinder.testing import FakeClock, make_context
from ringbinder.testing.kubeobjects import kubeconfig
from ringbinder_builders import _docker_engine
from ringbinder_builders._docker_options import DockerBuilderOptions
from ringbinder_builders.docker import DockerBuilder
from ringbinder_cluster.client import Cluster, Patience
from ringbinder_cluster.watching import PodWatch, WatchTimes
from ringbinder_launchers._api import HubApi
from ringbinder_launchers._places import Place
from ringbinder_launchers._watch import Watch
from structlog.testing import capture_logs

from . import wrong_answers
from .wrong_answers import KINDS, Service, http, mistyped

QUICK = Patience(request=0.3, first=0.01, longest=0.02, in_all=0.5)
QUICK_WATCH = WatchTimes(watch=1.0, slack=0.3, relist=60.0, unwell=0.5)
POD = {
    "metadata": {
        "name": "build-a", "uid": "u-1", "resourceVersion": "7", "labels": {"component": "binderhub-build"},
        "annotations": {"ringbinder.org/image": "x:1"},
    },
    "spec": {"nodeName": "node-1", "containers": [{"name": "builder", "image": "x"}]},
    "status": {
        "phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "builder", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
    },
}  # fmt: skip
PODS = {"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [POD]}
USERS = {
    "items": [{"name": "ada", "servers": {"": {"pending": None, "user_options": {"token": "t", "image": "x"}}}}],
    "_pagination": {"next": None},
}  # fmt: skip


def as_json(value: object) -> bytes:
    return http(json.dumps(value).encode())


@asynccontextmanager
async def watched(folder: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PodWatch]:
    """A watch of pods, under way; what it logs is none of a test's business."""
    file = folder / "kubeconfig"
    file.write_text(kubeconfig(service.address))
    monkeypatch.setenv("KUBECONFIG", str(file))
    context = make_context(folder, "kubernetes")
    async with Cluster.connected("kubernetes", QUICK) as cluster:
        watch = PodWatch(cluster, "binder", "", SystemClock(), context.log, QUICK_WATCH)
        task = context.tasks.start(watch.run(), "watch")
        try:
            yield watch
            assert not task.done()
        finally:
            await context.services.close()


def api_server(line: str) -> bytes:
    """Pods, and watches in which nothing happens."""
    if "watch=true" in line:
        mark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}}
        return http(json.dumps(mark).encode() + b"\n")
    return as_json(PODS)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_pod_watch_outlives_any_list(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with wrong_answers.running(api_server) as service:
        service.wrong = KINDS[kind]
        async with watched(tmp_path, service, monkeypatch) as watch:
            await until(lambda: service.asked >= 3 and watch.trouble)
            assert not watch.healthy
            service.wrong = None
            await until(lambda: watch.healthy and not watch.trouble)
            assert set(watch.pods) == {"build-a"}


@pytest.mark.parametrize("kind", KINDS)
async def test_pod_watch_outlives_any_watch(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is good, and then each watch is answered like this."""
    broken = True

    def answer(line: str) -> bytes:
        return KINDS[kind] if broken and "watch=true" in line else api_server(line)

    async with wrong_answers.running(answer) as service, watched(tmp_path, service, monkeypatch) as watch:
        await until(lambda: service.asked >= 6)
        broken = False
        asked = service.asked
        await until(lambda: service.asked > asked and not watch.trouble)
        assert set(watch.pods) == {"build-a"}


@pytest.mark.slow
async def test_pod_watch_outlives_wrong_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each field of a list, and of an event."""
    lists, events = list(mistyped(PODS)), list(mistyped({"type": "MODIFIED", "object": POD}))
    at = 0

    def answer(line: str) -> bytes:
        nonlocal at
        at += 1
        if "watch=true" in line:
            return http(json.dumps(events[at % len(events)]).encode() + b"\n")
        return as_json(lists[at % len(lists)])

    async with wrong_answers.running(answer) as service, watched(tmp_path, service, monkeypatch) as watch:
        monkeypatch.setattr(Patience, "pause", lambda self, failures, asked=None: 0.0)
        async with asyncio.timeout(120):
            await until_asked(service, len(lists) + len(events))
        service.good = api_server
        watch._gone.clear()  # one of these pods was deleted in an event, under the good one's name
        await until(lambda: watch.healthy and not watch.trouble and "build-a" in watch.pods)


async def until_asked(service: Service, times: int) -> None:
    while service.asked < times:
        await asyncio.sleep(0.05)


async def test_wrong_answers_are_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and once more when the watch works again."""
    wrong = False

    def answer(line: str) -> bytes:
        return KINDS["HTML"] if wrong and "watch=true" in line else api_server(line)

    async with wrong_answers.running(answer) as service, watched(tmp_path, service, monkeypatch) as watch:
        with capture_logs() as logs:
            await until(lambda: watch.healthy)
            wrong = True
            await until_asked(service, service.asked + 20)
            wrong = False
            await until(lambda: any(entry["event"].endswith("works again") for entry in logs))
    events = [entry["event"] for entry in logs if "watch of pods" in entry["event"]]
    assert len(events) == 2
    assert "failed, trying again: what happens to them is not noticed" in events[0]


# -- the hub -------------------------------------------------------------------------------------------------


@define
class World:
    """A watch of a hub by a clock that the test turns, with one server that has been launched."""

    clock: FakeClock
    api: HubApi
    watch: Watch
    ended: list[str] = field(factory=list)
    answer: Any = None
    asked: int = 0

    def answered(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return httpx.Response(200, content=self.answer)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    clock = FakeClock()
    made: World
    context = make_context(tmp_path, "jupyterhub", clock=clock, answer=lambda request: made.answered(request))
    api = HubApi(context.http, clock, "http://hub/", Secret("token-4719"), 1, 0.0)
    made = World(clock, api, Watch(context, 60.0))
    monkeypatch.setattr(context.servers, "stopped", lambda server, *_: made.ended.append(server))
    made.watch.add(Place("ada"), Secret("t"))
    task = context.tasks.start(made.watch.run(api), "watch")
    yield made
    assert not task.done()
    await context.services.close()


async def notices(world: World) -> None:
    """Asserts that the end of a server is noticed."""
    world.answer = json.dumps({**USERS, "items": []}).encode()
    async with asyncio.timeout(120):
        while not world.ended:
            await world.clock.advance(60.0)
            await asyncio.sleep(0.01)
    assert world.ended == ["ada/"]


@pytest.mark.parametrize("kind", [kind for kind, answer in KINDS.items() if answer.startswith(b"HTTP/1.1 200")])
async def test_hub_watch_outlives_any_answer(world: World, kind: str) -> None:
    world.answer = KINDS[kind].partition(b"\r\n\r\n")[2]
    async with asyncio.timeout(120):
        while world.asked < 5:
            await world.clock.advance(60.0)
            await asyncio.sleep(0.01)  # what is large is parsed in a thread
    assert world.ended == []
    await notices(world)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ReadTimeout("silence"), httpx.ConnectError("refused"), httpx.RemoteProtocolError("closed"),
        httpx.DecodingError("compressed"), httpx.TooManyRedirects("again"), KeyError("of a library"),
        AttributeError("of a library"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_hub_watch_outlives_any_exception(world: World, error: Exception) -> None:
    world.answer = error
    with capture_logs() as logs:
        await world.clock.advance(300.0)
        assert world.asked == 5
        await notices(world)
    events = [entry["event"] for entry in logs if entry["event"].startswith("the watch of the JupyterHub")]
    assert len(events) == 2
    assert "servers that end there are not noticed" in events[0]
    assert events[1].endswith("works again")


async def test_hub_watch_outlives_wrong_types(world: World) -> None:
    for wrong in mistyped(USERS):
        world.answer = json.dumps(wrong).encode()
        await world.clock.advance(60.0)
        if world.ended:  # what is no server of that token has ended
            world.ended.clear()
            world.watch.add(Place("ada"), Secret("t"))
    await notices(world)


async def test_pages_of_a_hub_without_an_end_are_left(world: World) -> None:
    following = {"next": {"offset": 0, "limit": 200}}
    world.answer = json.dumps({"items": [], "_pagination": following}).encode()
    await world.clock.advance(60.0)
    assert (world.asked, world.ended) == (1, [])
    await notices(world)


@pytest.mark.parametrize("kind", KINDS)
async def test_any_answer_of_a_hub_is_an_error_of_ours(context: Context, kind: str) -> None:
    """Over the real client: `users` raises nothing else, nor waits for ever."""
    async with wrong_answers.running(lambda line: b"") as service:
        service.wrong = KINDS[kind]
        api = HubApi(context.http, SystemClock(), f"{service.address}/", Secret("t"), 1, 0.0, seconds=1.0)
        with pytest.raises(RingbinderError):
            await api.users()


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "x")
    yield made
    await made.services.close()


# -- the engine ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_image_cleaner_outlives_any_answer(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the container engine: the cleaner asks again, and says once what is wrong."""
    monkeypatch.setattr(_docker_engine, "_SECONDS", 0.3)
    clock = FakeClock(jumps=True)
    context = make_context(tmp_path, "docker", clock=clock)
    async with wrong_answers.running(lambda line: as_json({"ApiVersion": "1.43", "LayersSize": 1})) as service:
        service.wrong = KINDS[kind]
        options = DockerBuilderOptions(
            docker_host=service.address.replace("http", "tcp"), every=60.0, threshold_type="absolute",
            threshold_high=10.0, threshold_low=5.0,
        )  # fmt: skip
        builder = DockerBuilder(options, context)
        task = builder._keep_clean()
        with capture_logs() as logs:
            await until(lambda: service.asked >= 3)
            service.wrong = None
            await until(lambda: any(entry["event"].endswith("works again") for entry in logs))
        assert not task.done()
        reported = [entry["event"] for entry in logs if "the cleaner of images failed" in entry["event"]]
        assert reported == ["the cleaner of images failed, trying again: they may fill the engine's disk"]
        with suppress(asyncio.CancelledError):
            await context.services.close()
