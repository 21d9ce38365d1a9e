"""What the state of a build pod means, in words. Pure.

Source: the status of pods in the Kubernetes API, as seen on real API servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from ringbinder.errors import BuildError, RingbinderError, TransientError

from ._pod_manifest import ATTEMPT, BUILDER, IMAGE

Pod = Mapping[str, Any]

_KILLED: Final = 128
_UNFIT: Final = frozenset({"InvalidImageName", "CreateContainerConfigError", "CreateContainerError"})
_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing"})
_NODE_LOST: Final = frozenset(
    {"NodeLost", "NodeShutdown", "Terminated", "Shutdown", "UnexpectedAdmissionError"}
)


def phase(pod: Pod) -> str:
    return str(_status(pod).get("phase") or "Pending")


def makes(pod: Pod) -> str:
    """The image that it says it makes."""
    return _annotation(pod, IMAGE)


def attempt(pod: Pod) -> str:
    """The word of whoever has created it."""
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
            return f"{condition.get('reason') or 'Unschedulable'}: {condition.get('message') or ''}".rstrip(
                ": "
            )
    waiting = _state(pod).get("waiting", {})
    reason = str(waiting.get("reason") or "")
    if not reason or reason in _STARTING:
        return ""
    return f"{reason}: {waiting.get('message') or ''}".rstrip(": ")


def never_starts(pod: Pod) -> bool:
    """Whether waiting is in vain: what is wrong stands in the pod itself."""
    return _state(pod).get("waiting", {}).get("reason") in _UNFIT


def told_by(events: Iterable[Mapping[str, Any]]) -> str:
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
    if why == "DeadlineExceeded":
        seconds = pod["spec"].get("activeDeadlineSeconds")
        limit = f" the {duration(seconds)} that it may take" if seconds else " it may"
        return BuildError(f"The build took longer than{limit}, and was ended.", "build-timeout")
    if terminated.get("reason") == "OOMKilled":
        limit = _memory_limit(pod)
        told = f"The build ran out of memory{f' (its limit is {limit})' if limit else ''}."
        return BuildError(told, "out-of-memory")
    if why == "Evicted":
        return TransientError(
            f"The build was evicted from its node: {message or 'the node ran out of something'}"
        )
    if why in _NODE_LOST or (disruption := _disruption(pod)):
        told = message or (disruption if why not in _NODE_LOST else why)
        return TransientError(f"The node that built this was lost: {told}")
    code = terminated.get("exitCode")
    if reason:
        return BuildError(f"The build failed: {reason}.")
    if code:
        killed = isinstance(code, int) and code > _KILLED
        how = f"was killed by signal {code - _KILLED}" if killed else f"failed with exit code {code}"
        return BuildError(f"The build {how}.")
    return BuildError(f"The build failed{f': {why}' if why else ''}{f': {message}' if message else ''}.")


def vanished(pod: Pod) -> RingbinderError:
    """For a pod that is gone before it had ended."""
    why = _disruption(pod) or str(_status(pod).get("message") or "")
    return TransientError(f"The build pod was deleted before the build had ended{f' ({why})' if why else ''}")


def _annotation(pod: Pod, name: str) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(name) or "")


def _status(pod: Pod) -> Mapping[str, Any]:
    return pod.get("status") or {}


def _state(pod: Pod) -> Mapping[str, Any]:
    """The state of the container that builds: `waiting`, `running` or `terminated`."""
    for container in _status(pod).get("containerStatuses") or ():
        if container.get("name") == BUILDER:
            return container.get("state") or {}
    return {}


def _disruption(pod: Pod) -> str:
    for condition in _status(pod).get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return str(condition.get("message") or condition.get("reason") or "disrupted")
    return ""


def _memory_limit(pod: Pod) -> str:
    for container in pod["spec"].get("containers") or ():
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
