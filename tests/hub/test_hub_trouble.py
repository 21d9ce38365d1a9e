"""What goes wrong around a launch at a real JupyterHub, and what is left of it there: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import structlog
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder.errors import ConfigError, Refused, TransientError, UserError
from ringbinder.model import LaunchRequest
from ringbinder.plugins.context import Context
from ringbinder.protocol import Event
from ringbinder.testing import RecordingLog
from ringbinder_launchers.jupyterhub import JupyterHubLauncher

from .conftest import BROKEN, ENDLESS, IMAGE, PLAN, REFUSED, SLOW, UNLUCKY, UNREACHABLE, VERSIONS, Make, wish
from .real_hub import TOKEN, Hub, Installed, hub

PATIENCE = 60.0

OwnHub = Callable[..., AbstractContextManager[Hub]]


async def until(done: Callable[[], bool]) -> None:
    """Waits for what happens at the hub, which tells nobody."""
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(done):
            await asyncio.sleep(0.2)


@pytest.fixture
def own_hub(tmp_path: Path, installed: Callable[[str], Installed]) -> OwnHub:
    """Starts a hub that no other test uses."""
    return lambda more="": hub(installed(VERSIONS[-1]), tmp_path / "own-hub", more)


async def test_a_refusal_is_reported_at_once_and_leaves_nothing(each_hub: Hub, make: Make) -> None:
    launcher, log = make(each_hub.url), RecordingLog()
    with pytest.raises(Refused, match="not allowed here") as caught:
        await launcher.launch(REFUSED, wish("refused"), PLAN, log)
    assert caught.value.status == 403
    assert "retrying" not in log.text
    assert each_hub.users() == {}


async def test_a_server_that_fails_is_tried_twice(the_hub: Hub, make: Make) -> None:
    log = RecordingLog()
    with pytest.raises(UserError, match="could not start the server") as caught:
        await make(the_hub.url).launch(UNLUCKY, wish("unlucky"), PLAN, log)
    assert caught.value.code == "launch-failed"
    assert log.text.count("retrying") == 1
    assert the_hub.users() == {}


async def test_an_engine_that_is_gone_is_named(each_hub: Hub, make: Make) -> None:
    with pytest.raises(UserError, match=r"engine, or the cluster,.* does not answer the hub"):
        await make(each_hub.url).launch(UNREACHABLE, wish("unreachable"), PLAN, RecordingLog())
    assert each_hub.users() == {}


async def test_a_server_that_ends_at_once_is_reported_at_once(each_hub: Hub, make: Make) -> None:
    log = RecordingLog()
    with pytest.raises(UserError, match="ended with exit code 1 before it answered") as caught:
        await make(each_hub.url).launch(BROKEN, wish("broken"), PLAN, log)
    assert caught.value.code == "launch-failed"
    assert "retrying" not in log.text
    assert each_hub.users() == {}


async def test_a_wrong_token_is_the_operators_business(each_hub: Hub, make: Make) -> None:
    launcher = make(each_hub.url, token="another-token-than-the-hub-knows")
    with pytest.raises(ConfigError, match="hub_api_token") as caught:
        await launcher.launch(IMAGE, wish("wrong-token"), PLAN, RecordingLog())
    assert "another-token" not in str(caught.value)
    assert [line.level for line in await launcher.doctor()] == ["ok", "error"]


async def test_the_doctor_finds_nothing_wrong(each_hub: Hub, make: Make) -> None:
    findings = await make(each_hub.url).doctor()
    assert [line.level for line in findings] == ["ok", "ok"], findings
    assert findings[0].message.startswith(f"JupyterHub {each_hub.installed.version}.")


async def test_too_long_is_too_long(the_hub: Hub, make: Make) -> None:
    launcher = make(the_hub.url, launch_timeout=3.0)
    with pytest.raises(TransientError, match="within 3 seconds"):
        await launcher.launch(ENDLESS, wish("too-long"), PLAN, RecordingLog())
    await until(lambda: not the_hub.users())


async def test_the_same_session_finds_its_server_at_another_replica(the_hub: Hub, make: Make) -> None:
    first = await make(the_hub.url).launch(IMAGE, wish("same"), PLAN, RecordingLog())
    other = make(the_hub.url)
    again = await other.launch(IMAGE, wish("same"), PLAN, RecordingLog())
    assert (again.id, again.url, again.token) == (first.id, first.url, first.token)
    assert await other.stop(first)
    assert the_hub.users() == {}


async def test_any_number_of_launches_in_flight(the_hub: Hub, make: Make) -> None:
    launcher, logs = make(the_hub.url), [RecordingLog() for _ in range(20)]
    tasks = [
        asyncio.create_task(launcher.launch(ENDLESS, wish(f"flight-{number}"), PLAN, log))
        for number, log in enumerate(logs)
    ]
    await asyncio.gather(*(log.until("Spawning server", seconds=120) for log in logs))
    assert not any(task.done() for task in tasks)
    assert await launcher.servers() == []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: not the_hub.users())


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1, 0.5])
async def test_left_at_any_moment_it_leaves_nothing(the_hub: Hub, make: Make, seconds: float) -> None:
    task = asyncio.create_task(make(the_hub.url).launch(SLOW, wish(f"left-{seconds}"), PLAN, RecordingLog()))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not the_hub.users() and not the_hub.processes())


async def test_the_hub_is_restarted_in_the_middle_of_a_launch(own_hub: OwnHub, make: Make) -> None:
    with own_hub() as started:
        launcher, log = make(started.url, retries=6, retry_delay=0.5), RecordingLog()
        task = asyncio.create_task(launcher.launch(SLOW, wish("restart"), PLAN, log))
        await log.until("Spawning server")
        await asyncio.to_thread(started.stop)
        assert not (await launcher.health()).ok
        await asyncio.to_thread(started.start)
        server = await task
        assert [each.id for each in await launcher.servers()] == [server.id]
        assert await launcher.stop(server)
        await until(lambda: not started.users() and not started.processes())


CULLER = """
c.JupyterHub.services.append({
    "name": "culler",
    "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=2", "--cull-every=1", "--cull-users=True"],
})
scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers", "admin:users"]
c.JupyterHub.load_roles.append({"name": "culler", "services": ["culler"], "scopes": scopes})
"""


async def test_an_idle_server_and_its_user_are_culled(
    own_hub: OwnHub, make: Make, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[object, ...]] = []
    monkeypatch.setattr(context.servers, "stopped", lambda *end: ended.append(end))
    with own_hub(CULLER) as started:
        launcher = make(started.url, watch_interval=0.5)
        async with launcher.lifespan():
            server = await launcher.launch(IMAGE, wish("idle"), PLAN, RecordingLog())
            assert server.id.startswith("some-course-")
            await until(lambda: not started.users() and not started.processes())
            await until(lambda: bool(ended))
            assert await launcher.servers() == []
            assert not await launcher.stop(server)
    ((id, reason, seconds, _),) = ended
    assert (id, reason) == (server.id, "gone")
    assert isinstance(seconds, float)
    assert 1 < seconds < PATIENCE


async def test_a_hub_that_is_down_is_reported_and_not_fatal(make: Make) -> None:
    launcher = make("http://127.0.0.1:9/", retries=2, retry_delay=0.01)
    async with launcher.lifespan():
        line = await launcher.health()
        assert (line.service, line.ok) == ("JupyterHub API", False)
        assert [each.level for each in await launcher.doctor()] == ["error"]
    unset = make("")
    assert "BinderHub.hub_url is not set" in (await unset.health()).detail["message"]
    with pytest.raises(UserError, match="hub_url is not set"):
        await unset.launch(IMAGE, wish(), PLAN, RecordingLog())


HOOKED: list[dict[str, object]] = []


async def hook(launcher: JupyterHubLauncher, image: str, username: str, server_name: str, repo_url: str) -> None:
    user = await launcher.get_user_data(username)
    HOOKED.append({"user": user["name"], "image": image, "server": server_name, "repo": repo_url})


class TornadosError(Exception):
    """Has what tornado's HTTPError has."""

    status_code = 451
    log_message = "not for everybody"


