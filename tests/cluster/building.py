"""Builders of kind `kubernetes` on a real cluster, whose pods run a shell instead of repo2docker."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from ringbinder.model import GitSource, Plan, Repo, Target
from ringbinder.testing import make_context
from ringbinder_builders._kubernetes_options import KubernetesBuildOptions
from ringbinder_builders.kubernetes import KubernetesBuilder

IMAGE: Final = os.environ.get("TEST_CLUSTER_IMAGE", "localhost/busybox:1")
"""An image with a shell that the cluster's nodes have or can pull."""

REPO = "https://git.example/a/b"

SAY = 'say() { printf \'{"message": "%s\\\\n", "phase": "building"}\\n\' "$1"; }; '
"""A function of the shell that logs a line as repo2docker does."""


def make_plan(**repo: Any) -> Plan:
    found = Repo(REPO, GitSource(REPO, "1a2b3c"), "1a2b3c", "a%2Fb/1a2b3c", REPO, "a-b", **repo)
    return Plan(found, "registry.example/binder-a-b:1a2b3c", "build-a-b-1a2")


def target(plan: Plan) -> Target:
    return Target("oci", plan.image)


@asynccontextmanager
async def builder(folder: Path, namespace: str, script: str, **options: Any) -> AsyncIterator[KubernetesBuilder]:
    """`script` may use `SAY`'s function; its pods have the container's usual arguments besides."""
    context = make_context(folder, "kubernetes")
    container = {"name": "builder", "command": ["sh", "-c", SAY + script]}
    chosen = KubernetesBuildOptions(
        **{
            "build_image": IMAGE,
            "namespace": namespace,
            "docker_host": None,
            "push_secret": "",
            "pod_template": {"spec": {"containers": [container]}},
            **options,
        }
    )
    running = KubernetesBuilder(chosen, context)
    try:
        async with running.lifespan():
            yield running
    finally:
        await context.services.close()
