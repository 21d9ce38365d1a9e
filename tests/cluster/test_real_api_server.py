"""The probes to which the small API server of the tests answers, put to a real one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realparts.kubeprobes import PROBES, Prober
from ringbinder_cluster.client import Cluster

from .building import IMAGE

pytestmark = pytest.mark.real("cluster")


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.__name__)
async def test_the_real_one(cluster: Cluster, namespace: str, probe: Callable[[Prober], Awaitable[None]]) -> None:
    await probe(Prober(cluster, namespace, IMAGE))
