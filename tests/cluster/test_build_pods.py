"""Real build pods on a real cluster: logs, cancel, adoption after kill -9, eviction, memory, images, credentials."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from ringbinder.errors import BuildError, TransientError, UserError
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog
from ringbinder_builders._kubernetes_doctor import RIGHTS
from ringbinder_cluster.access import findings
from ringbinder_cluster.client import ApiError, Cluster

from .building import builder, make_plan, target

pytestmark = pytest.mark.real("cluster")

ROOT = Path(__file__).parents[2]
COUNTING = 'i=0; while [ $i -lt 40 ]; do say "line $i"; i=$((i+1)); sleep 0.2; done; say "the end"'
COUNTED = [*(f"line {number}\n" for number in range(40)), "the end\n"]


@pytest.fixture
def log() -> RecordingLog:
    return RecordingLog()


def built(log: RecordingLog) -> list[str]:
    return [text for phase, text in log.lines if phase == "building"]


async def pods(cluster: Cluster, namespace: str) -> list[Any]:
    answer = await cluster.ask("GET", f"/api/v1/namespaces/{namespace}/pods")
    return list(answer["items"])


async def test_a_build_and_its_whole_log(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    plan = make_plan()
    async with builder(tmp_path, namespace, COUNTING) as running:
        image = await running.build(plan, target(plan), log)
    assert image.pushed
    assert built(log) == COUNTED


async def test_the_reason_of_a_failure(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    script = 'printf \'{"message": "Error during build: no such pin", "phase": "failed"}\\n\'; exit 1'
    plan = make_plan()
    async with builder(tmp_path, namespace, script) as running:
        with pytest.raises(BuildError, match="no such pin"):
            await running.build(plan, target(plan), log)


async def test_cancelled_its_pod_is_gone(tmp_path: Path, cluster: Cluster, namespace: str, log: RecordingLog) -> None:
    plan = make_plan()
    async with builder(tmp_path, namespace, COUNTING) as running:
        build = asyncio.create_task(running.build(plan, target(plan), log))
        await log.until("line 5")
        build.cancel()
        await asyncio.wait({build})
    assert build.cancelled()
    assert await pods(cluster, namespace) == []


async def test_after_kill_9_the_pod_is_taken_over_with_its_log(
    tmp_path: Path, cluster: Cluster, namespace: str, log: RecordingLog, kubeconfig: Path
) -> None:
    command = ["-m", "tests.cluster.one_build", str(tmp_path / "first"), namespace, COUNTING]
    first = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert first.stdout is not None
    assert await first.stdout.readline() == b"it builds\n"
    first.send_signal(signal.SIGKILL)
    await first.wait()
    [pod] = await pods(cluster, namespace)
    plan = make_plan()
    async with builder(tmp_path / "second", namespace, COUNTING) as running:
        await running.build(plan, target(plan), log)
    assert built(log) == COUNTED
    [same] = await pods(cluster, namespace)
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]


async def test_two_replicas_build_once(tmp_path: Path, cluster: Cluster, namespace: str) -> None:
    plan, logs = make_plan(), [RecordingLog(), RecordingLog()]
    async with (
        builder(tmp_path / "a", namespace, COUNTING) as a,
        builder(tmp_path / "b", namespace, COUNTING) as b,
    ):
        await asyncio.gather(a.build(plan, target(plan), logs[0]), b.build(plan, target(plan), logs[1]))
    assert [built(log) for log in logs] == [COUNTED] * 2
    assert len(await pods(cluster, namespace)) == 1


async def test_out_of_memory(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    plan = make_plan()
    script = "x=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; while true; do x=$x$x; done"
    limits = {"limits": {"memory": "32Mi"}}
    async with builder(tmp_path, namespace, script, resources=limits) as running:
        with pytest.raises(BuildError, match=r"ran out of memory.*32Mi"):
            await running.build(plan, target(plan), log)


async def test_past_its_deadline(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    plan = make_plan()
    async with builder(tmp_path, namespace, "say begun; sleep 300", build_timeout=5.0) as running:
        with pytest.raises(BuildError, match="took longer than the 5 seconds"):
            await running.build(plan, target(plan), log)


async def test_evicted(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    """The kubelet evicts a pod that fills more of an emptyDir than it may."""
    plan = make_plan()
    script = "i=0; while [ $i -lt 4000 ]; do cat /bin/sh >> /full/file; i=$((i+1)); sleep 0.1; done"
    mounts = [{"name": "full", "mountPath": "/full"}]
    container = {"name": "builder", "command": ["sh", "-c", script], "volumeMounts": mounts}
    volumes = [{"name": "full", "emptyDir": {"sizeLimit": "1Mi"}}]
    template = {"spec": {"volumes": volumes, "containers": [container]}}
    async with builder(tmp_path, namespace, script, pod_template=template) as running:
        with pytest.raises(TransientError, match="evicted from its node"):
            await running.build(plan, target(plan), log)


@pytest.mark.parametrize("grace", [0, 1, 5])
async def test_deleted_pod_is_tried_again(
    tmp_path: Path, cluster: Cluster, namespace: str, log: RecordingLog, grace: int
) -> None:
    """As by ``kubectl delete pod``: its shell, the container's first process, takes no notice of TERM."""
    plan = make_plan()
    async with builder(tmp_path, namespace, "say begun; sleep 300") as running:
        build = asyncio.create_task(running.build(plan, target(plan), log))
        await log.until("begun")
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace}
        await cluster.ask("DELETE", f"/api/v1/namespaces/{namespace}/pods/{plan.build}", body=body)
        with pytest.raises(TransientError, match="was deleted before the build had ended"):
            await build


