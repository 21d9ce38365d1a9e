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
    """Without `end`."""
    end: str = "\n"
    """What ends it; empty: the line goes on."""
    stamp: str = ""
    """RFC 3339."""


@frozen
class Wait:
    """Seconds of the pod's life."""

    seconds: float
    """Of the clock on the wall."""


@frozen
class Hold:
    """The pod goes on once the event is set."""

    event: asyncio.Event
    """Of the test."""


@frozen
class Exit:
    """The container ends. `reason` is the container's (``OOMKilled``), `pod_reason` the pod's (``Evicted``)."""

    code: int
    """0: it succeeded."""
    reason: str = ""
    """As the status of the container has it."""
    pod_reason: str = ""
    """Empty: none."""
    message: str = ""
    """In words, beside the reason."""


@frozen
class Stuck:
    """The container does not start: `reason` is ``ImagePullBackOff``, ``Unschedulable``, ... or empty."""

    reason: str = ""
    """Why."""
    message: str = ""
    """In words."""


@frozen
class Warned:
    """An event of the cluster about the pod."""

    reason: str
    """A word."""
    message: str
    """In words."""


Act = Line | Wait | Hold | Exit | Stuck | Warned
Script = Callable[[Object], Iterable[Act]]
