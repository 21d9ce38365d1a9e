"""What the small API server of the tests keeps, and what its pods do: objects, their versions, scripts, logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from attrs import define, field

from ..runtime.wakeup import Wakeup
from . import kubeobjects as known
from .kubescript import Exit, Hold, Line, Object, Script, Stuck, Wait, Warned

_LOG_AS_MESSAGE = "FallbackToLogsOnError"
_CRASHED = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}


@define(eq=False)
class PodLog:
    """What a pod has written."""

    entries: list[tuple[str, str]] = field(factory=list)
    """Time stamp, and text with its newline if it has one."""
    ended: bool = False
    """The container writes no more."""
    news: Wakeup = field(factory=Wakeup)
    """Set with each entry."""


@define(eq=False)
class KubeCluster:
    """Pods, secrets and events, in the namespaces that exist. For tests, through `KubeApi`."""

    namespaces: set[str] = field(factory=lambda: {"default", "binder"})
    """Those that exist."""
    script: Script = field(default=lambda pod: [Exit(0)])
    """What a new pod does."""
    start_seconds: float = 0.02
    """From a pod's creation to its container's start."""
    status_seconds: float = 0.0
    """From the end of a container, and of its log, to its status, for which a kubelet looks every second."""
    kept_events: int = 10_000
    """How many events a watch can begin with; an older version is answered with 410."""
    objects: dict[str, dict[tuple[str, str], Object]] = field(factory=lambda: {"pods": {}, "secrets": {}, "events": {}})
    """By resource, then by (namespace, name), as the API has them."""
    created: list[str] = field(factory=list)
    """Names of all pods that were ever created, in order."""
    pushed: set[str] = field(factory=set)
    """The images that build pods have made: those named by repo2docker's option ``--image``."""
    _version: int = 100
    _history: list[tuple[int, str, Object]] = field(factory=list)
    _forgotten: int = 100
    _news: Wakeup = field(factory=Wakeup)
    _seen: Wakeup = field(factory=Wakeup)
    _logs: dict[str, PodLog] = field(factory=dict)
    _lives: dict[str, asyncio.Task[None]] = field(factory=dict)

    def pod(self, name: str, namespace: str = "binder") -> Object | None:
        return self.objects["pods"].get((namespace, name))

    async def until(self, holds: Callable[[], object], seconds: float = 60.0) -> None:
        """Returns once `holds()`, which is asked whenever an object has changed or a request has come.

        After `seconds` raises TimeoutError.
        """
        async with asyncio.timeout(seconds):
            while not holds():
                await self._seen.wait()

    def put_pod(self, pod: Object, namespace: str = "binder") -> Object:
        """A pod that somebody else has created and that does nothing."""
        made = self._make("pods", namespace, pod)
        made.setdefault("status", {"phase": "Running"})
        self._changed("ADDED", made)
        return made

    def remove_pod(self, name: str, namespace: str = "binder") -> None:
        """The pod is deleted at once, as by a person with ``--force``."""
        pod = self.objects["pods"].pop((namespace, name))
        self._end(pod)
        self._changed("DELETED", pod)

    def drain_pod(self, name: str, namespace: str = "binder", **status: Any) -> None:
        """The running pod is deleted as by ``kubectl delete`` or a drain; `status` is what the cluster notes of that.

        Its container is killed first, which a watch sees, and then it is gone.
        """
        pod = self.objects["pods"][namespace, name]
        pod["metadata"] |= {"deletionTimestamp": known.now()[:19] + "Z", "deletionGracePeriodSeconds": 0}
        pod["status"] |= status
        self._changed("MODIFIED", pod)
        pod["status"]["phase"] = "Failed"
        killed = {"exitCode": 137, "reason": "Error", "finishedAt": known.now()[:19] + "Z"}
        self._state(pod, {"terminated": killed})
        self._end(pod)
        self._changed("MODIFIED", pod)
        self._vanish(pod)

    def forget(self) -> None:
        """Compaction: no watch can go on from a version before now."""
        self._forgotten = self._version
        self._history.clear()

    def _make(self, resource: str, namespace: str, body: Object) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made = json.loads(json.dumps(body))
        made["metadata"] |= {"namespace": namespace, "uid": str(uuid4()), "creationTimestamp": now}
        self._version += 1
        made["metadata"]["resourceVersion"] = str(self._version)
        self.objects[resource][namespace, made["metadata"]["name"]] = made
        return dict(made)

    def _vanish(self, pod: Object) -> None:
        meta = pod["metadata"]
        key = (meta["namespace"], meta["name"])
        if (current := self.objects["pods"].get(key)) and current["metadata"]["uid"] == meta["uid"]:
            self.objects["pods"].pop(key)
            self._end(current)
            self._changed("DELETED", current)
            # As the cluster's garbage collector does.
            for where, thing in list(self.objects["secrets"].items()):
                owners = thing["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == meta["uid"] for owner in owners):
                    del self.objects["secrets"][where]
            self._seen.notify_all()

    def _changed(self, kind: str, pod: Object) -> None:
        """Gives a pod its next version and tells the watches."""
        self._version += 1
        pod["metadata"]["resourceVersion"] = str(self._version)
        frozen_copy = json.loads(json.dumps(pod))
        if kind != "DELETED":
            self.objects["pods"][pod["metadata"]["namespace"], pod["metadata"]["name"]] = pod
        self._history.append((self._version, kind, frozen_copy))
        if len(self._history) > self.kept_events:
            self._forgotten = self._history[-self.kept_events][0]
            del self._history[: -self.kept_events]
        self._news.notify_all()
        self._seen.notify_all()

    async def _live(self, pod: Object) -> None:
        await asyncio.sleep(self.start_seconds)
        log = self._logs[pod["metadata"]["uid"]]
        status, running = pod["status"], False
        for act in self.script(pod):
            if not running and not isinstance(act, Stuck | Warned):
                running = True
                self._starts(pod)
            match act:
                case Line(text, end, stamp):
                    log.entries.append((stamp or known.now(), text + end))
                    log.news.notify_all()
                    await asyncio.sleep(0)
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case Hold(event):
                    await event.wait()
                case Warned(reason, message):
                    self._warn(pod, reason, message)
                case Stuck(reason, message):
                    self._stick(pod, reason, message)
                    await asyncio.Event().wait()
                case Exit(code, reason, pod_reason, message):
                    log.ended = True
                    log.news.notify_all()
                    if self.status_seconds:
                        await asyncio.sleep(self.status_seconds)
                    terminated = {"exitCode": code, "finishedAt": known.now()[:19] + "Z"}
                    terminated |= {"reason": reason or ("Completed" if code == 0 else "Error")}
                    if code and pod["spec"]["containers"][0].get("terminationMessagePolicy") == _LOG_AS_MESSAGE:
                        terminated["message"] = "".join(text for _, text in log.entries)[-2048:]
                    if code and not pod_reason and pod["spec"].get("restartPolicy") == "OnFailure":
                        self._state(pod, _CRASHED, restartCount=1, lastState={"terminated": terminated})
                        self._changed("MODIFIED", pod)
                        return
                    status |= {"phase": "Failed" if code or pod_reason else "Succeeded"}
                    status |= {"reason": pod_reason, "message": message} if pod_reason else {}
                    self._state(pod, {"terminated": terminated})
                    if status["phase"] == "Succeeded":
                        self.pushed.update(known.images(pod))
                    self._end(pod)
                    self._changed("MODIFIED", pod)
                    return

    def _starts(self, pod: Object) -> None:
        pod["spec"]["nodeName"] = "node-1"
        pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
        self._state(pod, {"waiting": {"reason": "ContainerCreating"}})
        self._changed("MODIFIED", pod)
        pod["status"] |= {"phase": "Running", "podIP": "127.0.0.1"}
        self._state(pod, {"running": {"startedAt": known.now()[:19] + "Z"}})
        self._changed("MODIFIED", pod)

    def _stick(self, pod: Object, reason: str, message: str) -> None:
        if reason == "Unschedulable":
            unscheduled = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
            pod["status"]["conditions"] = [unscheduled]
        else:
            self._state(pod, {"waiting": {"reason": reason or "ContainerCreating", "message": message}})
        self._changed("MODIFIED", pod)

    def _warn(self, pod: Object, reason: str, message: str) -> None:
        meta = pod["metadata"]
        name = f"{meta['name']}.{uuid4().hex[:12]}"
        about = {"kind": "Pod", "name": meta["name"], "uid": meta["uid"], "namespace": meta["namespace"]}
        event = {
            "metadata": {"name": name},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": known.now()[:19] + "Z",
        }
        self._make("events", meta["namespace"], event)

    def _state(self, pod: Object, state: Mapping[str, Any], **more: Any) -> None:
        container = pod["spec"]["containers"][0]
        status = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        status |= {"ready": "running" in state, "state": dict(state), **more}
        pod["status"]["containerStatuses"] = [status]

    def _end(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if (life := self._lives.get(uid)) is not None and life is not asyncio.current_task():
            life.cancel()
        if (log := self._logs.get(uid)) is not None:
            log.ended = True
            log.news.notify_all()
