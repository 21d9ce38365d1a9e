"""The Binder of `examples/one-host`, installed and started by its own script, and what tests ask of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import psutil
from attrs import frozen
from realparts import baseimage
from realparts.fixtures import Repo2Docker
from realparts.forge import Forge
from realparts.parts import RealEngine
from ringbinder.testing.gitserver import GitServer

SCRIPT: Final = Path(__file__).parents[2] / "examples" / "one-host" / "one-host"
LONG: Final = 280.0
BUILT: Final = "built-"
"""How the names of repositories begin that repo2docker builds, though their images could be assembled."""
_IDLE: Final = "45"
_TELLING: Final = {"registry": "registry.yml", "hub": "jupyterhub_config.py", "ringbinder": "config.yaml"}
"""A word of each part's command line."""


@frozen
class OneHost:
    """A running stack. `address` is Ringbinder's, `hub` the hub's; both end with a slash."""

    folder: Path
    address: str
    hub: str
    registry: str
    engine: RealEngine
    script: psutil.Process
    installed: str
    """What `install` has printed."""
    printed: str
    """What `run` has printed, until all of it answered."""

    async def events(self, link: str) -> AsyncIterator[dict[str, Any]]:
        """What the launch of `link` tells, until it is ready, has failed, or the caller leaves."""
        limit = aiohttp.ClientTimeout(total=LONG)
        async with (
            aiohttp.ClientSession(timeout=limit, headers={"Accept": "text/event-stream"}) as http,
            http.get(f"{self.address}build/{link}") as answer,
        ):
            async for raw in answer.content:
                if raw.startswith(b"data: "):
                    event = json.loads(raw[6:])
                    yield event
                    if event["phase"] in ("ready", "failed"):
                        return

    async def launch(self, link: str) -> list[dict[str, Any]]:
        return [event async for event in self.events(link)]

    async def users(self) -> dict[str, dict[str, Any]]:
        """The hub's users with their servers."""
        headers = {"Authorization": f"token {self.secret('JUPYTERHUB_API_TOKEN')}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self.hub}hub/api/users") as answer,
        ):
            assert answer.status == 200, await answer.text()
            return {user["name"]: user["servers"] for user in await answer.json()}

    async def left(self) -> set[str]:
        """The hub's users and the engine's containers: what a launch may leave."""
        return {*await self.users(), *self.engine.containers()}

    async def launching(self, before: set[str]) -> None:
        """Waits for a launch that was not there `before` to be in its middle: it has a user, and a container."""

        async def user() -> bool:
            return not set(await self.users()) <= before

        async def container() -> bool:
            return not set(self.engine.containers()) <= before

        await until(user)
        await until(container)

    async def nothing_but(self, before: set[str]) -> None:
        """Waits until nothing is left that was not there `before`; of that, some may have been culled since."""

        async def nothing() -> bool:
            return await self.left() <= before

        await until(nothing)

    def part(self, name: str) -> psutil.Process:
        """The process of a part, which the script has started."""
        telling = f"/{_TELLING[name]}"
        (found,) = (each for each in self.script.children() if any(word.endswith(telling) for word in each.cmdline()))
        return found

    async def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends a part, and waits until the script has started it again and it answers."""
        process = self.part(name)
        process.send_signal(how)
        await asyncio.to_thread(process.wait, 120)
        where = {
            "registry": f"http://{self.registry}/v2/",
            "hub": f"{self.hub}hub/api/health",
            "ringbinder": f"{self.address}versions",
        }[name]

        async def answers() -> bool:
            try:
                async with aiohttp.ClientSession() as http, http.get(where) as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await until(answers)

    @asynccontextmanager
    async def read_only(self) -> AsyncIterator[None]:
        """The registry takes no image, while it lasts."""
        file = self.folder / "registry.yml"
        usual = file.read_text()
        file.write_text(
            usual.replace(
                "delete: {enabled: true}",
                "delete: {enabled: true}, maintenance: {readonly: {enabled: true}}",
            )
        )
        await self.end("registry")
        try:
            yield
        finally:
            file.write_text(usual)
            await self.end("registry")

    def secret(self, name: str) -> str:
        lines = (self.folder / "secret.env").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith(f"{name}="))

    def told(self, schema: str) -> list[dict[str, Any]]:
        """The events of a schema that a sink was told of."""
        lines = (self.folder / "state" / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["schema"] == schema]

    def log(self, name: str) -> str:
        return (self.folder / "log" / f"{name}.log").read_text(errors="replace")


def dockerfile(*more: str) -> str:
    lines = [
        f"FROM {baseimage.NAME}", "ARG NB_USER=jovyan", "ARG NB_UID=1000",
        "RUN useradd --create-home --uid ${NB_UID} ${NB_USER}", "COPY --chown=1000 . /home/jovyan", *more,
        "USER ${NB_UID}", "WORKDIR /home/jovyan",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def link(server: GitServer, name: str) -> str:
    return f"git/{quote(server.url(f'{name}.git'), safe='')}/HEAD"


async def answers(ready: Mapping[str, Any]) -> bool:
    """Whether the server of a `ready` event answers to its token."""
    headers = {"Authorization": f"token {ready['token']}"}
    try:
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{ready['url']}api/status", allow_redirects=False) as answer,
        ):
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@contextmanager
def one_host(
    folder: Path, engine: RealEngine, built_with: Repo2Docker, layers_base: str, elsewhere: str, forge: Forge
) -> Iterator[OneHost]:
    """`one-host install` and `one-host run`, literally; what differs from the page is printed.

    Images are assembled on `layers_base`, and what that builder declines is built with repo2docker, as on the page; so
    are the repositories whose name begins with `BUILT`. Pages of the origin `elsewhere` may use it, and GitHub and
    GitLab are `forge`.
    """
    ports = _free_ports(5)
    here = [f"127.0.0.1:{port}" for port in ports]
    (folder / "tests.yaml").write_text(
        f"LocalRepo2dockerBuild: {{repo2docker_config: {built_with.config}}}\n"
        "Ringbinder: {session_grace: 2s, sinks: [jsonlines], builder: [layers, docker]}\n"
        f"LayersBuilder: {{base_image: {layers_base}}}\n"
        f"GitRepoProvider: {{spec_config: [{{pattern: '.*{BUILT}', config: {{builder: docker}}}}]}}\n"
        "Launcher: {resume_time: 5s, watch_interval: 2s}\n"
        + "".join(f"{section}: {json.dumps(options)}\n" for section, options in forge.settings.items())
    )
    differs = {
        "ONE_HOST_HOME": str(folder / "home"),
        "ONE_HOST_HUB": f"http://localhost:{ports[0]}",
        "ONE_HOST_HUB_API": f"http://{here[1]}",
        "ONE_HOST_PROXY_API": f"http://{here[2]}",
        "ONE_HOST_REGISTRY": here[3],
        "ONE_HOST_BINDER_PORT": str(ports[4]),
        "ONE_HOST_NETWORK": "host",
        "ONE_HOST_CONFIG": str(folder / "tests.yaml"),
        "ONE_HOST_CORS_ALLOW_ORIGIN": elsewhere,
        "ONE_HOST_IDLE_SECONDS": _IDLE,
        "DOCKER_HOST": engine.address,
    }
    print("one-host here, unlike the page:", *(f"{name}={value}" for name, value in differs.items()), sep="\n  ")
    print(f"  base image {(folder / 'tests.yaml').read_text().splitlines()[0]}")
    env = os.environ | differs | forge.env
    done = subprocess.run([SCRIPT, "install"], env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with _running(env) as process:
        printed = _wait_for_the_word(process)
        yield OneHost(
            folder / "home", f"http://{here[4]}/", f"http://localhost:{ports[0]}/", here[3], engine,
            psutil.Process(process.pid), done.stdout, printed,
        )  # fmt: skip


@contextmanager
def _running(env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([SCRIPT, "run"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        assert process.stdout is not None
        process.stdout.close()


def _wait_for_the_word(process: subprocess.Popen[str]) -> str:
    reason = []
    assert process.stdout is not None
    for line in process.stdout:
        reason.append(line)
        if "Ringbinder is at" in line:
            return "".join(reason)
    raise AssertionError(f"one-host run has ended:\n{''.join(reason)}")


async def until(done: Callable[[], Awaitable[bool]], seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not await done():
            await asyncio.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
