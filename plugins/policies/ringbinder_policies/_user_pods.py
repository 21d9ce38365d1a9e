"""The pods of users and of builds in one namespace, counted from a watched cache: no question per launch.

Source: the labels by which BinderHub's `KubernetesLaunchQuota` counts (protocol reference, section 7).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from attrs import define, field
from ringbinder import Context, TransientError
from ringbinder.concurrency import Loop
from ringbinder_cluster.client import Cluster, Json, Patience
from ringbinder_cluster.watching import PodWatch, WatchTimes, finished, labels_of

_USERS: Final = {"app": "jupyterhub", "component": "singleuser-server"}
_BUILDS: Final = {"component": "binderhub-build"}


@define(eq=False)
class UserPods:
    """Made by `watched`. Counts as pods come and go, so that a look costs nothing however many there are."""

    _watch: PodWatch
    images: Counter[str] = field(factory=Counter, init=False)
    """How many users' servers that have not ended run on each image, named without its tag."""
    builds: int = field(default=0, init=False)
    """How many builds run, those of all replicas."""

    def __attrs_post_init__(self) -> None:
        self._watch.observer = self._count

    @classmethod
    @asynccontextmanager
    async def watched(
        cls,
        context: Context,
        namespace: str,
        changed: Callable[[], None],
        patience: Patience | None = None,
        times: WatchTimes | None = None,
    ) -> AsyncIterator[UserPods]:
        """`changed` is called whenever there is a pod more or less. Raises PluginError as `Cluster.connected` does."""
        selector = f"component in ({_USERS['component']},{_BUILDS['component']})"
        async with Cluster.connected(context.name, patience) as cluster:
            watch = PodWatch(cluster, namespace, selector, context.clock, context.log, times or WatchTimes(), _counted)
            pods = cls(watch)
            tasks = (
                context.tasks.start(watch.run(), "watch user pods"),
                context.tasks.start(_tell(watch, changed), "report changed user pods"),
            )
            await watch.first_list()
            try:
                yield pods
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    @property
    def trouble(self) -> str:
        """Why the numbers cannot be relied on; empty if they can."""
        return "" if self._watch.healthy else self._watch.trouble or "there has been no list of pods yet"

    def check(self) -> None:
        """Raises TransientError if the numbers cannot be relied on."""
        if self.trouble:
            raise TransientError(f"How many servers run is not known: {self.trouble}")

    @property
    def seen_at(self) -> float:
        """When the API server last said how things are, in the clock's monotonic seconds."""
        return self._watch.clock.monotonic() - self._watch.silence

    def _count(self, before: Json | None, after: Json | None) -> None:
        for pod, change in ((before, -1), (after, 1)):
            if pod is None or finished(pod):
                continue
            labels = labels_of(pod).items()
            if _BUILDS.items() <= labels:
                self.builds += change
            elif _USERS.items() <= labels:
                image = without_tag(pod["image"])
                self.images[image] += change
                if not self.images[image]:
                    del self.images[image]


def without_tag(image: str) -> str:
    """Servers of all commits of a repository count together."""
    name, colon, tag = image.rpartition(":")
    return name if colon and "/" not in tag else image


async def _tell(watch: PodWatch, changed: Callable[[], None]) -> None:
    with watch.listening() as news:

        async def step() -> None:
            await news.wait()
            news.clear()
            changed()

        waiting = "launches that wait for a place do not get it"
        await Loop("the quota's count of pods", waiting, watch.log, watch.clock).run(step)


def _counted(pod: Json) -> Json:
    """What a pod is counted by. A whole one, of which there are thousands, takes many times the memory."""
    metadata, labels = pod["metadata"], labels_of(pod)
    containers: Sequence[Any] = (pod.get("spec") or {}).get("containers") or ({},)
    # The hub calls the user's container `notebook`.
    chosen = next((one for one in containers if one.get("name") == "notebook"), containers[0])
    return {
        "metadata": {
            **{name: metadata.get(name) for name in ("name", "uid", "resourceVersion")},
            "labels": {name: labels[name] for name in ("app", "component") if name in labels},
        },
        "image": str(chosen.get("image") or ""),
        "status": {"phase": (pod.get("status") or {}).get("phase")},
    }
