"""The chart on a real cluster, with the documentation's two files and a third that changes nothing but addresses,
images and the network: the API server, the registry, the hub and the git server are on this machine's loopback.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import psutil
import pytest
from ringbinder.testing.gitserver import GitServer

from tests.hub.real_hub import free_ports

from .installation import Installation, Parts, ready, uid

pytestmark = [pytest.mark.real("cluster of this machine", "helm"), pytest.mark.timeout(1800)]

DOCKERFILE: Final = "FROM ringbinder-tests/base:1\nRUN for i in 1 2 3 4 5 6 7 8 9 10; do echo step $i; sleep 1; done\n"


def of_this_machine(parts: Parts, port: int) -> dict[str, Any]:
    """Values for pods that have this machine's network."""
    api = urlsplit(parts.cluster._client.configuration.host)
    probes = {f"{kind}Probe": {"httpGet": {"host": "127.0.0.1"}} for kind in ("startup", "readiness", "liveness")}
    return {
        "deployment": {"host": "127.0.0.1", **probes},
        "extraPodSpec": {"hostNetwork": True},
        "extraEnv": {"KUBERNETES_SERVICE_HOST": api.hostname, "KUBERNETES_SERVICE_PORT": str(api.port)},
        "config": {"BinderHub": {"port": port, "hub_url_local": parts.hub.local_url}},
    }


async def test_from_the_documentations_files_to_a_launched_server(
    parts: Parts, git_server: GitServer, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    network = of_this_machine(parts, port)
    async with parts.release(tmp_path, f"http://127.0.0.1:{port}/", network) as site:
        first = await _without_a_hub(site)
        complete = f"config.BinderHub.hub_url={parts.hub.url}"
        await _completed(site, complete, first)
        await _built_pushed_launched(site, git_server, parts.store.url, parts.hub.url)
        await _a_wrong_option_is_told(site, complete)


async def _without_a_hub(site: Installation) -> str:
    notes = await site.upgrade()
    [pod] = await site.until(ready)
    completion = "--set config.BinderHub.hub_url="
    assert f"helm upgrade binder <this chart> --namespace {site.namespace} --reuse-values {completion}" in notes
    assert completion in (await site.get(""))[1]
    status, health = await site.get("health")
    assert status == 503
    assert "hub_url" in health
    return uid(pod)


async def _completed(site: Installation, complete: str, before: str) -> None:
    await site.upgrade(complete)
    [pod] = await site.until(lambda pod: ready(pod) and uid(pod) != before)
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
    reported = [event async for event in site.launch(link)]
    reason = "".join(event.get("message", "") for event in reported if event["phase"] == "building")
    assert [f"step {number}\n" in reason for number in range(1, 11)] == [True] * 10, reason
    assert reported[-1]["phase"] == "ready", reported[-5:]
    assert reported[-1]["url"].startswith(hub_url)
    assert {uid(pod) for pod in await site.pods("binderhub-build")} <= {uid(running)}
    pushed = [event for event in reported if event["phase"] == "pushing"]
    assert any(event.get("progress") for event in pushed), pushed
    name, _, tag = reported[-1]["image"].partition("/")[2].rpartition(":")
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
    await site.upgrade(complete, "config.GitHubRepoProvder.access_token=x")

    def refused(pod: Any) -> bool:
        return "GitHubRepoProvider" in json.dumps(pod["status"].get("initContainerStatuses", []))

    [pod] = await site.until(refused)
    [check] = [one for one in pod["status"]["initContainerStatuses"] if one["name"] == "config-check"]
    ended = (check["state"].get("terminated") or check["lastState"]["terminated"])["message"]
    assert "GitHubRepoProvder" in ended
    assert not ready(pod)
