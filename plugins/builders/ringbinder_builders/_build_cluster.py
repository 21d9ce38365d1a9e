"""What all build pods of this process share: the API server, the watched cache, the queue for a place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from attrs import define, field, frozen
from ringbinder import Clock, ConfigError, Logger, RingbinderError
from ringbinder_cluster.client import ApiError, Cluster, Json
from ringbinder_cluster.logs import LogTimes
from ringbinder_cluster.watching import PodWatch, finished, labels_of, uid_of

from ._kubernetes_options import KubernetesBuildOptions
from ._pod_manifest import COMPONENT

IMAGE_BUILDERS: Final = {"component": "image-builder", "app": "binder"}
"""Labels of the pods in which the chart's container engines run, one on each node that builds."""

_REPLICAS: Final = 8
"""Up to so many, which create pods before they have seen each other's, pass the limit by less than their number."""


@frozen
class BuildTimes:
    """All in seconds."""

    tick: float = 1.0
    """How often limits of time are looked at."""
    events_after: float = 15.0
    """For a pod that has not started by then the cluster's events are asked, and again each time after this."""
    deletion: float = 60.0
    """How long we wait to see that a deleted pod is gone."""
    log: LogTimes = field(factory=LogTimes)


@define(eq=False)
class BuildCluster:
    """See the module."""

    cluster: Cluster
    watch: PodWatch
    options: KubernetesBuildOptions
    log: Logger
    clock: Clock
    times: BuildTimes = field(factory=BuildTimes)
    labels: Mapping[str, str] = field(factory=dict)
    """Of the images."""
    queue: dict[object, asyncio.Event] = field(factory=dict)
    """Who waits for a place among the running pods, in the order of their coming; the event is set at their turn."""
    given: set[str] = field(factory=set, init=False)
    """Names of the builds whose turn it was and whose pods are not there yet."""
    running: int = field(default=0, init=False)
    """How many build pods have not ended, of all replicas."""
    used: set[str] = field(factory=set)
    """The uids of the pods whose success was reported: none is taken for the success of a second build."""

    def __attrs_post_init__(self) -> None:
        self.watch.observer = self._count

    @property
    def builds(self) -> list[Json]:
        """The build pods, of all replicas, finished ones too."""
        return [pod for pod in self.watch.pods.values() if labels_of(pod).get("component") == COMPONENT]

    @property
    def turns(self) -> int:
        """How many of the queue may create their pods now: a share of the free places, less those that are given."""
        free = self.options.concurrent_build_limit - self.running
        share = max(1, free // _REPLICAS) if free > 0 else 0
        return max(0, share - len(self.given))

    def leave(self, waiting: object) -> None:
        """Takes it out of the queue, if it is there."""
        if self.queue.pop(waiting, None):
            self._call()

    def give_back(self, name: str) -> None:
        """Takes back the place of the build `name`, if no pod has taken it."""
        if name in self.given:
            self.given.remove(name)
            self._call()

    def _count(self, before: Json | None, after: Json | None) -> None:
        more = _runs(after) - _runs(before)
        self.running += more
        if after and more > 0:
            self.given.discard(str(after["metadata"]["name"]))
        if more:
            self._call()

    def _call(self) -> None:
        """Wakes those of the queue whose turn it is, and no one else, however many wait."""
        for news in islice(self.queue.values(), self.turns):
            news.set()

    @property
    def nodes(self) -> list[str]:
        """The nodes whose container engines build, if builds are to be sticky."""
        if not self.options.sticky_builds:
            return []
        pods = self.watch.pods.values()
        found = {
            str((pod.get("spec") or {}).get("nodeName") or "")
            for pod in pods
            if IMAGE_BUILDERS.items() <= labels_of(pod).items()
        }
        return sorted(found - {""})

    async def delete(self, pod: Json) -> None:
        """Deletes this pod; that it is gone already is no error. Raises TransientError and ApiError."""
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            # What runs is ended by the node first: with 0 its object would go before it.
            "gracePeriodSeconds": 0 if finished(pod) else 1,
            "preconditions": {"uid": uid_of(pod)},
        }
        try:
            await self.cluster.ask("DELETE", f"{self.watch.path}/{pod['metadata']['name']}", body=body)
        except ApiError as error:
            if error.status not in (404, 409):  # 409: another pod has the name now
                raise

    async def remove(self, pod: Json) -> None:
        """Deletes a pod and waits a while to see that it is gone. A failure is logged, and no more."""
        name, uid = str(pod["metadata"]["name"]), uid_of(pod)
        with self.watch.listening(name) as news:
            try:
                await self.delete(pod)
            except (RingbinderError, ApiError) as error:
                self.log.warning("a build pod could not be deleted", pod=name, reason=str(error))
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self.times.deletion):
                    while (seen := self.watch.look(name, uid)) is not None and not seen.gone:
                        news.clear()
                        await news.wait()

    async def moment(self, news: asyncio.Event) -> None:
        """Waits for news, but only until limits of time are to be looked at."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.times.tick):
                await news.wait()

    def refused(self, what: str, error: ApiError) -> ConfigError:
        """For an answer of the API server that only an operator can change."""
        message = f"the Kubernetes API server does not let us {what} in namespace {self.watch.namespace}"
        return ConfigError([f"KubernetesBuildExecutor: {message}: {error.message}; see `ringbinder doctor`"])


def _runs(pod: Json | None) -> bool:
    return pod is not None and labels_of(pod).get("component") == COMPONENT and not finished(pod)
