"""What the state of a build pod means, in words. Pure.

Source: the status of pods in the Kubernetes API, as seen on real API servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from ringbinder import BuildError, RingbinderError, TransientError, UserError

from ._pod_manifest import ATTEMPT, BUILDER, IMAGE

Pod = Mapping[str, Any]

_KILLED: Final = 128
_UNFIT: Final = frozenset({"InvalidImageName", "CreateContainerConfigError", "CreateContainerError"})
_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing"})
_CANNOT_RUN: Final = frozenset({"StartError", "ContainerCannotRun"})
_UNKNOWN_STATUS: Final = "ContainerStatusUnknown"
_OVERDUE: Final = 30.0
"""Seconds that the end of a pod may take longer than its grace period."""
_DELETED: Final = "The build pod was deleted before the build had ended"
_EVICTED: Final = "The build was evicted from its node"
_NODE_GONE: Final = "The node that built this was lost"
_NODE_STOPS: Final = "The node that built this is shutting down"
_ANY_DISRUPTION: Final = "The cluster has ended the build pod"
_DISRUPTIONS: Final[Mapping[str, str]] = {
    "Evicted": _EVICTED,
    "TerminationByKubelet": _EVICTED,
    "EvictionByEvictionAPI": "The build was moved off its node, which is being drained",
    "PreemptionByScheduler": "The build had to make way for a pod of higher priority",
    "Preempting": "The build had to make way for a pod of higher priority",
    "DeletionByTaintManager": _NODE_GONE,
    "DeletionByPodGC": _NODE_GONE,
    "NodeLost": _NODE_GONE,
    "NodeShutdown": _NODE_STOPS,
    "Terminated": _NODE_STOPS,
    "Shutdown": _NODE_STOPS,
}
"""Reasons of a pod and of its condition DisruptionTarget. Source: Kubernetes, "Disruptions"; kubelet, eviction and
node shutdown managers."""


def phase(pod: Pod) -> str:
    return str(_status(pod).get("phase") or "Pending")


def makes(pod: Pod) -> str:
    """The image that it says it makes."""
    return _annotation(pod, IMAGE)


def attempt(pod: Pod) -> str:
    """The word of the replica that created it."""
    return _annotation(pod, ATTEMPT)


def being_deleted(pod: Pod) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def started(pod: Pod) -> bool:
    """Whether the container that builds has started, so that it has a log."""
    state = _state(pod)
    return "running" in state or "terminated" in state


def ended(pod: Pod) -> bool:
    """Whether the container that builds has ended."""
    return "terminated" in _state(pod) or phase(pod) in ("Succeeded", "Failed")


def succeeded(pod: Pod) -> bool:
    """By its terminal status and its exit code, and by nothing else."""
    code = _state(pod).get("terminated", {}).get("exitCode")
    return phase(pod) == "Succeeded" and code == 0


def waits_for(pod: Pod) -> str:
    """Why it has not started, in words; empty if there is nothing to say."""
    for condition in _status(pod).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason') or 'Unschedulable'}: {condition.get('message') or ''}".rstrip(": ")
    waiting = _state(pod).get("waiting", {})
    reason = str(waiting.get("reason") or "")
    if not reason or reason in _STARTING:
        return ""
    return f"{reason}: {waiting.get('message') or ''}".rstrip(": ")


def never_starts(pod: Pod) -> bool:
    """Whether waiting is in vain: what is wrong stands in the pod itself."""
    return _state(pod).get("waiting", {}).get("reason") in _UNFIT


def explained_by(events: Iterable[Mapping[str, Any]]) -> str:
    """The last warning among the events about a pod: ``FailedMount: MountVolume.SetUp failed ...``."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    if not warnings:
        return ""
    last = max(warnings, key=_when)
    return f"{last.get('reason') or ''}: {last.get('message') or ''}".strip(": ")


