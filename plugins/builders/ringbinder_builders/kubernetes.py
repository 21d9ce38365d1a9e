"""The `kubernetes` builder: every build is a pod that runs repo2docker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

from ringbinder import (
    Builder,
    Context,
    Diagnosis,
    Failure,
    Finding,
    Health,
    Image,
    ImageKind,
    Log,
    Plan,
    PluginError,
    Target,
    Ticket,
    TransientError,
)
from ringbinder.concurrency import Silence
from ringbinder_cluster.client import SILENT, Cluster, Patience
from ringbinder_cluster.watching import PodWatch, WatchTimes

from . import _kubernetes_doctor, causes
from ._build_cluster import IMAGE_BUILDERS, BuildCluster, BuildTimes
from ._kubernetes_options import KubernetesBuildOptions
from ._pod_claim import Claim
from ._pod_cleaner import clean
from ._pod_follow import Following
from ._pod_manifest import COMPONENT


class KubernetesBuilder(Builder[KubernetesBuildOptions]):
    """One watch over all build pods, and for each build under way one follower of its log.

    A pod that was started by another replica, or by this one before it was restarted, is taken over.
    """

    Config = KubernetesBuildOptions
    sections = ("BuildExecutor", "Cleaner", "KubernetesCleaner", "KubernetesBuildExecutor")
    makes: ClassVar[ImageKind] = "oci"

    patience: Patience = Patience()
    watch_times: WatchTimes = WatchTimes()
    times: BuildTimes = BuildTimes()
    """Tests have shorter ones."""

    def __init__(self, config: KubernetesBuildOptions, context: Context) -> None:
        super().__init__(config, context)
        self._world: BuildCluster | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def builder_info(self) -> dict[str, Any]:
        """As BinderHub has it."""
        return {"build_image": self.config.build_image, **self.config.builder_info}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        context, config = self.context, self.config
        async with Cluster.connected(context.name, self.patience) as cluster:
            watch = PodWatch(
                cluster,
                config.namespace or cluster.namespace,
                _selector(sticky=config.sticky_builds),
                context.clock,
                context.log,
                self.watch_times,
            )
            self._world = BuildCluster(
                cluster, watch, config, context.log, context.clock, self.times, self.image_labels
            )
            self._watching = context.tasks.start(watch.run(), "watch build pods")
            cleaning = context.tasks.every(
                config.cleanup_interval, partial(clean, self._world), "the cleaner of build pods",
                "old ones stay on the cluster",
            )  # fmt: skip
            await watch.first_list()
            try:
                yield
            finally:
                self._world = None
                for task in (self._watching, cleaning):
                    task.cancel()
                await asyncio.wait({self._watching, cleaning})

    @asynccontextmanager
    async def place(self, plan: Plan, ticket: Ticket) -> AsyncIterator[None]:
        """Among the running pods of all replicas. Raises what `build` raises."""
        cluster = await self._synced()
        await Claim(cluster, plan, ticket.notify).place()
        try:
            yield
        finally:
            cluster.give_back(plan.build)

    async def build(self, plan: Plan, target: Target, log: Log) -> Image:
        """Raises BuildError, UserError, TransientError if cluster or API server fail, ConfigError if it says no.

        Cancelled, it deletes the pod; but not when Ringbinder stops: then another replica or the next start takes the
        pod over.
        """
        cluster = await self._synced()
        pod = await Claim(cluster, plan, lambda text, **_: log.line(f"{text}\n", "waiting")).pod(target)
        try:
            await Following(cluster, pod, log).success()
        except asyncio.CancelledError:
            if not self.context.closing:
                await cluster.remove(pod)
            raise
        return Image(plan.image, self.makes, pushed=True)

    async def health(self) -> Health | None:
        """Not well when the watch has ended, or has had no contact for long."""
        cluster, watching = self._world, self._watching
        if cluster is None or watching is None:
            return None
        watch = cluster.watch
        detail: dict[str, Any] = {"build_pods": cluster.running}
        if watch.trouble:
            detail["message"] = watch.trouble
        return Health("Kubernetes API", ok=watch.healthy and not watching.done(), detail=detail)

    async def diagnose(self, failure: Failure) -> Diagnosis | None:
        return causes.of_failure(failure)

    async def doctor(self) -> Sequence[Finding]:
        return await _kubernetes_doctor.examine(self.context.name, self.config)

    def _started(self) -> BuildCluster:
        if self._world is None:
            raise PluginError(self.context.name, "it builds only between its start and its end", "build")
        return self._world

    async def _synced(self) -> BuildCluster:
        cluster = self._started()
        try:
            with Silence(SILENT):
                async with asyncio.timeout(self.patience.in_all):
                    await cluster.watch.synced.wait()
        except TimeoutError:
            message = f"The Kubernetes API server does not answer: {cluster.watch.trouble}"
            raise TransientError(message) from None
        return cluster


def _selector(*, sticky: bool) -> str:
    """One watch for the build pods and, if builds are to be sticky, for the engines that build them."""
    engines = IMAGE_BUILDERS["component"]
    return f"component in ({COMPONENT},{engines})" if sticky else f"component={COMPONENT}"
