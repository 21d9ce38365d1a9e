"""The small API server of the tests, and builders of kind `kubernetes` over it, with short times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ringbinder.launches.stages import Ticket
from ringbinder.model import GitSource, Image, LaunchRequest, Plan, Repo, Target
from ringbinder.protocol import Log
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog, make_context
from ringbinder.testing.kubeapi import KubeApi
from ringbinder_builders._build_cluster import BuildTimes
from ringbinder_builders._kubernetes_options import KubernetesBuildOptions
from ringbinder_builders.kubernetes import KubernetesBuilder
from ringbinder_cluster.client import Patience
from ringbinder_cluster.logs import LogTimes
from ringbinder_cluster.watching import WatchTimes

if TYPE_CHECKING:
    from realparts.turned import TurnedClock

REPO = "https://git.example/a/b"


class QuickBuilder(KubernetesBuilder):
    """A minute of the real one is about a second."""

    patience = Patience(request=60.0, first=0.02, longest=0.1, in_all=60.0)
    watch_times = WatchTimes(watch=1.0, slack=5.0, relist=10.0, unwell=0.5)
    times = BuildTimes(tick=0.05, events_after=0.1, deletion=5.0, log=LogTimes(silence=20.0, last_words=5.0))

    async def build(self, plan: Plan, target: Target, log: Log) -> Image:
        """As core has it built: within a place, whose notices stand in the log."""
        ticket = Ticket(
            "build",
            LaunchRequest("gh", "a/b/main"),
            lambda event: log.line(event.message, event.phase),
            plan.repo,
            plan,
        )
        async with self.place(plan, ticket):
            return await super().build(plan, target, log)


def make_plan(ref: str = "1a2b3c", slug: str = "a-b", **repo: Any) -> Plan:
    found = Repo(REPO, GitSource(REPO, ref), ref, f"a%2Fb/{ref}", REPO, slug, **repo)
    return Plan(found, f"registry.example/binder-{slug}:{ref}", f"build-{slug}-{ref[:3]}")


def target(plan: Plan, login: str = "") -> Target:
    return Target("oci", plan.image, credentials=Secret(login) if login else None)


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeApi]:
    async with KubeApi.running(tmp_path) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        monkeypatch.delenv("BUILD_NAMESPACE", raising=False)
        yield server


Replica = Callable[..., AbstractAsyncContextManager[QuickBuilder]]


@pytest.fixture
def replica(api: KubeApi, tmp_path: Path, clock: TurnedClock) -> Replica:
    """Starts a builder, as one replica of Ringbinder has it; the arguments are its options."""
    count = 0

    @asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[QuickBuilder]:
        nonlocal count
        count += 1
        context = make_context(tmp_path / f"replica-{count}", "kubernetes", clock=clock)
        options = {"cleanup_interval": 0.1, "keep_finished": 60.0, "push_secret": "", **options}
        builder = QuickBuilder(KubernetesBuildOptions(**options), context)
        try:
            async with builder.lifespan():
                yield builder
        finally:
            await context.services.close()

    return start


@pytest.fixture
def log() -> RecordingLog:
    return RecordingLog()
