"""Who waits for a place among the build pods: whose turn it is, and who is left asleep."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.testing import RecordingLog, make_context
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Exit, Hold, Line
from ringbinder_builders._build_cluster import BuildCluster
from ringbinder_builders._kubernetes_options import KubernetesBuildOptions
from ringbinder_cluster.client import Cluster, Patience
from ringbinder_cluster.watching import PodWatch

from .conftest import QuickBuilder, Replica, make_plan, target


def world(folder: Path, limit: int) -> BuildCluster:
    """One whose cache is told of pods by hand."""
    context, nobody = make_context(folder, "kubernetes"), Cluster(None, "test", "binder", Patience())
    watch = PodWatch(nobody, "binder", "", context.clock, context.log)
    options = KubernetesBuildOptions(concurrent_build_limit=limit)
    return BuildCluster(nobody, watch, options, context.log, context.clock)


def pod(number: int, phase: str, version: int) -> dict[str, Any]:
    labels = {"component": "binderhub-build"}
    metadata = {"name": f"p{number}", "uid": f"u{number}", "labels": labels, "resourceVersion": str(version)}
    return {"metadata": metadata, "status": {"phase": phase}}


@given(
    limit=st.integers(1, 100),
    running=st.integers(1, 120),
    waiting=st.integers(0, 60),
    replicas=st.integers(1, 8),
)
def test_a_build_that_ends_wakes_the_next_and_no_one_else(
    tmp_path_factory: Any, limit: int, running: int, waiting: int, replicas: int
) -> None:
    ours = world(tmp_path_factory.getbasetemp(), limit)
    for number in range(running):
        ours.watch.note(pod(number, "Running", number + 1))
    for number in range(waiting):
        ours.queue[number] = asyncio.Event()
    ours.watch.note(pod(0, "Succeeded", running + 1))
    assert ours.running == running - 1
    awake = [news.is_set() for news in ours.queue.values()]
    assert awake == sorted(awake, reverse=True)
    assert sum(awake) == min(waiting, ours.turns)
    assert bool(ours.turns) == (ours.running < limit)
    # All replicas create at once, before one has seen another's pods.
    assert ours.running + replicas * ours.turns < max(limit, ours.running + 1) + replicas


def test_who_leaves_the_queue_wakes_the_next(tmp_path: Path) -> None:
    ours, one, two = world(tmp_path, 1), asyncio.Event(), asyncio.Event()
    ours.queue.update({"one": one, "two": two})
    ours.leave("one")
    ours.leave("one")
    assert two.is_set()


def test_place_without_a_pod_counts_until_it_is_given_back(tmp_path: Path) -> None:
    ours, next_one = world(tmp_path, 1), asyncio.Event()
    ours.given.add("p1")
    ours.queue["next"] = next_one
    assert ours.turns == 0
    ours.give_back("p1")
    assert next_one.is_set()
    ours.given.add("p2")
    ours.watch.note(pod(2, "Running", 1))
    assert (ours.given, ours.turns) == (set(), 0)
    next_one.clear()
    ours.watch.note(pod(2, "Succeeded", 2))
    assert next_one.is_set()
    assert ours.turns == 1


async def test_the_limit_counts_the_pods_of_all_replicas(
    api: KubeApi, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, go_on = asyncio.Event(), asyncio.Event()
    api.script = lambda pod: [Hold(go_on), Exit(0)]
    plans = [make_plan(f"{number:03}bcdef", slug=f"r{number}") for number in range(40)]
    logs = [RecordingLog() for _ in plans]
    limit, most = 17, 0
    replicas: list[QuickBuilder] = []
    create = KubeApi._create

    def running() -> int:
        return sum(pod["status"]["phase"] in ("Pending", "Running") for pod in api.objects["pods"].values())

    def seen(by: QuickBuilder) -> bool:
        assert by._world is not None
        return {name for _, name in api.objects["pods"]} <= set(by._world.watch.pods)

    async def slow_create(self: KubeApi, request: web.Request, namespace: str, resource: str) -> web.Response:
        """Creates a pod once all replicas know of the earlier ones: each had time to ask for one of its own."""
        nonlocal most
        while resource == "pods" and not all(map(seen, replicas)):
            await asyncio.sleep(0)
        answer = await create(self, request, namespace, resource)
        most = max(most, running())
        if most >= limit:
            full.set()
        return answer

    monkeypatch.setattr(KubeApi, "_create", slow_create)
    options = {"concurrent_build_limit": limit}
    async with replica(**options) as a, replica(**options) as b, replica(**options) as c:
        replicas += a, b, c
        builds = [
            asyncio.create_task((a, b, c)[number % 3].build(plan, target(plan), log))
            for number, (plan, log) in enumerate(zip(plans, logs, strict=True))
        ]
        await full.wait()
        await logs[-1].until("in the queue")
        go_on.set()
        await asyncio.gather(*builds)
        assert not any(of._world and of._world.given for of in replicas)
    assert limit <= most < limit + 3
    assert sorted(api.created) == sorted(plan.build for plan in plans)


async def test_wait_for_an_earlier_build_of_the_name_holds_up_no_one(
    api: KubeApi, replica: Replica, log: RecordingLog
) -> None:
    go_on = asyncio.Event()
    api.script = lambda pod: [Line('{"message": "begun\\n", "phase": "building"}'), Hold(go_on), Exit(0)]
    first, theirs = make_plan("1a2b3c", slug="first"), make_plan("1a2b3c", slug="x")
    same_name, last = make_plan("1a2fff", slug="x"), make_plan("3a2b3c", slug="last")
    assert theirs.build == same_name.build
    waiting, last_log = RecordingLog(), RecordingLog()
    async with replica(concurrent_build_limit=1) as ours, replica(concurrent_build_limit=2) as other:
        builds = [asyncio.create_task(ours.build(first, target(first), log))]
        await log.until("begun")
        builds.append(asyncio.create_task(ours.build(same_name, target(same_name), waiting)))
        await waiting.until("number 1 in the queue")
        builds.append(asyncio.create_task(ours.build(last, target(last), last_log)))
        await last_log.until("number 2 in the queue")
        builds.append(asyncio.create_task(other.build(theirs, target(theirs), RecordingLog())))
        await waiting.until("Another build of this repository is under way")
        await last_log.until("number 1 in the queue")
        go_on.set()
        await asyncio.gather(*builds)
