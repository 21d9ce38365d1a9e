"""What a cluster's network does and that of the tests' node does not: addresses that lead from pods to what listens on
the loopback of this machine, and a Service that leads to the pods that are ready.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import define, field
from ringbinder_cluster.client import Cluster, Query

MACHINE: Final = "10.244.77.1"
"""This machine, as pods see it."""
_API: Final = "10.96.0.1", 443
_LAG: Final = 1.0
"""Seconds that a node's proxy may be behind: the default of kube-proxy."""

Address = tuple[str, int]


@asynccontextmanager
async def reached_from_pods(cluster: Cluster, *urls: str) -> AsyncIterator[list[str]]:
    """While entered, pods reach the API server where they look for it, and `urls` at the addresses that it yields."""
    async with AsyncExitStack() as stack:
        api = _place(cluster._client.configuration.host)
        for listen, target in ((_API, api), *(((MACHINE, _place(url)[1]), _place(url)) for url in urls)):
            await stack.enter_async_context(_leading(listen, partial(_same, target)))
        yield [f"http://{MACHINE}:{_place(url)[1]}{urlsplit(url).path}" for url in urls]


def _same(place: Address) -> Address:
    return place


def _place(url: str) -> Address:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


async def watched(cluster: Cluster, path: str, query: Query) -> AsyncIterator[tuple[str, Any]]:
    """What happens to the objects at `path`, from those on that are there: kind of the event, and object."""
    async with cluster.open("GET", path, {**query, "watch": "true"}) as response:
        async for line in response.content:
            event = json.loads(line)
            yield event["type"], event["object"]


@define(eq=False)
class Service:
    """The Service `binder` of a namespace, at `address`: each connection to the next pod that is ready."""

    address: Address
    ready: list[Address] = field(factory=list)
    """Where the Service leads to now."""
    fewest: int | None = None
    """The least number of ready pods since this was set."""
    _turn: int = 0
    _changed: asyncio.Event = field(factory=asyncio.Event)

    async def until(self, count: int) -> None:
        """Returns once it leads to `count` pods."""
        while len(self.ready) != count:
            self._changed.clear()
            await self._changed.wait()

    @asynccontextmanager
    async def running(self, cluster: Cluster, namespace: str) -> AsyncIterator[None]:
        following = asyncio.create_task(self._follow(cluster, namespace))
        try:
            async with _leading(self.address, self._next):
                yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, cluster: Cluster, namespace: str) -> None:
        path, query = f"/api/v1/namespaces/{namespace}/endpoints", {"fieldSelector": "metadata.name=binder"}
        async for _, endpoints in watched(cluster, path, query):
            if self.ready:
                await asyncio.sleep(_LAG)
            self.ready = [
                (str(address["ip"]), int(subset["ports"][0]["port"]))
                for subset in endpoints.get("subsets", [])
                for address in subset.get("addresses", [])
            ]
            self._changed.set()
            if self.fewest is not None:
                self.fewest = min(self.fewest, len(self.ready))

    def _next(self) -> Address | None:
        self._turn += 1
        return self.ready[self._turn % len(self.ready)] if self.ready else None


@asynccontextmanager
async def _leading(listen: Address, target: Callable[[], Address | None]) -> AsyncIterator[None]:
    """Each connection to `listen` leads to the `target` of that moment; it ends at once if there is none."""
    open_now: set[asyncio.Task[Any]] = set()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            open_now.add(task)
            task.add_done_callback(open_now.discard)
        try:
            if to := target():
                await _joined(reader, writer, to)
        except OSError:
            pass  # the client sees its connection end
        finally:
            writer.close()

    server = await asyncio.start_server(lead, *listen)
    try:
        yield
    finally:
        server.close()
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def _joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: Address) -> None:
    far_reader, far_writer = await asyncio.open_connection(*to)
    ways = [asyncio.create_task(_pass(reader, far_writer)), asyncio.create_task(_pass(far_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        far_writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
