"""A real cluster: the one that ``TEST_KUBECONFIG`` names. Every test has a namespace of its own there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from realparts.baseimage import STAND_INS
from realparts.helm import Chart
from realparts.parts import RealEngine, RealRegistry, registry_of_users
from ringbinder_cluster.client import Cluster

from tests.hub.real_hub import Hub, hub, install

from .installation import Parts

DOCUMENTED_USER: Final = "some-docker-id:$2y$04$aaaaaaaaaaaaaaaaaaaaaeeIntJhrwEvxIuR096lJ3dx2mB8zNcVe\n"
"""With the documented password, as a registry knows it."""


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


@pytest.fixture(scope="session")
def build_image(docker: Callable[..., str], base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of an image with repo2docker as the tests' environment has it."""
    name, context = "ringbinder-tests/repo2docker:1", tmp_path_factory.mktemp("repo2docker")
    for file in (STAND_INS / "Dockerfile", STAND_INS / "docker-buildx", STAND_INS / "repo2docker_config.py"):
        shutil.copy(file, context)
    shutil.copy("/usr/bin/docker", context)
    docker(
        "build", "--network", "host", "--tag", name, "--build-arg", f"BASE={base_image}",
        "--build-arg", f"REPO2DOCKER={version('jupyter-repo2docker')}", str(context),
    )  # fmt: skip
    return name


@pytest.fixture(scope="session")
def onto_the_node(docker_engine: RealEngine) -> Callable[..., None]:
    """Gives images of `docker_engine`, by their names, to the cluster's node."""

    def give(*names: str) -> None:
        save = ["docker", "--host", docker_engine.address, "save", *names]
        ctr = ["ctr", "-a", os.environ["TEST_CLUSTER_CONTAINERD"], "-n", "k8s.io", "images", "import", "-"]
        with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
            subprocess.run(ctr, stdin=saving.stdout, stdout=subprocess.DEVNULL, check=True)
        assert saving.returncode == 0

    return give


@pytest.fixture(scope="session")
def images(ringbinder_image: str, build_image: str, onto_the_node: Callable[..., None]) -> tuple[str, str]:
    """Ringbinder's image and that of build pods, on the cluster's node."""
    onto_the_node(ringbinder_image, build_image)
    return ringbinder_image, build_image


@pytest.fixture(scope="session")
def the_hub(tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]) -> Iterator[Hub]:
    """A real JupyterHub on the loopback."""
    require_real("npm", "jupyterlab")
    folder = Path(os.environ.get("RINGBINDER_TEST_HUBS") or tmp_path_factory.mktemp("hubs"))
    with hub(install("6", folder), tmp_path_factory.mktemp("hub") / "6") as running:
        yield running


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]) -> Iterator[RealRegistry]:
    """A registry that knows the documented user."""
    require_real("docker-registry")
    with registry_of_users(tmp_path_factory.mktemp("store") / "of-users", DOCUMENTED_USER) as running:
        yield running


@pytest.fixture
def parts(
    chart: Chart, cluster: Cluster, namespace: str, images: tuple[str, str], docker_engine: RealEngine,
    store: RealRegistry, the_hub: Hub,
) -> Parts:  # fmt: skip
    return Parts(chart, cluster, namespace, images, docker_engine, store, the_hub)
