"""The small API server of the tests answers as a real one does; the real one is asked in ``tests/cluster``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realparts.kubeprobes import PROBES, Prober, shell
from ringbinder.testing.kubeapi import KubeApi
from ringbinder_cluster.client import Cluster


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.__name__)
async def test_as_a_real_one(api: KubeApi, probe: Callable[[Prober], Awaitable[None]]) -> None:
    api.script = shell
    async with Cluster.connected("test") as cluster:
        await probe(Prober(cluster, "binder", "any:1"))
