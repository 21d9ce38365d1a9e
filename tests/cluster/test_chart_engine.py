"""What the chart puts on nodes that build: a Docker engine in a pod, which build pods use, and the image cleaner."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from realparts.parts import RealEngine
from ringbinder.testing.gitserver import GitServer
from ringbinder_cluster.client import Cluster

from .installation import LONG, Parts, ready
from .network import MACHINE, watched
from .site import Seen, in_pods, steps

pytestmark = [pytest.mark.real("cluster of this machine", "helm"), pytest.mark.timeout(1800)]

# As Debian and PyPI have them; the cleaner's requirements are those of its own image.
ENGINE: Final = "RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends docker.io iptables >/dev/null"
CLEANER: Final = (
    "RUN uv venv --quiet --python /usr/bin/python3 /srv/cleaner && uv pip install --quiet --no-cache "
    "--python /srv/cleaner/bin/python docker-image-cleaner==1.0.0b3 docker==6.0.1 requests==2.28.1 "
    "urllib3==1.26.12 kubernetes==25.3.0 setuptools\n"
    "ENV PYTHONUNBUFFERED=1\n"
    'ENTRYPOINT ["/srv/cleaner/bin/docker-image-cleaner"]'
)


@pytest.fixture(scope="session")
def node_images(
    docker: Callable[..., str], base_image: str, tmp_path_factory: pytest.TempPathFactory,
    onto_the_node: Callable[..., None],
) -> tuple[str, str]:  # fmt: skip
    """Names of an image with a Docker engine and of one with the image cleaner, on the cluster's node."""
    names = []
    for name, lines in (("engine", ENGINE), ("cleaner", CLEANER)):
        folder = tmp_path_factory.mktemp(name)
        (folder / "Dockerfile").write_text(f"FROM {base_image}\n{lines}\n")
        names.append(f"ringbinder-tests/{name}:1")
        docker("build", "--network", "host", "--tag", names[-1], str(folder))
    onto_the_node(*names)
    return names[0], names[1]


def _image(name: str) -> dict[str, str]:
    image, tag = name.split(":")
    return {"name": image, "tag": tag}


async def test_build_in_the_charts_engine_and_removal_of_images(
    parts: Parts, git_server: GitServer, base_image: str, node_images: tuple[str, str], tmp_path: Path
) -> None:
    engine = RealEngine(tmp_path / "run")

    def values(seen: Seen) -> dict[str, Any]:
        image = {"image": _image(node_images[0])}
        return {
            "registry": {"url": seen.store},
            "dind": {
                "daemonset": {**image, "extraArgs": [f"--insecure-registry={MACHINE}/32"]},
                "hostSocketDir": str(engine.folder),
                "hostLibDir": str(tmp_path / "lib"),
            },
            "imageCleaner": {
                "image": _image(node_images[1]),
                "imageGCThresholdHigh": 100,
                "extraEnv": {"DOCKER_IMAGE_CLEANER_INTERVAL_SECONDS": "2"},
            },
            "config": {"BinderHub": {"image_prefix": f"{urlsplit(seen.store).netloc}/binder-dev-"}},
        }

    async with in_pods(parts, git_server, tmp_path, values) as site:
        await site.release.until(ready, component="image-builder")
        async with asyncio.timeout(LONG):
            while not engine.answers():
                await asyncio.sleep(0.2)
        await asyncio.to_thread(_give, base_image, parts.engine, engine)
        await site.service.until(1)
        link = site.link("group/course", 3)
        reported = [event async for event in site.release.launch(link)]
        assert steps(reported) == [1, 2, 3], reported
        assert reported[-1]["phase"] == "ready", reported[-3:]
        assert reported[-1]["image"] in engine.tags()
        cordoned = asyncio.create_task(_cordoned(parts.cluster))
        await site.release.upgrade("imageCleaner.imageGCThresholdHigh=1")
        async with asyncio.timeout(LONG):
            while engine.tags():
                await asyncio.sleep(0.5)
            await cordoned
        again = [event["phase"] async for event in site.release.launch(link)]
        assert "building" not in again
        assert again[-1] == "ready"


def _give(image: str, of: RealEngine, to: RealEngine) -> None:
    """The dind of the chart has no network to pull from."""
    with subprocess.Popen(["docker", "--host", of.address, "save", image], stdout=subprocess.PIPE) as saving:
        load = ["docker", "--host", to.address, "load", "--quiet"]
        subprocess.run(load, stdin=saving.stdout, stdout=subprocess.DEVNULL, check=True)
    assert saving.returncode == 0


async def _cordoned(cluster: Cluster) -> None:
    """Returns once a node was closed to new pods and is open again."""
    closed = False
    async for _, node in watched(cluster, "/api/v1/nodes", {}):
        if closed and not node["spec"].get("unschedulable"):
            return
        closed = closed or bool(node["spec"].get("unschedulable"))
