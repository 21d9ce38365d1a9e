"""Which pod builds an image: one that is there already, of whichever replica, else a new one.

The name of the pod is the lock: the API server lets only one of a name exist.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping

from attrs import define, field
from ringbinder import Plan, Target
from ringbinder.concurrency import queue_notice
from ringbinder_cluster.client import ApiError, Json
from ringbinder_cluster.watching import POD, finished, uid_of

from . import _pod_manifest as manifest
from . import _pod_state as state
from ._build_cluster import BuildCluster
from .repo2docker import command


@define(eq=False)
class Claim:
    """One build's claim to the name of its pod. All raise TransientError, and ConfigError for missing rights."""

    cluster: BuildCluster
    plan: Plan
    notify: Callable[..., None]
    """Shows a text to those who wait, as `Ticket.notify`."""
    _attempt: str = field(factory=lambda: secrets.token_hex(5))
    _private: str = field(factory=lambda: secrets.token_hex(16))
    _reported: str = ""

    async def place(self) -> None:
        """Waits for a place among the running pods, which stays given; or for a pod that can be taken over."""
        cluster, name = self.cluster, self.plan.build
        with cluster.watch.listening(name) as news:
            try:
                while True:
                    news.clear()
                    if (found := cluster.watch.pods.get(name)) is not None:
                        cluster.leave(self)  # what we wait for now is not a place
                        if await self._fits(found):
                            return
                    elif self._has_turn(news):
                        cluster.given.add(name)
                        return
                    await cluster.moment(news)
            finally:
                cluster.leave(self)

    async def pod(self, target: Target) -> Json:
        """The pod, which runs or has just succeeded."""
        cluster, name = self.cluster, self.plan.build
        with cluster.watch.listening(name) as news:
            while True:
                news.clear()
                if (found := cluster.watch.pods.get(name)) is None:
                    if pod := await self._create(target):
                        return pod
                elif await self._fits(found):
                    if not finished(found):
                        self._tell("This is being built already; here is the log from its beginning.")
                        if not state.started(found):
                            # Who has created the pod may have died before its Secret was there.
                            await self._create_secret(found, state.attempt(found), self._keys(target))
                    return found
                await cluster.moment(news)

    async def _fits(self, found: Json) -> bool:
        """Whether a pod of our name builds our image; one that has ended otherwise makes way."""
        ours = state.makes(found) == self.plan.image
        if finished(found):
            if ours and state.succeeded(found) and uid_of(found) not in self.cluster.used:
                return True
            await self.cluster.remove(found)
            return False
        if state.being_deleted(found):
            self._tell("Waiting for an earlier build of this to be gone...")
            return False
        if not ours:
            self._tell("Another build of this repository is under way; waiting for its end...")
        return ours

    def _has_turn(self, news: asyncio.Event) -> bool:
        """Whether a pod may be created now; else the build waits in the queue."""
        cluster = self.cluster
        cluster.queue.setdefault(self, news)
        ahead = list(cluster.queue).index(self)
        if ahead < cluster.turns:
            return True
        text, queue = queue_notice(ahead)
        self._tell(text, queue=queue)
        return False

    def _keys(self, target: Target) -> Mapping[str, str]:
        return manifest.credentials(self.plan, target.credentials, self.cluster.options)

    async def _create(self, target: Target) -> Json | None:
        cluster, plan, options = self.cluster, self.plan, self.cluster.options
        content = self._keys(target)
        words = command(plan, options, push=options.use_registry, labels=cluster.labels)
        body = manifest.pod(plan, options, words, self._attempt, self._private, keys=content, nodes=cluster.nodes)
        try:
            pod = await cluster.cluster.ask("POST", cluster.watch.path, body=body, shape=POD)
        except ApiError as error:
            if error.status != 409:
                raise cluster.refused("create the build pod", error) from None
            existing = await self._existing()
            if existing is None:
                return None
            cluster.watch.note(existing)
            if state.attempt(existing) != self._attempt:
                return None  # another replica was quicker; the next look finds its pod
            pod = existing  # the answer to our first request had got lost
        else:
            cluster.watch.note(pod)
        try:
            await self._create_secret(pod, self._attempt, content)
        except BaseException:
            await cluster.remove(pod)
            raise
        return pod

    async def _existing(self) -> Json | None:
        try:
            return await self.cluster.cluster.ask("GET", f"{self.cluster.watch.path}/{self.plan.build}", shape=POD)
        except ApiError as error:
            if error.status == 404:
                return None
            raise self.cluster.refused("read the build pod", error) from None

    async def _create_secret(self, pod: Json, attempt: str, content: Mapping[str, str]) -> None:
        """The Secret of the pod, which the cluster removes together with it."""
        if not content or not attempt:
            return
        path = f"/api/v1/namespaces/{self.cluster.watch.namespace}/secrets"
        try:
            await self.cluster.cluster.ask("POST", path, body=manifest.secret(content, pod, attempt))
        except ApiError as error:
            if error.status != 409:
                raise self.cluster.refused("create the build's Secret", error) from None

    def _tell(self, text: str, **data: object) -> None:
        if text != self._reported:
            self._reported = text
            self.notify(text, **data)
