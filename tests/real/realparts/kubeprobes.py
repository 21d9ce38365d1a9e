"""What a Kubernetes API server does, as questions to one: the same are put to a real one and to the small one of the
tests, which must not differ.

The pods run a shell with ``echo``, ``sleep``, ``printf`` and ``exit``, which is all that the small one understands.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import pytest
from attrs import define, field
from ringbinder.testing.kubescript import Act, Exit, Line, Stuck, Wait, Warned
from ringbinder_cluster.client import ApiError, Cluster

Json = Mapping[str, Any]

NO_IMAGE: Final = "registry.invalid/nothing:1"
_PATIENCE: Final = 90.0


@define
class Prober:
    """Asks one API server in one namespace. Everything that it makes bears the label `mark`."""

    cluster: Cluster
    namespace: str
    image: str
    """Has a shell."""
    mark: str = field(factory=lambda: f"probe-{uuid4().hex[:8]}")

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def pod(self, script: str, name: str = "", **labels: str) -> dict[str, Any]:
        image = NO_IMAGE if script == "stuck" else self.image
        container = {"name": "builder", "image": image, "command": ["sh", "-c", script]}
        spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
        metadata = {
            "name": name or f"{self.mark}-{uuid4().hex[:6]}",
            "labels": {"probe": self.mark, **labels},
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    async def create(self, script: str, **labels: str) -> Json:
        made: Json = await self.cluster.ask("POST", self.pods, body=self.pod(script, **labels))
        return made

    async def refusal(self, method: str, path: str, body: Json | None = None) -> tuple[int, str]:
        """Status and reason of a request that is refused."""
        with pytest.raises(ApiError) as caught:
            await self.cluster.ask(method, path, body=body)
        return caught.value.status, caught.value.reason

    async def listed(self, selector: str) -> tuple[set[str], str]:
        """Names, and the version of the list."""
        answer = await self.cluster.ask("GET", self.pods, {"labelSelector": selector})
        return {pod["metadata"]["name"] for pod in answer["items"]}, answer["metadata"]["resourceVersion"]

    @asynccontextmanager
    async def watch(self, version: str, seconds: int = 60) -> AsyncIterator[AsyncIterator[tuple[str, Json]]]:
        """The events of our pods since that version."""
        query: dict[str, str | int] = {
            "labelSelector": f"probe={self.mark}", "resourceVersion": version, "watch": "true",
            "allowWatchBookmarks": "true", "timeoutSeconds": seconds,
        }  # fmt: skip
        async with self.cluster.open("GET", self.pods, query, seconds=_PATIENCE) as response:

            async def events() -> AsyncIterator[tuple[str, Json]]:
                while line := await response.content.readline():
                    event = json.loads(line)
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]

            yield events()

    async def until(self, name: str, wanted: Callable[[Json], bool]) -> Json:
        async with asyncio.timeout(_PATIENCE):
            while not wanted(pod := await self.cluster.ask("GET", f"{self.pods}/{name}")):
                await asyncio.sleep(0.1)
        return pod

    async def log(self, name: str, query: Mapping[str, str | int] | None = None) -> str:
        async with self.cluster.open("GET", f"{self.pods}/{name}/log", query, seconds=_PATIENCE) as response:
            return await response.text()

    async def clean(self) -> None:
        for name in (await self.listed(f"probe={self.mark}"))[0]:
            await self.cluster.ask("DELETE", f"{self.pods}/{name}", body={"gracePeriodSeconds": 0})


def name_of(thing: Json) -> str:
    return str(thing["metadata"]["name"])


def phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase"))


def state(pod: Json) -> Json:
    statuses = (pod.get("status") or {}).get("containerStatuses") or [{"state": {}}]
    return statuses[0]["state"]  # type: ignore[no-any-return]


def ended(pod: Json) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


# -- the probes ----------------------------------------------------------------------------------------------


async def a_pods_life_in_a_watch(prober: Prober) -> None:
    _, version = await prober.listed("probe=none")
    seen: list[tuple[str, Json]] = []
    async with prober.watch(version) as events:
        pod = await prober.create("echo one; sleep 1")
        async for kind, thing in events:
            seen.append((kind, thing))
            if ended(thing):
                break
        await prober.cluster.ask("DELETE", f"{prober.pods}/{name_of(pod)}")
        async for kind, thing in events:
            seen.append((kind, thing))
            if kind == "DELETED":
                break
    assert [kind for kind, _ in seen] == ["ADDED", *["MODIFIED"] * (len(seen) - 2), "DELETED"]
    assert phase(seen[0][1]) == "Pending"
    phases = [phase(thing) for _, thing in seen]
    assert [at for at, following in zip(phases, [*phases[1:], ""], strict=True) if at != following] == [
        "Pending", "Running", "Succeeded",
    ]  # fmt: skip
    assert {thing["metadata"]["uid"] for _, thing in seen} == {pod["metadata"]["uid"]}
    versions = [int(thing["metadata"]["resourceVersion"]) for _, thing in seen]
    assert versions == sorted(set(versions)), "an event has a newer version than the one before"
    assert state(seen[-1][1])["terminated"]["exitCode"] == 0
    assert seen[-1][1]["metadata"]["deletionTimestamp"]


async def a_watch_replays_what_came_after_its_version(prober: Prober) -> None:
    _, version = await prober.listed("probe=none")
    pod = await prober.create("exit 0")
    await prober.until(name_of(pod), ended)
    async with prober.watch(version) as events:
        kind, first = await anext(events)
    assert (kind, phase(first), name_of(first)) == ("ADDED", "Pending", name_of(pod))


async def a_watch_ends_after_its_time(prober: Prober) -> None:
    _, version = await prober.listed("probe=none")
    async with asyncio.timeout(30), prober.watch(version, seconds=1) as events:
        assert [event async for event in events] == []


async def a_version_that_is_forgotten_is_an_error_event(prober: Prober) -> None:
    async with prober.watch("1", seconds=5) as events:
        reported = [(kind, thing["code"], thing["reason"]) async for kind, thing in events]
    assert reported == [("ERROR", 410, "Expired")]


async def a_name_is_a_lock(prober: Prober) -> None:
    pod = await prober.create("sleep 1")
    again = prober.pod("sleep 1", name=name_of(pod))
    assert await prober.refusal("POST", prober.pods, again) == (409, "AlreadyExists")


async def what_is_not_there(prober: Prober) -> None:
    for method, path in (("GET", "/x"), ("DELETE", "/x"), ("GET", "/x/log")):
        assert await prober.refusal(method, f"{prober.pods}{path}") == (404, "NotFound")
    nowhere = "/api/v1/namespaces/no-such-namespace/pods"
    assert await prober.refusal("POST", nowhere, prober.pod("exit 0")) == (404, "NotFound")
    assert (await prober.cluster.ask("GET", nowhere))["items"] == []


async def what_is_invalid(prober: Prober) -> None:
    for body in (
        prober.pod("exit 0", name="Bad_Name"),
        prober.pod("exit 0", repo="a/b"),
        prober.pod("exit 0", x="a:b"),
    ):
        assert await prober.refusal("POST", prober.pods, body) == (422, "Invalid")


async def a_delete_may_name_the_very_pod(prober: Prober) -> None:
    pod = await prober.create("sleep 1")
    other = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": str(uuid4())}}
    assert await prober.refusal("DELETE", f"{prober.pods}/{name_of(pod)}", other) == (409, "Conflict")
    ours = {**other, "preconditions": {"uid": pod["metadata"]["uid"]}, "gracePeriodSeconds": 0}
    await prober.cluster.ask("DELETE", f"{prober.pods}/{name_of(pod)}", body=ours)
    async with asyncio.timeout(_PATIENCE):
        while (await prober.listed(f"probe={prober.mark}"))[0]:
            await asyncio.sleep(0.05)


async def selectors(prober: Prober) -> None:
    one, two = await prober.create("sleep 1", kind="a"), await prober.create("sleep 1", kind="b")
    ours = f"probe={prober.mark}"
    for selector, expected in (
        (ours, [one, two]), (f"{ours},kind=a", [one]), (f"{ours},kind in (a,b)", [one, two]),
        (f"{ours},kind in (b)", [two]), (f"{ours},kind!=a", [two]), (f"{ours},kind notin (a, b)", []),
        (f"{ours},kind", [one, two]), (f"{ours},none", []),
    ):  # fmt: skip
        assert (await prober.listed(selector))[0] == {name_of(pod) for pod in expected}, selector


async def events_of_a_pod(prober: Prober) -> None:
    pod = await prober.create("stuck")
    path = f"/api/v1/namespaces/{prober.namespace}/events"
    query = {"fieldSelector": f"involvedObject.uid={pod['metadata']['uid']}"}
    async with asyncio.timeout(_PATIENCE):
        while not (
            found := [
                event for event in (await prober.cluster.ask("GET", path, query))["items"]
                if event["type"] == "Warning" and event["reason"] == "Failed"
            ]
        ):  # fmt: skip
            await asyncio.sleep(0.2)
    assert found[0]["message"]
    assert found[0]["involvedObject"]["name"] == name_of(pod)


async def an_image_that_cannot_be_pulled(prober: Prober) -> None:
    pod = await prober.create("stuck")
    stuck = await prober.until(name_of(pod), lambda pod: "waiting" in state(pod) and "Pull" in _reason(pod))
    assert phase(stuck) == "Pending"
    assert _reason(stuck) in ("ErrImagePull", "ImagePullBackOff")
    with pytest.raises(ApiError, match=r"is waiting to start") as caught:
        await prober.log(name_of(pod))
    assert caught.value.status == 400


def _reason(pod: Json) -> str:
    return str(state(pod).get("waiting", {}).get("reason"))


async def an_exit_code(prober: Prober) -> None:
    pod = await prober.until(name_of(await prober.create("exit 3")), ended)
    assert (phase(pod), state(pod)["terminated"]["exitCode"]) == ("Failed", 3)
    assert state(pod)["terminated"]["reason"] == "Error"
    assert datetime.fromisoformat(state(pod)["terminated"]["finishedAt"]).tzinfo


async def a_log_is_whole_and_may_lack_the_last_newline(prober: Prober) -> None:
    name = name_of(await prober.create("echo one; echo two; printf three"))
    await prober.until(name, ended)
    assert await prober.log(name) == "one\ntwo\nthree"


async def a_log_is_followed_line_by_line_until_the_container_ends(prober: Prober) -> None:
    name = name_of(await prober.create("echo one; sleep 2; echo two"))
    await prober.until(name, lambda pod: "running" in state(pod) or ended(pod))
    path = f"{prober.pods}/{name}/log"
    async with prober.cluster.open("GET", path, {"follow": "true"}, seconds=_PATIENCE) as response:
        assert await response.content.readline() == b"one\n"
        assert "terminated" not in state(await prober.cluster.ask("GET", f"{prober.pods}/{name}"))
        assert await response.content.read() == b"two\n"


async def a_logs_time_stamps_and_since_when(prober: Prober) -> None:
    name = name_of(await prober.create("echo one; sleep 2; echo two"))
    await prober.until(name, ended)
    lines = (await prober.log(name, {"timestamps": "true"})).splitlines()
    stamps = [line.partition(" ")[0] for line in lines]
    assert [line.partition(" ")[2] for line in lines] == ["one", "two"]
    assert all("." in stamp for stamp in stamps)
    at = datetime.fromisoformat(stamps[1][:26].rstrip("Z") + "+00:00").astimezone(UTC)
    since = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await prober.log(name, {"sinceTime": since}) == "two\n"


async def a_followed_log_ends_with_its_pod(prober: Prober) -> None:
    name = name_of(await prober.create("echo one; sleep 60"))
    await prober.until(name, lambda pod: "running" in state(pod))
    path = f"{prober.pods}/{name}/log"
    async with prober.cluster.open("GET", path, {"follow": "true"}, seconds=_PATIENCE) as response:
        assert await response.content.readline() == b"one\n"
        await prober.cluster.ask("DELETE", f"{prober.pods}/{name}", body={"gracePeriodSeconds": 1})
        await response.content.read()


async def what_a_pod_owns_goes_with_it(prober: Prober) -> None:
    pod = await prober.create("sleep 1")
    secrets = f"/api/v1/namespaces/{prober.namespace}/secrets"
    owner = {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": pod["metadata"]["uid"]}
    metadata = {"name": name_of(pod), "ownerReferences": [owner]}
    await prober.cluster.ask("POST", secrets, body={"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    await prober.cluster.ask("DELETE", f"{prober.pods}/{name_of(pod)}", body={"gracePeriodSeconds": 0})
    async with asyncio.timeout(_PATIENCE):
        while True:
            listed = await prober.cluster.ask("GET", secrets)
            if name_of(pod) not in {name_of(secret) for secret in listed["items"]}:
                return
            await asyncio.sleep(0.1)


PROBES: Sequence[Callable[[Prober], Awaitable[None]]] = (
    a_pods_life_in_a_watch,
    a_watch_replays_what_came_after_its_version,
    a_watch_ends_after_its_time,
    a_version_that_is_forgotten_is_an_error_event,
    a_name_is_a_lock,
    what_is_not_there,
    what_is_invalid,
    a_delete_may_name_the_very_pod,
    selectors,
    events_of_a_pod,
    an_image_that_cannot_be_pulled,
    an_exit_code,
    a_log_is_whole_and_may_lack_the_last_newline,
    a_log_is_followed_line_by_line_until_the_container_ends,
    a_logs_time_stamps_and_since_when,
    a_followed_log_ends_with_its_pod,
    what_a_pod_owns_goes_with_it,
)


def shell(pod: Json) -> list[Act]:
    """How the small API server runs the pods of the probes."""
    script = str(pod["spec"]["containers"][0]["command"][2])
    if script == "stuck":
        return [Warned("Failed", "Failed to pull image"), Stuck("ErrImagePull", "no such host")]
    acts: list[Act] = []
    for command in script.split(";"):
        verb, *words = shlex.split(command)
        match verb:
            case "echo":
                acts.append(Line(" ".join(words)))
            case "printf":
                acts.append(Line(words[0], end=""))
            case "sleep":
                acts.append(Wait(float(words[0])))
            case "exit":
                acts.append(Exit(int(words[0])))
    return acts if isinstance(acts[-1], Exit) else [*acts, Exit(0)]
