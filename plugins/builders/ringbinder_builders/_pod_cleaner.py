"""Removes build pods that no one needs any more: finished ones after a while, and those that are too old.

The leftovers of replicas that have crashed are among these. What it decides on is the watched cache: nothing is asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ringbinder import RingbinderError
from ringbinder_cluster.client import ApiError
from ringbinder_cluster.watching import finished

from . import _pod_state as state
from ._build_cluster import BuildCluster
from ._kubernetes_options import KubernetesBuildOptions


def superfluous(pod: Mapping[str, Any], now: float, options: KubernetesBuildOptions) -> bool:
    """Whether the pod is to be removed; `now` is in Unix seconds."""
    if state.being_deleted(pod):
        return False
    if finished(pod):
        return now - (state.ended_at(pod) or _created(pod)) >= options.keep_finished
    return bool(options.max_age) and now - _created(pod) >= options.max_age


async def clean(cluster: BuildCluster) -> None:
    """Remove what is superfluous now."""
    for pod in cluster.builds:
        if superfluous(pod, cluster.clock.time(), cluster.options):
            await _remove(cluster, pod)


async def _remove(cluster: BuildCluster, pod: Mapping[str, Any]) -> None:
    name = pod["metadata"]["name"]
    try:
        await cluster.delete(pod)
        cluster.log.info("removed a build pod", pod=name, phase=state.phase(pod))
    except (RingbinderError, ApiError) as error:
        cluster.log.warning("a build pod could not be removed", pod=name, reason=str(error))


def _created(pod: Mapping[str, Any]) -> float:
    return state.moment(pod["metadata"].get("creationTimestamp")) or time.time()
