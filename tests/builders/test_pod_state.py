"""What the end of a build pod means: whose fault it was, and whether the next try may go well."""

from __future__ import annotations

from typing import Any

import pytest
from ringbinder.errors import BuildError, RingbinderError, TransientError, UserError
from ringbinder_builders import _pod_state as state

KILLED = {"exitCode": 137, "reason": "Error", "finishedAt": "2026-01-01T10:00:05Z"}
ASKED_BEFORE = {"deletionTimestamp": "2026-01-01T10:00:34Z", "deletionGracePeriodSeconds": 30}
ASKED_AFTER = {"deletionTimestamp": "2026-01-01T10:00:40Z", "deletionGracePeriodSeconds": 30}
OOM = {**KILLED, "reason": "OOMKilled"}
FAILED = {**KILLED, "exitCode": 1}


def pod(terminated: Any = None, metadata: Any = None, conditions: Any = (), **status: Any) -> dict[str, Any]:
    states = [{"name": "builder", "state": {"terminated": terminated}}] if terminated else []
    return {
        "metadata": {"name": "build-a", **(metadata or {})},
        "spec": {"containers": [{"name": "builder", "resources": {"limits": {"memory": "2Gi"}}}]},
        "status": {"phase": "Failed", "containerStatuses": states, "conditions": list(conditions), **status},
    }


def disrupted(reason: str, message: str = "") -> list[dict[str, str]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]


TRY_AGAIN = {
    "deleted": (pod(KILLED, ASKED_BEFORE), "was deleted before the build had ended"),
    "deleted, by its TERM": (pod({**KILLED, "exitCode": 143}, ASKED_BEFORE), "was deleted"),
    "deleted, failing on TERM": (pod(FAILED, ASKED_BEFORE), "was deleted"),
    "deleted, no status of its container": (pod(None, ASKED_BEFORE), "was deleted"),
    "drained": (pod(KILLED, ASKED_BEFORE, disrupted("EvictionByEvictionAPI", "Eviction API: evicting")),
                "moved off its node, which is being drained (Eviction API: evicting)"),
    "preempted": (pod(KILLED, ASKED_BEFORE, disrupted("PreemptionByScheduler")), "of higher priority"),
    "tainted": (pod(KILLED, ASKED_BEFORE, disrupted("DeletionByTaintManager")), "node that built this was lost"),
    "collected": (pod(KILLED, None, disrupted("DeletionByPodGC", "node no longer exists")), "no longer exists"),
    "evicted": (pod(KILLED, reason="Evicted", message="The node was low on resource: memory."),
                "evicted from its node (The node was low on resource: memory.)"),
    "evicted before it began": (pod(reason="Evicted", message="low on disk"), "evicted from its node"),
    "evicted, as newer clusters say": (
        pod(KILLED, None, disrupted("TerminationByKubelet", "low on disk"), reason="Evicted", message="low on disk"),
        "evicted from its node (low on disk)"),
    "node lost": (pod(KILLED, reason="NodeLost", message="node-1 is unresponsive"), "was lost (node-1 is"),
    "node shuts down": (pod(KILLED, None, disrupted("TerminationByKubelet"), reason="Terminated",
                            message="Pod was terminated in response to imminent node shutdown."), "shutting down"),
    "an unknown disruption": (pod(KILLED, None, disrupted("Tomorrow")), "has ended the build pod (Tomorrow)"),
    "no place on the node": (pod(reason="OutOfcpu", message="Node didn't have enough resource"),
                             "did not take it, or has lost it (OutOfcpu: Node didn't"),
    "admission": (pod(reason="UnexpectedAdmissionError", message="Allocate failed"), "UnexpectedAdmissionError"),
    "container lost": (pod({"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "could not be located"}),
                       "has lost it (could not be located)"),
}  # fmt: skip
NOT_AGAIN = {
    "memory": (pod(OOM), "out-of-memory", "its limit is 2Gi"),
    "memory, then deleted": (pod(OOM, ASKED_AFTER), "out-of-memory", "ran out of memory"),
    "memory, while deleted": (pod(OOM, ASKED_BEFORE), "out-of-memory", "ran out of memory"),
    "failed": (pod(FAILED), "build-failed", "exit code 1"),
    "failed, then cleaned away": (pod(FAILED, ASKED_AFTER), "build-failed", "exit code 1"),
    "killed by something in it": (pod(KILLED), "build-failed", "signal 9"),
    "deadline": (pod(KILLED, reason="DeadlineExceeded"), "build-timeout", "longer than"),
    "no such program": (pod({"exitCode": 128, "reason": "StartError", "message": 'exec: "x": not found'}),
                        "build-not-started", 'exec: "x": not found'),
    "before it began": (pod(), "build-not-started", "its pod failed before that"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRY_AGAIN)
def test_what_the_cluster_ended_may_be_tried_again(name: str) -> None:
    found, words = TRY_AGAIN[name]
    error = state.failure(found, "")
    assert isinstance(error, TransientError)
    assert words in str(error)
    assert type(state.failure(found, "a command ended with exit code -9")) is TransientError


@pytest.mark.parametrize("name", NOT_AGAIN)
def test_what_the_build_did_is_not_tried_again(name: str) -> None:
    found, code, words = NOT_AGAIN[name]
    error = state.failure(found, "")
    assert isinstance(error, BuildError | UserError)
    assert error.code == code
    assert words in str(error)


@pytest.mark.parametrize(("seconds", "overdue"), [(0.0, False), (29.0, False), (31.0, True)])
def test_pod_whose_node_is_silent_is_given_up(seconds: float, overdue: bool) -> None:
    found = pod(None, ASKED_BEFORE, phase="Running")
    until = state.moment(ASKED_BEFORE["deletionTimestamp"])
    assert until is not None
    assert state.overdue(found, until + seconds) is overdue
    assert not state.overdue(pod(), until + 1e6)


def test_log_gives_the_reason_of_a_build_that_failed() -> None:
    error: RingbinderError = state.failure(pod(FAILED), "no such pin")
    assert str(error) == "The build failed: no such pin."