def refusing(**arguments: object) -> None:
    raise TornadosError


async def test_an_operators_own_function_is_called_before(the_hub: Hub, make: Make) -> None:
    launcher = make(the_hub.url, pre_launch_hook=f"{__name__}:hook")
    server = await launcher.launch(IMAGE, wish("hook"), PLAN, RecordingLog())
    name = server.id.removesuffix("/")
    assert HOOKED.pop() == {"user": name, "image": IMAGE.name, "server": "", "repo": PLAN.repo.url}
    await launcher.stop(server)
    strict = make(the_hub.url, pre_launch_hook=f"{__name__}:refusing")
    with pytest.raises(Refused, match="not for everybody") as caught:
        await strict.launch(IMAGE, wish("no"), PLAN, RecordingLog())
    assert caught.value.status == 451
    assert the_hub.users() == {}


@pytest.fixture
async def binder(tmp_path: Path, the_hub: Hub) -> AsyncIterator[Ringbinder]:
    given = {
        "Ringbinder.builder": "fake", "Ringbinder.registry": "fake", "Ringbinder.launcher": "jupyterhub",
        "Ringbinder.extra_plugins": "[fake]", "Ringbinder.disabled_plugins": "[git, gh, gl]",
        "Ringbinder.state_folder": str(tmp_path / "state"), "Ringbinder.session_grace": "1s",
        "BinderHub.hub_url": the_hub.url, "BinderHub.hub_api_token": TOKEN, "LaunchQuota.total_quota": "1",
        "LaunchQuota.when_full": "refuse",
    }  # fmt: skip
    config = load((), environ={}, sets=[f"{name}={value}" for name, value in given.items()])
    async with running(config, structlog.get_logger()) as app:
        yield app


async def test_quota_and_client_gone_through_all_stages(binder: Ringbinder, the_hub: Hub) -> None:
    async def events(spec: str) -> list[Event]:
        session = binder.launch(LaunchRequest("fake", spec))
        return [event async for batch in session.read() for _, event in batch]

    ready = (await events("a/b/main"))[-1]
    assert ready.phase == "ready", ready.message
    assert TOKEN not in ready.json.decode()
    assert (await events("a/c/main"))[-1].message.startswith("Too many users")
    (server,) = await binder.servers.running()
    assert server.url == ready.data["url"]
    assert await binder.servers.stop(server)
    # Nobody reads this one, so its client is taken for gone after a second.
    binder.launch(LaunchRequest("fake", "a/d/main"))
    await until(lambda: bool(the_hub.users()))
    await until(lambda: not the_hub.users() and not the_hub.processes())
