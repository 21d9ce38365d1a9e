"""Builds in pods, over the small API server: what is asked of it, and what is told of how a build ends."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from ringbinder.errors import BuildError, ConfigError, RingbinderError, TransientError, UserError
from ringbinder.model import Failure, LaunchRequest
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Exit, Hold, Line, Stuck, Wait, Warned
from ringbinder_builders._build_cluster import BuildTimes
from ringbinder_cluster.client import Patience

from .conftest import QuickBuilder, Replica, make_plan, target
from .whole import application

LOGIN = json.dumps({"registry": "registry.example", "username": "we", "password": "a-pass-word"})


def said(text: str, phase: str = "building") -> Line:
    return Line(json.dumps({"message": f"{text}\n", "phase": phase}))


async def test_a_build_costs_few_requests_and_makes_an_image(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    words: list[str] = []

    def script(pod: dict[str, Any]) -> list[Any]:
        words.extend(pod["spec"]["containers"][0]["args"])
        return [said("Cloning", "fetching"), said("Step 1"), said("Step 2"), Exit(0)]

    api.script = script
    plan = make_plan()
    async with replica() as builder:
        with api.counting() as requests:
            image = await builder.build(plan, target(plan), log)
    assert "--label=org.ringbinder.builder=kubernetes" in words
    assert (image.name, image.kind, image.pushed) == (plan.image, "oci", True)
    assert log.lines == [("fetching", "Cloning\n"), ("building", "Step 1\n"), ("building", "Step 2\n")]
    del requests["watch pods"]
    # Where the watch is slow to show the end, the log is opened once more.
    assert 2 <= requests.pop("get pods/log") <= 4
    assert requests == {"create pods": 1}


async def test_end_of_a_pod_is_noticed_without_a_pause(
    api: KubeApi, replica: Replica, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log ends before its status does: every pause of ours would take a minute here."""
    api.script, api.status_seconds = lambda pod: [said("Step 1"), Exit(0)], 0.5
    monkeypatch.setattr(QuickBuilder, "patience", Patience(first=60.0, longest=60.0))
    monkeypatch.setattr(QuickBuilder, "times", BuildTimes(tick=60.0))
    plan = make_plan()
    async with replica() as builder, asyncio.timeout(30):
        await builder.build(plan, target(plan), log)
    assert log.lines == [("building", "Step 1\n")]


async def test_credentials_travel_in_a_secret_that_goes_with_the_pod(
    api: KubeApi, replica: Replica, log: RecordingLog
) -> None:
    go_on = asyncio.Event()
    api.script = lambda pod: [said("begun"), Hold(go_on), Exit(0)]
    plan = make_plan(credentials=Secret("username=we\npassword=git-pass-word"))
    async with replica(keep_finished=0.0) as builder:
        build = asyncio.create_task(builder.build(plan, target(plan, LOGIN), log))
        await log.until("begun")
        pod = api.pod(plan.build)
        [secret] = api.objects["secrets"].values()
        go_on.set()
        await build
        await api.until(lambda: not api.objects["secrets"])
    assert pod is not None
    assert "pass-word" not in json.dumps(pod)
    content = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert content["git-credentials"] == "username=we\npassword=git-pass-word"
    auth = json.loads(content["config.json"])["auths"]["registry.example"]["auth"]
    assert base64.b64decode(auth) == b"we:a-pass-word"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    [container] = pod["spec"]["containers"]
    mounts = {mount["subPath"]: mount["mountPath"] for mount in container["volumeMounts"] if "subPath" in mount}
    assert set(mounts) == set(content)
    assert {"name": "GIT_CONFIG_GLOBAL", "value": mounts["gitconfig"]} in container["env"]


