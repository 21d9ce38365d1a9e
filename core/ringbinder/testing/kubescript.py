"""What a pod does on the small Kubernetes API server of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen

Object = dict[str, Any]


@frozen
class Line:
    """A line of the pod's log; `stamp` is its time, else now."""

    text: str
    end: str = "\n"
    stamp: str = ""


@frozen
class Wait:
    """Seconds of the pod's life."""

    seconds: float


@frozen
class Hold:
    """The pod goes on once the event is set."""

    event: asyncio.Event


@frozen
class Exit:
    """The container ends. `reason` is the container's (``OOMKilled``), `pod_reason` the pod's (``Evicted``)."""

    code: int
    reason: str = ""
    pod_reason: str = ""
    message: str = ""


@frozen
class Stuck:
    """The container does not start: `reason` is ``ImagePullBackOff``, ``Unschedulable``, ... or empty."""

    reason: str = ""
    message: str = ""


@frozen
class Warned:
    """An event of the cluster about the pod."""

    reason: str
    message: str


Act = Line | Wait | Hold | Exit | Stuck | Warned
Script = Callable[[Object], Iterable[Act]]
