"""What `ringbinder events query` asks a sink that can answer."""

from __future__ import annotations

import sys
from typing import Protocol, runtime_checkable

from attrs import frozen


@frozen
class EventQuery:
    """Counts of events, grouped by `by`: fields, ``schema``, ``repo``, or ``hour`` to ``year``."""

    schema: str
    """`*` stands for any text."""
    since: float = 0.0
    """Unix seconds, like `until`, which is not included."""
    until: float = sys.float_info.max
    """Unix seconds; not included."""
    by: tuple[str, ...] = ()
    """Empty: one group of all."""
    limit: int = 100
    """Groups, at most."""


@frozen
class EventRow:
    """One group. `first` and `last` are Unix seconds; `seconds` is the mean of that field, if it has one."""

    keys: tuple[str, ...]
    """The group's values, in the order of `EventQuery.by`."""
    count: int
    """Events in it."""
    first: float
    """Of the oldest."""
    last: float
    """Of the newest."""
    seconds: float | None
    """None if the events have no such field."""


@runtime_checkable
class Queryable(Protocol):
    """A sink that keeps its events where it can count them."""

    async def query(self, query: EventQuery) -> list[EventRow]:
        """The groups, largest first. Raises `UserError`."""
        raise NotImplementedError  # only declared: the protocol's classes have it
