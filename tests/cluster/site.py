"""A release of the chart whose pods have a network of their own, and a Service before them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from attrs import frozen
from ringbinder.testing.gitserver import GitServer

from tests.hub.real_hub import free_ports

from .installation import Installation, Parts
from .network import Service, reached_from_pods


@frozen
class Seen:
    """The parts around, and the addresses at which pods see them."""

    parts: Parts
    hub: str
    git: str
    store: str


@frozen
class Site:
    """The installation, and the Service that its `address` is."""

    release: Installation
    service: Service
    parts: Parts
    git: GitServer
    git_seen: str

    def link(self, name: str, steps: int) -> str:
        """Of a new repository whose build takes `steps` seconds."""
        count = f"for i in $(seq {steps}); do echo step $i; sleep 1; done"
        # The engine has no layer of this yet.
        dockerfile = f"FROM ringbinder-tests/base:1\nRUN : {uuid4()}; {count}\n"
        commit = self.git.repository(name).commit({"Dockerfile": dockerfile})
        return f"git/{quote(f'{self.git_seen}/{name}', safe='')}/{commit}"

    def replicas(self) -> list[str]:
        """The address of each replica that is ready."""
        return [f"http://{host}:{port}/" for host, port in self.service.ready]


@asynccontextmanager
async def in_pods(
    parts: Parts, git: GitServer, folder: Path, values: Callable[[Seen], Mapping[str, Any]]
) -> AsyncIterator[Site]:
    """Installed, with `values` of the test; its pods may not be ready yet."""
    async with AsyncExitStack() as stack:
        urls = parts.hub.local_url, git.address, parts.store.url
        addresses = await stack.enter_async_context(reached_from_pods(parts.cluster, *urls))
        seen = Seen(parts, *addresses)
        hub = {"hub_url": parts.hub.url, "hub_url_local": seen.hub}
        network = {"config": {"BinderHub": hub, "RepoProvider": {"refuse_private_addresses": False}}}
        [port] = free_ports(1)
        release = await stack.enter_async_context(
            parts.release(folder, f"http://127.0.0.1:{port}/", network, values(seen))
        )
        await release.upgrade()
        service = Service(("127.0.0.1", port))
        await stack.enter_async_context(service.running(parts.cluster, parts.namespace))
        yield Site(release, service, parts, git, seen.git)


def steps(events: list[dict[str, Any]]) -> list[int]:
    """The steps of the build in the events of one session, in their order."""
    text = "".join(event.get("message", "") for event in events if event["phase"] == "building")
    return [int(number) for number in re.findall(r"step (\d+)$", text, re.MULTILINE)]
