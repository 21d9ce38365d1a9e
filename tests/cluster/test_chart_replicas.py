"""Two replicas of the chart: one Binder, also while both are replaced in the middle of a build."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from attrs import define, field
from ringbinder.testing.gitserver import GitServer

from .installation import Installation, Parts, ready, uid
from .network import Address, watched
from .site import Seen, Site, in_pods, steps

pytestmark = [pytest.mark.real("cluster of this machine", "helm"), pytest.mark.timeout(1800)]

HOST: Final = {"Host": "binder.example"}
GRACE: Final = 15
DRAIN: Final = 10
SHUTTING_DOWN: Final = "Ringbinder is shutting down. Please try again in a moment.\n"


def shared(site: Seen) -> dict[str, Any]:
    """Values for replicas that are replaced quickly, and the registry as the engine's host calls it."""
    return {
        "replicas": 2,
        "deployment": {"drainSeconds": DRAIN},
        "config": {
            "DockerRegistry": {"url": site.store, "auth_config_url": site.parts.store.url},
            "Ringbinder": {"session_grace": GRACE},
        },
    }


@asynccontextmanager
async def build_pods(site: Installation, name: str) -> AsyncIterator[set[str]]:
    """The uid of every pod that there was for repository `name` while entered."""
    seen: set[str] = set()

    async def look() -> None:
        path = f"/api/v1/namespaces/{site.namespace}/pods"
        async for _, pod in watched(site.cluster, path, {"labelSelector": "component=binderhub-build"}):
            if pod["metadata"]["annotations"]["binder-repo"].endswith(name):
                seen.add(uid(pod))

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_two_replicas_are_one_binder(parts: Parts, git_server: GitServer, tmp_path: Path) -> None:
    async with in_pods(parts, git_server, tmp_path, shared) as site:
        await site.service.until(2)
        await _one_pod_for_the_watchers_of_both(site)
        await _who_comes_back_to_the_other_replica_gets_one_server(site)
        await _replaced(site, "replaced while idle")
        await _replaced_in_the_middle_of_a_build(site)


async def _one_pod_for_the_watchers_of_both(site: Site) -> None:
    first, second = site.replicas()
    link, release = site.link("group/shared", 10), site.release
    async with release.http.get(f"{first}v2/{link}", headers=HOST) as page:
        [token] = set(re.findall(r'"build_token": ?"([^"]+)"', await page.text()))
    wrong = token[:-8] + "AAAAAAAA"
    [refused] = [event async for event in release.launch(link, second, query={"build_token": wrong}, headers=HOST)]
    assert refused["message"] == "Invalid build token\n", refused

    async def watch(replica: str) -> list[dict[str, Any]]:
        return [event async for event in release.launch(link, replica, query={"build_token": token}, headers=HOST)]

    async with build_pods(release, "group/shared") as made:
        reported = await asyncio.gather(*(watch(replica) for replica in (first, second) for _ in range(3)))
    for each in reported:
        assert steps(each) == list(range(1, 11)), each
        assert each[-1]["phase"] == "ready", each[-3:]
    assert len(made) == 1
    assert len({each[-1]["url"] for each in reported}) == len(reported)


async def _who_comes_back_to_the_other_replica_gets_one_server(site: Site) -> None:
    """Whoever comes back elsewhere begins anew; the launch that they left is taken down."""
    first, second = site.replicas()
    link, release = site.link("group/left", 5), site.release
    before, last = set(site.parts.hub.users()), ""
    async with build_pods(release, "group/left") as made:
        async for event in release.launch(link, first):
            last = event["id"]
            if "step 4\n" in event.get("message", ""):
                break
        reported = [event async for event in release.launch(link, second, headers={"Last-Event-ID": last})]
    assert reported[0]["id"].endswith(".0")
    assert last.partition(".")[0] not in reported[0]["id"]
    assert steps(reported) == list(range(1, 6)), reported
    assert reported[-1]["phase"] == "ready", reported[-3:]
    assert len(made) == 1
    [user] = re.findall("/user/([^/]+)/", reported[-1]["url"])
    async with asyncio.timeout(3 * GRACE):
        while set(await asyncio.to_thread(site.parts.hub.users)) - before != {user}:
            await asyncio.sleep(0.5)


@define
class Client:
    """Somebody at the Service, who comes back after a lost connection and begins anew when the server shuts down."""

    site: Site
    link: str
    hasty: bool = False
    """Comes back all the time, with the id of the last event."""
    told: list[dict[str, Any]] = field(factory=list)
    """Of the last session."""
    connections: int = 0
    shut_down: int = 0
    building: asyncio.Event = field(factory=asyncio.Event)

    async def launched(self) -> None:
        """Returns once there is a server."""
        last = ""
        while True:
            self.connections += 1
            try:
                async with asyncio.timeout(5 if self.hasty else None):
                    last = await self._connection(last)
            except (aiohttp.ClientError, TimeoutError):
                last = self.told[-1]["id"] if self.told else ""
            if not self.told:
                continue
            end = self.told[-1]
            if end["phase"] == "ready":
                return
            if end["phase"] == "failed":
                assert end["message"] == SHUTTING_DOWN, end
                self.shut_down, last = self.shut_down + 1, ""

    async def _connection(self, last: str) -> str:
        headers = {"Last-Event-ID": last} if last else {}
        async for event in self.site.release.launch(self.link, headers=headers):
            if self.told and event["id"].partition(".")[0] != self.told[-1]["id"].partition(".")[0]:
                self.told.clear()
            self.told.append(event)
            last = event["id"]
            if event["phase"] == "building":
                self.building.set()
        return last


@asynccontextmanager
async def knocking(address: Address) -> AsyncIterator[list[str]]:
    """What went wrong with the requests that are made at `address` all the time while entered, none twice."""
    wrong: list[str] = []

    async def knock() -> None:
        while True:
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(b"GET /versions HTTP/1.0\r\nHost: binder.example\r\n\r\n")
                if not (answer := await reader.read()).startswith(b"HTTP/1.1 200 "):
                    wrong.append(f"{answer[:200]!r}")
            except OSError as error:
                wrong.append(repr(error))
            finally:
                writer.close()
            await asyncio.sleep(0.05)

    task = asyncio.create_task(knock())
    try:
        yield wrong
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled(), task.exception()


async def _replaced(site: Site, text: str) -> None:
    """Both replicas by new ones, with a new configuration; there are always two, and the Service always answers."""
    release, service = site.release, site.service
    old, service.fewest = {uid(pod) for pod in await release.pods()}, len(service.ready)
    async with knocking(service.address) as wrong:
        await release.upgrade(f"config.BinderHub.about_message={text}")
        await release.until(lambda pod: ready(pod) and uid(pod) not in old, count=2)
        await service.until(2)
    async with release.http.get(f"{release.address}about") as about:
        assert text in await about.text()
    assert wrong == []
    assert service.fewest == 2


async def _replaced_in_the_middle_of_a_build(site: Site) -> None:
    link = site.link("group/long", 90)
    clients = [Client(site, link, hasty=number == 0) for number in range(5)]
    async with build_pods(site.release, "group/long") as made:
        launches = [asyncio.create_task(client.launched()) for client in clients]
        await asyncio.gather(*(client.building.wait() for client in clients))
        await _replaced(site, "replaced in the middle of a build")
        await asyncio.gather(*launches)
    for client in clients:
        # Who comes back after the build's end finds the image.
        found = client.told[0]["phase"] == "built"
        assert steps(client.told) == ([] if found else list(range(1, 91))), client.told
    assert any(steps(client.told) for client in clients)
    assert len(made) == 1
    assert any(client.shut_down for client in clients)
