"""Quotas that count the pods of a cluster, over the small API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from ringbinder.errors import Refused, TransientError
from ringbinder.model import GitSource, LaunchRequest, Plan, Repo
from ringbinder.testing import RecordingTicket, make_context
from ringbinder.testing.kubeapi import KubeApi
from ringbinder_cluster.client import Patience
from ringbinder_cluster.watching import WatchTimes
from ringbinder_policies.quota import LaunchQuota, QuotaOptions

IMAGE = "registry.example/binder-a-b"
REPO = Repo("https://git.example/a/b", GitSource("u", "1"), "1", "a%2Fb/1", "u", "a-b")


class QuickQuota(LaunchQuota):
    patience = Patience(request=5.0, first=0.02, longest=0.1, in_all=5.0)
    watch_times = WatchTimes(watch=1.0, slack=5.0, relist=10.0, unwell=0.3)


def asking() -> RecordingTicket:
    """A launch that asks to be admitted."""
    plan = Plan(REPO, f"{IMAGE}:2", "build-a-b-2")
    return RecordingTicket("launch", LaunchRequest("git", "a/b"), REPO, plan)


def user_pod(name: str, image: str = f"{IMAGE}:1", phase: str = "Running", **labels: str) -> dict[str, Any]:
    marks = {"app": "jupyterhub", "component": "singleuser-server", **labels}
    containers = [{"name": "notebook", "image": image}]
    return {
        "metadata": {"name": name, "labels": marks},
        "spec": {"containers": containers},
        "status": {"phase": phase},
    }


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeApi]:
    async with KubeApi.running(tmp_path) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        yield server


@pytest.fixture
async def quotas(tmp_path: Path) -> AsyncIterator[Any]:
    """Starts a quota with these options."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> LaunchQuota:
            context = make_context(tmp_path, "quota")
            stack.push_async_callback(context.services.close)
            quota = QuickQuota(QuotaOptions(namespace="binder", when_full="refuse", **options), context)
            await stack.enter_async_context(quota.lifespan())
            return quota

        yield start


async def admitted(quota: LaunchQuota, ticket: RecordingTicket) -> None:
    place = await quota.admit(ticket)
    assert place is not None
    async with place:
        pass


async def seen(on: LaunchQuota, **counts: int) -> None:
    """Waits until `/health` tells these counts."""
    async with asyncio.timeout(20):
        while (line := await on.health()) is None or not counts.items() <= line.detail.items():
            await asyncio.sleep(0.02)


async def test_health_counts_pods_of_users_and_builds_of_all_replicas(api: KubeApi, quotas: Any) -> None:
    api.put_pod(user_pod("jupyter-1"))
    api.put_pod(user_pod("jupyter-2", phase="Succeeded"))
    api.put_pod(user_pod("hub", component="hub"))
    api.put_pod(user_pod("build-1", component="binderhub-build", app=""))
    quota = await quotas(total_quota=2)
    await seen(quota, total_pods=2, user_pods=1, build_pods=1, quota=2)
    with api.counting() as requests:
        for _ in range(50):
            line = await quota.health()
    assert requests.total() - requests["watch pods"] == 0
    assert line.service == "Pod quota"
    assert line.ok
    assert line.ignore_failure


async def test_launch_beyond_the_total_is_refused_until_a_pod_ends(api: KubeApi, quotas: Any) -> None:
    quota = await quotas(total_quota=1)
    await admitted(quota, asking())
    api.put_pod(user_pod("jupyter-1"))
    await seen(quota, user_pods=1)
    with pytest.raises(Refused, match="Too many users on this BinderHub"):
        await admitted(quota, asking())
    api.remove_pod("jupyter-1")
    await seen(quota, user_pods=0)
    await admitted(quota, asking())


async def test_pods_of_a_repository_count_together_at_any_commit(api: KubeApi, quotas: Any) -> None:
    api.put_pod(user_pod("jupyter-1"))
    api.put_pod(user_pod("jupyter-2", image="registry.example:5000/other"))
    quota = await quotas(per_repo_quota=1)
    with pytest.raises(Refused, match=r"Too many users running https://git\.example/a/b"):
        await admitted(quota, asking())


async def test_who_waits_gets_the_place_as_soon_as_a_pod_goes(api: KubeApi, tmp_path: Path) -> None:
    api.put_pod(user_pod("jupyter-1"))
    context = make_context(tmp_path, "quota")
    options = QuotaOptions(namespace="binder", total_quota=1, poll_interval=3600.0)
    quota = QuickQuota(options, context)
    async with quota.lifespan():
        ticket = asking()
        waiting = asyncio.create_task(admitted(quota, ticket))
        async with asyncio.timeout(20):
            while not ticket.notices:
                await asyncio.sleep(0.02)
        assert not waiting.done()
        api.remove_pod("jupyter-1")
        async with asyncio.timeout(20):
            await waiting
    await context.services.close()


async def test_old_numbers_let_no_one_in_without_the_api_server(api: KubeApi, quotas: Any) -> None:
    quota = await quotas(total_quota=5)
    await admitted(quota, asking())
    await api.down()
    async with asyncio.timeout(20):
        while "message" not in (await quota.health()).detail:
            await asyncio.sleep(0.02)
    with pytest.raises(TransientError, match="not known"):
        await admitted(quota, asking())
    await api.up()
    await seen(quota, user_pods=0)
    await admitted(quota, asking())
