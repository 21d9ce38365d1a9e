"""How the end of a server is noticed that the hub brings about: a hub in memory, a clock that the test turns."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from attrs import define, field
from ringbinder.model import Server, User
from ringbinder.secret import Secret
from ringbinder.testing import FakeClock, RecordingLog, make_context
from ringbinder_launchers._options import LauncherOptions
from ringbinder_launchers.jupyterhub import JupyterHubLauncher

from .conftest import IMAGE, PLAN, wish

READY = b'data: {"progress": 100, "ready": true, "url": "/user/x/"}\n\n'


@define
class SmallHub:
    """Users with their servers, in the order in which they came, and what was asked for their list."""

    users: dict[str, dict[str, Any]] = field(factory=dict)
    lists: list[int] = field(factory=list)
    page: int = 200
    down: bool = False
    between_pages: list[str] = field(factory=list)
    """Users that go when a page was given."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused")
        path = request.url.path.removeprefix("/hub/api/")
        match [request.method, *path.split("/")]:
            case ["GET", "users"]:
                if request.url.params["state"] == "inactive":
                    return httpx.Response(200, json={"items": [], "_pagination": {"next": None}})
                return self.listed(int(request.url.params["offset"]))
            case ["POST", "users"]:
                names = json.loads(request.content)["usernames"]
                self.users |= {name: {} for name in names}
                return httpx.Response(201, json=[{"name": name} for name in names])
            case ["GET", "users", name]:
                return httpx.Response(200, json={"name": name, "servers": self.users[name]})
            case ["POST", "users", name, "servers", ""]:
                self.users[name][""] = {"user_options": json.loads(request.content), "pending": None}
                return httpx.Response(202)
            case ["GET", "users", _, "server", "progress"]:
                return httpx.Response(200, content=READY)
            case ["DELETE", "users", name, *_] if name in self.users:
                self.users[name].clear()
                if not path.endswith("/servers/"):
                    del self.users[name]
                return httpx.Response(204)
            case ["DELETE", *_]:
                return httpx.Response(404, json={"message": "no such user"})
        return httpx.Response(200, json={})

    def listed(self, offset: int) -> httpx.Response:
        self.lists.append(offset)
        active = [{"name": name, "servers": servers} for name, servers in self.users.items() if servers]
        end = offset + self.page
        following = {"offset": end, "limit": self.page} if end < len(active) else None
        for name in self.between_pages:
            self.users.pop(name, None)
        pages = {"items": active[offset:end], "_pagination": {"next": following}}
        return httpx.Response(200, json=pages)


@define
class World:
    hub: SmallHub
    clock: FakeClock
    launcher: JupyterHubLauncher
    ended: list[tuple[str, str, float | None]] = field(factory=list)

    def receive(self, server: str, reason: str, seconds: float | None = None, told: str = "") -> None:
        assert "JupyterHub" in told
        self.ended.append((server, reason, seconds))

    async def launch(self, session: str, **more: Any) -> Server:
        return await self.launcher.launch(IMAGE, wish(session, **more), PLAN, RecordingLog())


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    hub, clock = SmallHub(), FakeClock()
    context = make_context(tmp_path, "jupyterhub", clock=clock, answer=hub)
    config = LauncherOptions(hub_url="http://hub/", hub_api_token=Secret("token-4719"), retries=1)
    made = World(hub, clock, JupyterHubLauncher(config, context))
    monkeypatch.setattr(context.servers, "stopped", made.receive)
    async with made.launcher.lifespan():
        yield made
    await context.services.close()


async def test_a_culled_server_is_reported_once_with_its_life_time(world: World) -> None:
    servers = [await world.launch(f"session-{number}") for number in range(5)]
    await world.clock.advance(600.0)
    assert world.hub.lists == [0] * 10, "one request for all servers, each interval"
    culled = servers[3].id.removesuffix("/")
    del world.hub.users[culled]
    await world.clock.advance(600.0)
    assert world.ended == [(f"{culled}/", "gone", 660.0)]
    assert len(await world.launcher.servers()) == 4


async def test_a_server_that_the_hub_stops_has_ended(world: World) -> None:
    server = await world.launch("stopping")
    world.hub.users[server.id.removesuffix("/")][""]["pending"] = "stop"
    await world.clock.advance(60.0)
    assert [id for id, *_ in world.ended] == [server.id]


async def test_no_one_is_asked_where_no_server_runs(world: World) -> None:
    await world.clock.advance(6000.0)
    server = await world.launch("short")
    assert await world.launcher.stop(server)
    await world.clock.advance(6000.0)
    assert (world.hub.lists, world.ended) == ([], [])


async def test_a_list_that_a_quota_asks_for_is_enough(world: World) -> None:
    server = await world.launch("quota")
    for _ in range(10):
        await world.clock.advance(50.0)
        assert len(await world.launcher.servers()) == 1
    assert len(world.hub.lists) == 10
    world.hub.users.clear()
    await world.clock.advance(5.0)
    assert await world.launcher.servers() == []
    assert world.ended == [(server.id, "gone", 505.0)]


async def test_stop_from_here_is_reported_elsewhere(world: World) -> None:
    server, culled = await world.launch("stopped"), await world.launch("culled")
    assert await world.launcher.stop(server)
    world.hub.users.clear()
    assert not await world.launcher.stop(culled), "the hub does not know it any more"
    await world.clock.advance(600.0)
    assert [id for id, *_ in world.ended] == [culled.id]


async def test_a_hub_that_is_down_has_ended_nothing(world: World) -> None:
    server = await world.launch("down")
    world.hub.down = True
    await world.clock.advance(600.0)
    assert world.ended == []
    world.hub.down = False
    await world.clock.advance(60.0)
    assert world.ended == []
    world.hub.users.clear()
    await world.clock.advance(60.0)
    assert world.ended == [(server.id, "gone", 720.0)]


async def test_another_server_of_the_same_user_is_not_taken_for_it(world: World) -> None:
    world.launcher.config = attrs.evolve(world.launcher.config, auth_enabled=True)
    world.hub.users["ada"] = {}
    await world.launch("first", user=User("ada"))
    await world.clock.advance(60.0)
    world.hub.users["ada"][""] = {"user_options": {"token": "of her own"}}
    await world.clock.advance(60.0)
    assert world.ended == [("ada/", "gone", 120.0)]
    del world.hub.users["ada"][""]
    await world.launch("second", user=User("ada"))
    await world.clock.advance(10.0)
    del world.hub.users["ada"][""]
    await world.launch("third", user=User("ada"))
    assert world.ended[1:] == [("ada/", "gone", 10.0)], "a server at its place: it has gone"
    await world.clock.advance(60.0)
    assert len(world.ended) == 2


async def test_users_who_go_while_the_pages_are_read_hide_no_one(world: World) -> None:
    world.hub.page = 10
    for number in range(30):
        await world.launch(f"page-{number}")
    world.hub.between_pages = list(world.hub.users)[:4]
    gone = {f"{name}/" for name in world.hub.between_pages}
    await world.clock.advance(60.0)
    assert len(world.hub.lists) > 3
    assert {id for id, *_ in world.ended} <= gone
    await world.clock.advance(60.0)
    assert sorted(id for id, *_ in world.ended) == sorted(gone)
