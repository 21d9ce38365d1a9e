"""The chart on a real cluster, with the documentation's two files and a third that changes nothing but addresses,
images and the network: the API server, the registry, the hub and the git server are on this machine's loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import psutil
import pytest
import yaml
from attrs import frozen
from realparts.baseimage import STAND_INS
from realparts.helm import Chart
from realparts.parts import RealEngine, registry
from ringbinder.testing.gitserver import GitServer
from ringbinder_cluster.client import Cluster

from tests.hub.real_hub import TOKEN, hub, install

pytestmark = [pytest.mark.real("cluster of this machine", "helm"), pytest.mark.timeout(1800)]

DOCUMENTED: Final = Path(__file__).parents[1] / "documented"
FILES: Final = (DOCUMENTED / "config-dockerhub.yaml", DOCUMENTED / "secret-dockerhub.yaml")
# The documented user and password, as the registry knows them.
USERS: Final = "some-docker-id:$2y$04$aaaaaaaaaaaaaaaaaaaaaeeIntJhrwEvxIuR096lJ3dx2mB8zNcVe\n"
DOCKERFILE: Final = (
    "FROM ringbinder-tests/base:1\nRUN for i in 1 2 3 4 5 6 7 8 9 10; do echo step $i; sleep 1; done\n"
)
LONG: Final = 600.0


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
def images(ringbinder_image: str, build_image: str, docker_engine: RealEngine) -> tuple[str, str]:
    """Ringbinder's image and that of build pods, on the cluster's node."""
    save = ["docker", "--host", docker_engine.address, "save", ringbinder_image, build_image]
    ctr = ["ctr", "-a", os.environ["TEST_CLUSTER_CONTAINERD"], "-n", "k8s.io", "images", "import", "-"]
    with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
        subprocess.run(ctr, stdin=saving.stdout, stdout=subprocess.DEVNULL, check=True)
    assert saving.returncode == 0
    return ringbinder_image, build_image


@frozen
class Installation:
    """A release of the chart in a namespace of its own. `address` ends with a slash."""

    chart: Chart
    cluster: Cluster
    namespace: str
    files: tuple[Path, ...]
    address: str
    http: aiohttp.ClientSession

    def upgrade(self, *sets: str) -> str:
        """Installs it, or changes it; what helm says."""
        values = [word for file in self.files for word in ("--values", str(file))]
        more = [word for text in sets for word in ("--set", text)]
        where = ("binder", str(self.chart.folder), "--namespace", self.namespace)
        return self.chart.run("upgrade", "--install", *where, *values, *more)

    async def pods(self, component: str = "binder") -> list[Any]:
        query = {"labelSelector": f"component={component}"}
        answer = await self.cluster.ask("GET", f"/api/v1/namespaces/{self.namespace}/pods", query)
        return list(answer["items"])

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """The one pod of Ringbinder, as soon as it is as `wanted`."""
        found: list[Any] = []
        try:
            async with asyncio.timeout(LONG):
                while True:
                    found = await self.pods()
                    if len(found) == 1 and wanted(found[0]):
                        return found[0]
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(json.dumps(found, indent=1)) from None

    async def get(self, path: str) -> tuple[int, str]:
        async with self.http.get(f"{self.address}{path}") as answer:
            return answer.status, await answer.text()

    async def launch(self, link: str) -> AsyncIterator[dict[str, Any]]:
        """What a launch tells, to the end of its stream."""
        async with self.http.get(
            f"{self.address}build/{link}", headers={"Accept": "text/event-stream"}
        ) as answer:
            async for raw in answer.content:
                if raw.startswith(b"data: "):
                    yield json.loads(raw[6:])


def ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def uid(pod: Any) -> str:
    return str(pod["metadata"]["uid"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def third_file(
    registry: str, hub: str, images: tuple[str, str], engine: RealEngine, cluster: Cluster, port: int
) -> dict[str, Any]:
    """What is other than in the documentation, on a machine without a network."""
    api = urlsplit(cluster._client.configuration.host)
    image, tag = images[0].split(":")
    socket_path = Path(engine.address.removeprefix("unix://"))
    return {
        "image": {"name": image, "tag": tag},
        "registry": {"url": registry},
        "deployment": {
            "host": "127.0.0.1",
            **{f"{kind}Probe": {"httpGet": {"host": "127.0.0.1"}} for kind in ("startup", "readiness", "liveness")},
        },
        "extraPodSpec": {"hostNetwork": True},
        "extraEnv": {"KUBERNETES_SERVICE_HOST": api.hostname, "KUBERNETES_SERVICE_PORT": str(api.port)},
        "dind": {"hostSocketDir": str(socket_path.parent), "hostSocketName": socket_path.name},
        "jupyterhub": {"hub": {"services": {"binder": {"apiToken": TOKEN}}}},
        "config": {
            "BinderHub": {
                "image_prefix": f"{urlsplit(registry).netloc}/binder-dev-", "port": port, "hub_url_local": hub,
            },
            "KubernetesBuildExecutor": {
                "build_image": images[1], "pod_template": {"spec": {"hostNetwork": True}},
            },
        },
    }  # fmt: skip


async def test_from_the_documentations_files_to_a_launched_server(
    chart: Chart, cluster: Cluster, namespace: str, images: tuple[str, str], docker_engine: RealEngine,
    git_server: GitServer, tmp_path: Path, require_real: Callable[..., None],
) -> None:  # fmt: skip
    require_real("docker-registry", "npm", "jupyterlab")
    users = tmp_path / "htpasswd"
    users.write_text(USERS)
    auth = {"htpasswd": {"realm": "x", "path": str(users)}}
    (tmp_path / "hubs").mkdir()
    with (
        registry(tmp_path / "registry", auth) as store,
        hub(install("6", tmp_path / "hubs"), tmp_path / "hub") as the_hub,
    ):
        third, port = tmp_path / "third.yaml", _free_port()
        third.write_text(
            yaml.safe_dump(third_file(store.url, the_hub.local_url, images, docker_engine, cluster, port))
        )
        limit = aiohttp.ClientTimeout(total=LONG)
        async with aiohttp.ClientSession(timeout=limit) as http:
            address = f"http://127.0.0.1:{port}/"
            site = Installation(chart, cluster, namespace, (*FILES, third), address, http)
            try:
                first = await _without_a_hub(site)
                complete = f"config.BinderHub.hub_url={the_hub.url}"
                await _completed(site, complete, first)
                await _built_pushed_launched(site, git_server, store.url, the_hub.url)
                await _a_wrong_option_is_told(site, complete)
            finally:  # what belongs to no namespace does not go with it
                chart.run("uninstall", "binder", "--namespace", namespace)


async def _without_a_hub(site: Installation) -> str:
    notes = site.upgrade()
    pod = await site.until(ready)
    completion = "--set config.BinderHub.hub_url="
    assert (
        f"helm upgrade binder <this chart> --namespace {site.namespace} --reuse-values {completion}" in notes
    )
    assert completion in (await site.get(""))[1]
    status, health = await site.get("health")
    assert status == 503
    assert "hub_url" in health
    return uid(pod)


async def _completed(site: Installation, complete: str, before: str) -> None:
    site.upgrade(complete)
    pod = await site.until(lambda pod: ready(pod) and uid(pod) != before)
    assert (await site.get("health"))[0] == 200, (await site.get("health"))[1]
    assert "cannot launch yet" not in (await site.get(""))[1]
    assert pod["spec"]["serviceAccountName"] == "binderhub"


async def _built_pushed_launched(site: Installation, git: GitServer, store: str, hub_url: str) -> None:
    """One build, whose replica is killed in its middle: it goes on, and is told from its first line."""
    repository = git.repository("group/course")
    commit = repository.commit({"Dockerfile": DOCKERFILE})
    link = f"git/{quote(git.url('group/course'), safe='')}/{commit}"
    begun: list[dict[str, Any]] = []
    async for event in site.launch(link):
        begun.append(event)
        if "step 2" in event.get("message", ""):
            break
    else:
        raise AssertionError(f"it did not build: {begun}")
    [running] = await site.pods("binderhub-build")
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if "serve" in words and "/etc/binderhub/config/chart.yaml" in words:
            process.kill()
    await site.until(lambda pod: ready(pod) and pod["status"]["containerStatuses"][0]["restartCount"] == 1)
    told = [event async for event in site.launch(link)]
    said = "".join(event.get("message", "") for event in told if event["phase"] == "building")
    assert [f"step {number}\n" in said for number in range(1, 11)] == [True] * 10, said
    assert told[-1]["phase"] == "ready", told[-5:]
    assert told[-1]["url"].startswith(hub_url)
    assert {uid(pod) for pod in await site.pods("binderhub-build")} <= {uid(running)}
    pushed = [event for event in told if event["phase"] == "pushing"]
    assert any(event.get("progress") for event in pushed), pushed
    name, _, tag = told[-1]["image"].partition("/")[2].rpartition(":")
    manifest = f"{store}/v2/{name}/manifests/{tag}"
    types = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    login = {"Authorization": aiohttp.encode_basic_auth("some-docker-id", "some-password")}
    async with site.http.get(manifest, headers={**types, **login}) as answer:
        assert answer.status == 200, await answer.text()
    again = [event["phase"] async for event in site.launch(link)]
    assert "building" not in again
    assert again[-1] == "ready"


async def _a_wrong_option_is_told(site: Installation, complete: str) -> None:
    """A section that helm does not know may be a plugin's; the init container does know."""
    site.upgrade(complete, "config.GitHubRepoProvder.access_token=x")

    def refused(pod: Any) -> bool:
        return "GitHubRepoProvider" in json.dumps(pod["status"].get("initContainerStatuses", []))

    pod = await site.until(refused)
    [check] = [one for one in pod["status"]["initContainerStatuses"] if one["name"] == "config-check"]
    ended = (check["state"].get("terminated") or check["lastState"]["terminated"])["message"]
    assert "GitHubRepoProvder" in ended
    assert not ready(pod)