def failure(pod: Pod, reason: str) -> RingbinderError:
    """Why the pod has failed. `reason` is what the log said, empty if it said nothing."""
    status, terminated = _status(pod), _state(pod).get("terminated", {})
    why, message = str(status.get("reason") or ""), str(status.get("message") or "").strip()
    ended, code = str(terminated.get("reason") or ""), terminated.get("exitCode")
    if why == "DeadlineExceeded":
        seconds = (pod.get("spec") or {}).get("activeDeadlineSeconds")
        limit = f" the {duration(seconds)} that it may take" if isinstance(seconds, int) else " it may"
        return BuildError(f"The build took longer than{limit}, and was ended.", "build-timeout")
    if ended == "OOMKilled":
        limit = _memory_limit(pod)
        problem = f"The build ran out of memory{f' (its limit is {limit})' if limit else ''}."
        return BuildError(problem, "out-of-memory")
    if lost := _disruption(pod):
        return TransientError(lost)
    if _ended_by_deletion(pod):
        return TransientError(_DELETED)
    if ended in _CANNOT_RUN or (not terminated and not why):
        problem = str(terminated.get("message") or "").strip() or message or "its pod failed before that"
        return UserError(
            "build-not-started", f"The build could not start: {problem.rstrip('.')}. The operator of this service must "
            "change that."
        )  # fmt: skip
    if ended == _UNKNOWN_STATUS or not terminated:
        problem = f"{why}: {message}".strip(": ") or str(terminated.get("message") or ended)
        return TransientError(f"The node of the build did not take it, or has lost it ({problem})")
    if reason:
        return BuildError(f"The build failed: {reason}.")
    if code:
        killed = isinstance(code, int) and code > _KILLED
        how = f"was killed by signal {code - _KILLED}" if killed else f"failed with exit code {code}"
        return BuildError(f"The build {how}.")
    return BuildError(f"The build failed{f': {why}' if why else ''}{f': {message}' if message else ''}.")


def vanished(pod: Pod) -> RingbinderError:
    """For a pod that is gone, or is not going to end any more, before it had ended."""
    return TransientError(_disruption(pod) or _DELETED)


def overdue(pod: Pod, now: float) -> bool:
    """Whether a pod that is being deleted should have ended: its node does not answer. `now` is in Unix seconds."""
    until = moment(pod["metadata"].get("deletionTimestamp"))
    return until is not None and now > until + _OVERDUE


def _ended_by_deletion(pod: Pod) -> bool:
    """Whether its container has ended since its deletion was asked for, and not before."""
    metadata = pod["metadata"]
    until, ended = moment(metadata.get("deletionTimestamp")), ended_at(pod)
    if until is None:
        return False
    # The time stamp lies in the future: the node has so long for it.
    return ended is None or ended >= until - float(metadata.get("deletionGracePeriodSeconds") or 0)


def _disruption(pod: Pod) -> str:
    """What the cluster has done to it, in a sentence without its full stop; empty if nothing."""
    status = _status(pod)
    why, message = str(status.get("reason") or ""), str(status.get("message") or "").strip()
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            why = why or str(condition.get("reason") or "")
            message = message or str(condition.get("message") or "").strip()
            problem = _DISRUPTIONS.get(why) or _DISRUPTIONS.get(str(condition.get("reason"))) or _ANY_DISRUPTION
            return f"{problem} ({message or why})"
    return f"{_DISRUPTIONS[why]} ({message or why})" if why in _DISRUPTIONS else ""


def _annotation(pod: Pod, name: str) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(name) or "")


def _status(pod: Pod) -> Mapping[str, Any]:
    return pod.get("status") or {}


def _state(pod: Pod) -> Mapping[str, Any]:
    """The state of the container that builds: `waiting`, `running` or `terminated`."""
    for container in _status(pod).get("containerStatuses") or ():
        if container.get("name") == BUILDER:
            return {kind: state for kind, state in (container.get("state") or {}).items() if state is not None}
    return {}


def _memory_limit(pod: Pod) -> str:
    for container in (pod.get("spec") or {}).get("containers") or ():
        if container.get("name") == BUILDER:
            return str(((container.get("resources") or {}).get("limits") or {}).get("memory") or "")
    return ""


def _when(event: Mapping[str, Any]) -> str:
    times = (event.get(name) for name in ("lastTimestamp", "eventTime", "firstTimestamp"))
    return str(next((time for time in times if time), ""))


def duration(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds >= 7200:
        return f"{seconds / 3600:g} hours"
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"


def ended_at(pod: Pod) -> float | None:
    """Unix seconds, if its container tells."""
    return moment(_state(pod).get("terminated", {}).get("finishedAt"))


def moment(text: object) -> float | None:
    """A time of the API in Unix seconds."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
