"""A release of the chart on the cluster of this machine, with the documentation's two files, and what is around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from attrs import field, frozen
from realparts.helm import Chart
from realparts.parts import RealEngine, RealRegistry
from realparts.streams import events_of
from ringbinder_cluster.client import Cluster

from tests.hub.real_hub import TOKEN, Hub

DOCUMENTED: Final = Path(__file__).parents[1] / "documented"
FILES: Final = (DOCUMENTED / "config-dockerhub.yaml", DOCUMENTED / "secret-dockerhub.yaml")
LONG: Final = 600.0


@frozen
class Parts:
    """What the releases of all tests stand on: the images of Ringbinder and of build pods, and real parts."""

    chart: Chart
    cluster: Cluster
    namespace: str
    images: tuple[str, str]
    engine: RealEngine
    store: RealRegistry
    hub: Hub

    @asynccontextmanager
    async def release(self, folder: Path, address: str, *more: Mapping[str, Any]) -> AsyncIterator[Installation]:
        """One that is not installed yet, and is removed at the end. `more`: values of this test alone."""
        files = [*FILES]
        for number, values in enumerate((self._third_file(), *more)):
            files.append(folder / f"values-{number}.yaml")
            files[-1].write_text(yaml.safe_dump(dict(values)))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LONG)) as http:
            try:
                yield Installation(self.chart, self.cluster, self.namespace, tuple(files), address, http)
            finally:  # what belongs to no namespace does not go with it
                await asyncio.to_thread(self.chart.run, "uninstall", "binder", "--namespace", self.namespace)

    def _third_file(self) -> dict[str, Any]:
        """What is other than in the documentation, on a machine without a network."""
        image, tag = self.images[0].split(":")
        socket = Path(self.engine.address.removeprefix("unix://"))
        prefix = f"{self.store.host}/binder-dev-"
        return {
            "image": {"name": image, "tag": tag},
            "registry": {"url": self.store.url},
            "dind": {"hostSocketDir": str(socket.parent), "hostSocketName": socket.name},
            "jupyterhub": {"hub": {"services": {"binder": {"apiToken": TOKEN}}}},
            "config": {
                "BinderHub": {"image_prefix": prefix},
                "KubernetesBuildExecutor": {
                    "build_image": self.images[1], "pod_template": {"spec": {"hostNetwork": True}},
                },
            },
        }  # fmt: skip


@frozen
class Installation:
    """A release of the chart in a namespace of its own. `address` ends with a slash."""

    chart: Chart
    cluster: Cluster
    namespace: str
    files: tuple[Path, ...]
    address: str
    http: aiohttp.ClientSession = field(repr=False)

    async def upgrade(self, *sets: str) -> str:
        """Installs it, or changes it; what helm says."""
        values = [word for file in self.files for word in ("--values", str(file))]
        more = [word for text in sets for word in ("--set", text)]
        where = ("binder", str(self.chart.folder), "--namespace", self.namespace)
        return await asyncio.to_thread(self.chart.run, "upgrade", "--install", *where, *values, *more)

    async def pods(self, component: str = "binder") -> list[Any]:
        query = {"labelSelector": f"component={component}"}
        answer = await self.cluster.ask("GET", f"/api/v1/namespaces/{self.namespace}/pods", query)
        return list(answer["items"])

    async def until(self, wanted: Callable[[Any], bool], count: int = 1, component: str = "binder") -> list[Any]:
        """The pods of that component, as soon as there are `count` and all are as `wanted`."""
        found: list[Any] = []
        try:
            async with asyncio.timeout(LONG):
                while True:
                    found = await self.pods(component)
                    if len(found) == count and all(map(wanted, found)):
                        return found
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(json.dumps(found, indent=1)) from None

    async def get(self, path: str) -> tuple[int, str]:
        async with self.http.get(f"{self.address}{path}") as answer:
            return answer.status, await answer.text()

    async def launch(
        self,
        link: str,
        address: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """What a launch tells, to its last event, each with its `id`."""
        url = f"{address or self.address}build/{link}"
        wanted = {"Accept": "text/event-stream", **(headers or {})}
        async with self.http.get(url, params=query, headers=wanted) as answer:
            async for id, event in events_of(answer):
                yield {"id": id, **event}
                if event["phase"] in ("ready", "failed"):
                    return  # the server keeps the stream open, until clients close it


def ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def uid(pod: Any) -> str:
    return str(pod["metadata"]["uid"])
