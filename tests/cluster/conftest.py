"""A real cluster: the one that ``TEST_KUBECONFIG`` names. Every test has a namespace of its own there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from ringbinder_cluster.client import Cluster

IMAGE: Final = os.environ.get("TEST_CLUSTER_IMAGE", "localhost/busybox:1")
"""An image with a shell that the cluster's nodes have or can pull."""


@pytest.fixture
def kubeconfig(monkeypatch: pytest.MonkeyPatch) -> Path:
    file = Path(os.environ["TEST_KUBECONFIG"])
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.delenv("BUILD_NAMESPACE", raising=False)
    return file


@pytest.fixture
async def cluster(kubeconfig: Path) -> AsyncIterator[Cluster]:
    async with Cluster.connected("test") as connection:
        yield connection


@pytest.fixture
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    name = f"ringbinder-test-{uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await cluster.ask("POST", "/api/v1/namespaces", body=body)
    try:
        yield name
    finally:
        await cluster.ask("DELETE", f"/api/v1/namespaces/{name}")