async def test_folder_of_credentials_differs_from_pod_to_pod(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    api.script = lambda pod: [Exit(0)]
    names: set[str] = set()
    async with replica() as builder:
        for ref in ("1a2b3c", "4d5e6f"):
            plan = make_plan(ref)
            await builder.build(plan, target(plan, LOGIN), log)
            manifest = api.pod(plan.build)
            assert manifest is not None
            [container] = manifest["spec"]["containers"]
            folder = Path(next(e["value"] for e in container["env"] if e["name"] == "DOCKER_CONFIG"))
            assert json.dumps(manifest["metadata"]).count(folder.name) == 0
            names.add(folder.name)
    assert len(names) == 2
    assert all(len(bytes.fromhex(name)) == 16 for name in names)


@pytest.mark.parametrize(
    ("acts", "error", "words"),
    [
        ([said("Error during build: no such pin", "failed"), Exit(1)], BuildError, ["no such pin"]),
        ([said("x"), Exit(3)], BuildError, ["exit code 3"]),
        ([said("x"), Exit(137)], BuildError, ["signal 9"]),
        ([said("x"), Exit(137, "OOMKilled")], BuildError, ["ran out of memory", "2Gi"]),
        ([said("x"), Exit(1, "", "Evicted", "The node was low on resource: memory.")], TransientError,
         ["evicted", "low on resource"]),
        ([said("x"), Exit(1, "", "DeadlineExceeded", "")], BuildError, ["4 hours"]),
        ([said("x"), Exit(1, "", "NodeLost", "node-1 went away")], TransientError, ["node-1 went away"]),
        ([Stuck("InvalidImageName", 'couldn\'t parse "a b"')], UserError, ["InvalidImageName", "parse"]),
        ([Stuck("ImagePullBackOff", "Back-off pulling image")], UserError, ["ImagePullBackOff", "Back-off"]),
        ([Stuck("Unschedulable", "0/3 nodes are available")], UserError, ["Unschedulable", "0/3 nodes"]),
        ([Warned("FailedMount", 'secret "x" not found'), Stuck()], UserError, ["FailedMount", "not found"]),
        ([Stuck()], UserError, ["still waiting"]),
    ],
)  # fmt: skip
async def test_reason_of_a_failure_is_in_words(
    api: KubeApi,
    replica: Replica,
    log: RecordingLog,
    acts: list[Any],
    error: type[Exception],
    words: list[str],
) -> None:
    api.script = lambda pod: acts
    plan = make_plan()
    async with replica(
        pending_timeout=0.6, memory_limit=2 * 1024**3, resources={"limits": {"memory": "2Gi"}}
    ) as builder:
        with pytest.raises(error) as caught:
            await builder.build(plan, target(plan), log)
    assert isinstance(caught.value, RingbinderError)
    for word in words:
        assert word in str(caught.value)
    if isinstance(acts[0], Stuck) and acts[0].reason not in ("", "InvalidImageName"):
        assert acts[0].reason in log.text
        assert api.pod(plan.build) is None


async def test_silent_build_is_ended(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    api.script = lambda pod: [said("begun"), Wait(60), Exit(0)]
    plan = make_plan()
    async with replica(idle_timeout=0.3) as builder:
        with pytest.raises(BuildError, match="printed nothing"):
            await builder.build(plan, target(plan), log)
    assert api.pod(plan.build) is None


async def test_cancelled_it_deletes_the_pod(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    api.script = lambda pod: [said("begun"), Wait(60), Exit(0)]
    plan = make_plan()
    async with replica() as builder:
        build = asyncio.create_task(builder.build(plan, target(plan), log))
        await log.until("begun")
        build.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build
        assert api.pod(plan.build) is None


async def test_a_pod_that_somebody_deletes_is_no_success(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    api.script = lambda pod: [said("begun"), Wait(60), Exit(0)]
    plan = make_plan()
    async with replica() as builder:
        build = asyncio.create_task(builder.build(plan, target(plan), log))
        await log.until("begun")
        api.remove_pod(plan.build)
        with pytest.raises(TransientError, match="deleted before the build had ended"):
            await build


@pytest.mark.parametrize(
    ("reason", "words"),
    [("", "was deleted before the build had ended"), ("EvictionByEvictionAPI", "is being drained")],
)
async def test_pod_that_is_drained_is_tried_again(
    api: KubeApi, replica: Replica, log: RecordingLog, reason: str, words: str
) -> None:
    """Though its container ends with exit code 137, as that of a build which is killed for its memory."""
    api.script = lambda pod: [said("begun"), Wait(60), Exit(0)]
    plan = make_plan()
    noted = [{"type": "DisruptionTarget", "status": "True", "reason": reason}] if reason else []
    async with replica() as builder:
        build = asyncio.create_task(builder.build(plan, target(plan), log))
        await log.until("begun")
        api.drain_pod(plan.build, conditions=noted)
        with pytest.raises(TransientError, match=words):
            await build


async def test_missing_rights_are_the_operators(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    plan = make_plan()
    api.forbidden = {("create", "secrets")}
    async with replica() as builder:
        with pytest.raises(ConfigError, match="create the build's Secret"):
            await builder.build(plan, target(plan, LOGIN), log)
        assert api.pod(plan.build) is None
        api.forbidden = {("create", "pods")}
        with pytest.raises(ConfigError, match=r"create the build pod.*binder"):
            await builder.build(plan, target(plan), log)


# -- other replicas ------------------------------------------------------------------------------------------


async def test_after_a_restart_the_pod_is_taken_over_with_its_log(
    api: KubeApi, replica: Replica, log: RecordingLog
) -> None:
    go_on = asyncio.Event()
    api.script = lambda pod: [said(f"line {number}") for number in range(300)] + [Hold(go_on), said("the end"), Exit(0)]
    plan = make_plan()
    async with replica() as first:
        first.context.services.closing = True
        build = asyncio.create_task(first.build(plan, target(plan), log))
        await log.until("line 299")
        build.cancel()
        await asyncio.wait({build})
    second_log = RecordingLog()
    async with replica() as second:
        build = asyncio.create_task(second.build(plan, target(plan), second_log))
        await second_log.until("line 299")
        go_on.set()
        await build
    lines = [text for phase, text in second_log.lines if phase == "building"]
    assert lines == [f"line {number}\n" for number in range(300)] + ["the end\n"]
    assert api.created == [plan.build]


async def test_replicas_that_ask_at_the_same_time_build_once(api: KubeApi, replica: Replica) -> None:
    api.script = lambda pod: [said("begun"), Wait(0.2), said("ended"), Exit(0)]
    plan = make_plan()
    logs = [RecordingLog() for _ in range(3)]
    async with replica() as a, replica() as b, replica() as c:
        builds = (builder.build(plan, target(plan), log) for builder, log in zip((a, b, c), logs, strict=True))
        images = await asyncio.gather(*builds)
    assert [image.name for image in images] == [plan.image] * 3
    assert api.created == [plan.build]
    for log in logs:
        assert [text for phase, text in log.lines if phase == "building"] == ["begun\n", "ended\n"]


async def test_pod_of_same_name_and_other_image_is_waited_for(
    api: KubeApi, replica: Replica, log: RecordingLog
) -> None:
    go_on = asyncio.Event()
    api.script = lambda pod: [
        Hold(go_on),
        said(str(pod["metadata"]["annotations"]["ringbinder.org/image"])),
        Exit(0),
    ]
    one, other = make_plan("1a2b3c"), make_plan("1a2fff")
    assert one.build == other.build
    async with replica() as a, replica() as b:
        first = asyncio.create_task(a.build(one, target(one), RecordingLog()))
        await api.until(lambda: api.pod(one.build))
        second = asyncio.create_task(b.build(other, target(other), log))
        await log.until("Another build of this repository")
        go_on.set()
        await asyncio.gather(first, second)
    assert other.image in log.text
    assert one.image not in log.text
    assert api.created == [one.build] * 2


async def test_a_failed_build_can_be_tried_again_at_once(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    codes = iter([1, 0])
    api.script = lambda pod: [said("x"), Exit(next(codes))]
    plan = make_plan()
    async with replica() as builder:
        with pytest.raises(BuildError):
            await builder.build(plan, target(plan), log)
        await builder.build(plan, target(plan), log)
    assert api.created == [plan.build] * 2


async def test_no_success_is_reported_twice(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    """The image may have vanished from the registry since: then only a new build brings it back."""
    plan = make_plan()
    async with replica() as builder:
        await builder.build(plan, target(plan), log)
        await builder.build(plan, target(plan), log)
    assert api.created == [plan.build] * 2


async def test_the_cleaner_removes_what_is_finished_or_too_old(api: KubeApi, replica: Replica) -> None:
    labels = {"name": "old", "component": "binderhub-build"}
    spec = {"containers": [{"name": "builder"}]}
    async with replica(max_age=1.0, keep_finished=0.0):
        api.put_pod({"metadata": {"name": "old", "labels": labels}, "spec": spec})
        api.put_pod({"metadata": {"name": "done", "labels": labels}, "spec": spec, "status": {"phase": "Failed"}})
        api.put_pod({"metadata": {"name": "other", "labels": {"component": "hub"}}, "spec": spec})
        await api.until(lambda: not api.pod("old") and not api.pod("done"))
        assert api.pod("other")


async def test_it_is_unwell_while_the_api_server_is_gone(api: KubeApi, replica: Replica) -> None:
    async with replica() as builder:
        health = await builder.health()
        assert health is not None
        assert health.ok
        await api.down()
        async with asyncio.timeout(20):
            while (health := await builder.health()) is None or health.ok:
                await asyncio.sleep(0.05)
        await api.up()
        async with asyncio.timeout(20):
            while (health := await builder.health()) is None or not health.ok:
                await asyncio.sleep(0.05)


async def test_the_cause_is_read_off_the_log(api: KubeApi, replica: Replica) -> None:
    async with replica() as builder:
        failure = Failure("build", BuildError("The build failed."), ("write /x: no space left on device",))
        diagnosis = await builder.diagnose(failure)
    assert diagnosis is not None
    assert diagnosis.code == "disk-full"


async def test_sticky_builds_prefer_a_node_that_has_a_container_engine(
    api: KubeApi, replica: Replica, log: RecordingLog
) -> None:
    for number in (1, 2, 3):
        labels = {"app": "binder", "component": "image-builder"}
        spec = {"nodeName": f"node-{number}", "containers": [{"name": "dind"}]}
        api.put_pod({"metadata": {"name": f"dind-{number}", "labels": labels}, "spec": spec})
    plan = make_plan()
    async with replica(sticky_builds=True, concurrent_build_limit=1) as builder:
        await builder.build(plan, target(plan), log)
    pod = api.pod(plan.build)
    assert pod is not None
    [preferred] = pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchExpressions"][0]["values"][0] in ("node-1", "node-2", "node-3")


async def test_it_is_unwell_when_its_watch_has_ended(api: KubeApi, replica: Replica) -> None:
    async with replica() as builder:
        assert builder._watching is not None
        builder._watching.cancel()
        await asyncio.wait({builder._watching})
        health = await builder.health()
    assert health is not None
    assert not health.ok


async def test_next_start_goes_on_with_the_build(api: KubeApi, tmp_path: Path) -> None:
    go_on = asyncio.Event()
    api.script = lambda pod: [said("begun"), Hold(go_on), said("ended"), Exit(0)]
    request = LaunchRequest("fake", "owner/name/main")
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    async with application(api, tmp_path / "first") as app:
        first = app.launch(request)
        async for batch in first.read():
            if any(event.message == "begun\n" for _, event in batch):
                break
    assert first.terminal is not None
    assert "shutting down" in first.terminal.message
    async with application(api, tmp_path / "second") as app:
        second = app.launch(request)
        reported = []
        async for batch in second.read():
            reported += [event for _, event in batch]
            if any(event.message == "begun\n" for event in reported):
                go_on.set()
    assert [event.message for event in reported if event.phase == "building"] == ["begun\n", "ended\n"]
    assert reported[-1].phase == "ready"
    assert len(api.created) == 1
