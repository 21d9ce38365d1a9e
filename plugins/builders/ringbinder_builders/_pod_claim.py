"""Which pod builds an image: one that is there already, of whichever replica, else a new one.

The name of the pod is the lock: the API server lets only one of a name exist.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from attrs import define, field
from ringbinder import Log, Plan, Target
from ringbinder.concurrency import queue_notice
from ringbinder_cluster.client import ApiError, Json
from ringbinder_cluster.watching import POD, finished, uid_of

from . import _pod_manifest as manifest
from . import _pod_state as state
from ._build_cluster import BuildCluster
from .repo2docker import command


@define(eq=False)
class Claim:
    """One build's claim to the name of its pod."""

    cluster: BuildCluster
    plan: Plan
    target: Target
    log: Log
    _attempt: str = field(factory=lambda: secrets.token_hex(5))
    _private: str = field(factory=lambda: secrets.token_hex(16))
    _reported: str = ""

    async def pod(self) -> Json:
        """The pod, which runs or has just succeeded. Raises TransientError, and ConfigError for missing rights."""
        cluster = self.cluster
        with cluster.watch.listening(self.plan.build) as news:
            try:
                while True:
                    news.clear()
                    found = cluster.watch.pods.get(self.plan.build)
                    if found is None:
                        pod = await self._take_turn(news)
                    else:
                        cluster.leave(self)  # what we wait for now is not a place
                        pod = found if await self._fits(found) else None
                    if pod is not None:
                        return pod
                    await cluster.moment(news)
            finally:
                cluster.leave(self)

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
            return False
        self._tell("This is being built already; here is the log from its beginning.")
        if not state.started(found):
            # Who has created the pod may have died before its Secret was there.
            await self._create_secret(found, state.attempt(found))
        return True

    async def _take_turn(self, news: asyncio.Event) -> Json | None:
        """A new pod, if it is our turn and there is a place."""
        cluster = self.cluster
        cluster.queue.setdefault(self, news)
        ahead = list(cluster.queue).index(self)
        if ahead < cluster.turns:
            return await self._create()
        self._tell(queue_notice(ahead)[0])
        return None

    async def _create(self) -> Json | None:
        cluster, plan, options = self.cluster, self.plan, self.cluster.options
        content = manifest.credentials(plan, self.target.credentials, options)
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

    async def _create_secret(self, pod: Json, attempt: str, content: Mapping[str, str] | None = None) -> None:
        """The Secret of the pod, which the cluster removes together with it."""
        if content is None:
            content = manifest.credentials(self.plan, self.target.credentials, self.cluster.options)
        if not content or not attempt:
            return
        path = f"/api/v1/namespaces/{self.cluster.watch.namespace}/secrets"
        try:
            await self.cluster.cluster.ask("POST", path, body=manifest.secret(content, pod, attempt))
        except ApiError as error:
            if error.status != 409:
                raise self.cluster.refused("create the build's Secret", error) from None

    def _tell(self, text: str) -> None:
        if text != self._reported:
            self._reported = text
            self.log.line(f"{text}\n", "waiting")