async def test_missing_program_is_the_operators(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    plan = make_plan()
    container = {"name": "builder", "command": ["no-such-program"]}
    template = {"spec": {"containers": [container]}}
    async with builder(tmp_path, namespace, "", pod_template=template) as running:
        with pytest.raises(UserError, match="no-such-program") as caught:
            await running.build(plan, target(plan), log)
    assert caught.value.code == "build-not-started"


async def test_an_image_that_cannot_be_pulled(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    plan = make_plan()
    options = {"build_image": "registry.invalid/nothing:1", "pending_timeout": 20.0}
    async with builder(tmp_path, namespace, "true", **options) as running:
        with pytest.raises(UserError, match=r"(ErrImagePull|ImagePullBackOff)"):
            await running.build(plan, target(plan), log)


async def test_a_volume_that_cannot_be_mounted(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    plan = make_plan()
    options = {"push_secret": "no-such-secret", "pending_timeout": 25.0}
    async with builder(tmp_path, namespace, "true", **options) as running:
        with pytest.raises(UserError, match=r"FailedMount.*no-such-secret"):
            await running.build(plan, target(plan), log)


async def test_no_node_fits(tmp_path: Path, namespace: str, log: RecordingLog) -> None:
    plan = make_plan()
    options = {"node_selector": {"no": "such-node"}, "pending_timeout": 5.0}
    async with builder(tmp_path, namespace, "true", **options) as running:
        with pytest.raises(UserError, match="Unschedulable"):
            await running.build(plan, target(plan), log)


async def test_credentials_reach_the_build_at_once_and_go_with_its_pod(
    tmp_path: Path, cluster: Cluster, namespace: str, log: RecordingLog
) -> None:
    plan = make_plan(credentials=Secret("username=we"))
    script = 'say "$(cat "${GIT_CONFIG_GLOBAL%/*}/git-credentials")"; env | grep username; ls /var/run/secrets || true'
    async with builder(tmp_path, namespace, script, keep_finished=0.0, cleanup_interval=1.0) as running:
        await running.build(plan, target(plan), log)
        path = f"/api/v1/namespaces/{namespace}/secrets"
        async with asyncio.timeout(90):
            while await pods(cluster, namespace) or any(
                secret["type"] == "Opaque" for secret in (await cluster.ask("GET", path))["items"]
            ):
                await asyncio.sleep(0.2)
    assert log.text.count("username=we") == 1
    assert "serviceaccount" not in log.text


async def test_each_right_is_asked_for_and_each_is_enough(
    tmp_path: Path, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch, log: RecordingLog
) -> None:
    """A service account with the rights that are written down, and no others, can build."""
    rules: dict[str, set[str]] = {}
    for right in RIGHTS:
        rules.setdefault(right.resource, set()).add(right.verb)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "builder"},
        "rules": [
            {"apiGroups": [""], "resources": [resource], "verbs": sorted(verbs)} for resource, verbs in rules.items()
        ],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "builder"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "builder"},
        "subjects": [{"kind": "ServiceAccount", "name": "builder", "namespace": namespace}],
    }
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await cluster.ask("POST", accounts, body=account)
    token = await cluster.ask(
        "POST",
        f"{accounts}/builder/token",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    file = tmp_path / "kubeconfig"
    _write_kubeconfig(cluster, file, token["status"]["token"], namespace)
    monkeypatch.setenv("KUBECONFIG", str(file))
    async with Cluster.connected("test") as ours:
        missing = await findings(ours, namespace, RIGHTS)
        assert len(missing) == len(RIGHTS)
        assert {finding.level for finding in missing} == {"error"}
        await cluster.ask("POST", f"{rbac}/roles", body=role)
        await cluster.ask("POST", f"{rbac}/rolebindings", body=binding)
        async with asyncio.timeout(30):
            while len(await findings(ours, namespace, RIGHTS)) > 1:
                await asyncio.sleep(0.2)
        with pytest.raises(ApiError, match="forbidden"):
            await ours.ask("GET", "/api/v1/nodes")
    plan = make_plan(credentials=Secret("username=we"))
    async with builder(tmp_path, namespace, "say done") as running:
        await running.build(plan, target(plan), log)
    assert built(log) == ["done\n"]


def _write_kubeconfig(cluster: Cluster, file: Path, token: str, namespace: str) -> None:
    import yaml

    configuration = cluster._client.configuration
    server = {"server": configuration.host, "certificate-authority": configuration.ssl_ca_cert}
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": context}],
    }
    file.write_text(yaml.safe_dump(content))
