"""An append-only list of events, bounded by count and bytes, that any number of cursors read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from ..protocol import Event, Phase
from ..runtime.wakeup import Wakeup

_GONE = Event("unknown", "")

Render = Callable[[Sequence[tuple[int, Event]]], bytes]
"""Writes events with their numbers for clients."""

_MOST_RENDERED = 1 << 20
"""Bytes of rendered events that are kept: readers that come one after another each go through all batches."""
_SHORT = 1 << 10
"""Bytes that are as quickly rendered again, and would only be kept by the small log of a single session."""


class EventLog:
    """Positions count from 0 for the first event ever appended; old ones go when a bound is passed.

    The newest event always stays. A reader that asks for what is gone gets one event in its place that says
    so.
    """

    __slots__ = (
        "_bytes",
        "_events",
        "_first",
        "_lost",
        "_lost_phase",
        "_rendered",
        "_rendered_size",
        "closed",
        "max_bytes",
        "max_events",
        "wakeup",
    )  # fmt: skip

    def __init__(self, max_events: int = 100_000, max_bytes: int = 32 * 1024 * 1024) -> None:
        self.max_events: int = max_events
        self.max_bytes: int = max_bytes
        self.wakeup: Wakeup = Wakeup()
        self.closed: bool = False
        self._events: list[Event] = []
        self._first = 0  # position of _events[0]
        self._lost = 0  # leading entries of _events that are gone
        self._lost_phase: Phase = "building"
        self._bytes = 0
        self._rendered: dict[tuple[int, int, int, Render], bytes] = {}  # the one used last is last
        self._rendered_size = 0

    @property
    def end(self) -> int:
        """Position after the newest event."""
        return self._first + len(self._events)

    @property
    def newest(self) -> Event | None:
        return self._events[-1] if self._events else None

    def append(self, event: Event) -> None:
        if self.closed:
            raise ValueError("this log is closed")
        self._bytes += event.size  # first: an event that cannot be written as JSON raises here
        self._events.append(event)
        self._trim()
        self.wakeup.notify_all()

    def close(self) -> None:
        """No event comes any more."""
        self.closed = True

    def read(self, start: int, stop: int, limit: int = sys.maxsize) -> list[tuple[int, Event]]:
        """Events with their positions in [start, stop), at most `limit` of those that are there.

        All that is gone is one gap event at the last lost position.
        """
        found: list[tuple[int, Event]] = []
        lost = min(self.kept_from, stop)
        if start < lost:
            words = f"[{lost - start} earlier lines are no longer kept]\n"
            found.append((lost - 1, Event(self._lost_phase, words, {"gap": lost - start})))
            start = lost
        stop = min(stop, self.end, start + limit)
        found.extend((position, self._events[position - self._first]) for position in range(start, stop))
        return found

    def rendered(self, start: int, stop: int, offset: int, render: Render) -> bytes:
        """Events in [start, stop) as `render` writes them, numbered from `offset` for position 0.

        Made once for all who read the same segment.
        """
        key = start, stop, offset, render
        if (text := self._rendered.pop(key, None)) is not None:
            self._rendered[key] = text
            return text
        text = render([(offset + at, event) for at, event in self.read(start, stop)])
        if start >= self.kept_from and len(text) > _SHORT:
            self._rendered[key] = text
            self._rendered_size += len(text)
            while self._rendered_size > _MOST_RENDERED:
                self._rendered_size -= len(self._rendered.pop(next(iter(self._rendered))))
        return text

    @property
    def kept_from(self) -> int:
        """Position of the oldest event that is still there."""
        return self._first + self._lost

    def _trim(self) -> None:
        count = len(self._events) - self._lost
        while count > 1 and (count > self.max_events or self._bytes > self.max_bytes):
            oldest = self._events[self._lost]
            self._bytes -= oldest.size
            if oldest.phase != "built":  # says that a stage is over, which a gap must not
                self._lost_phase = oldest.phase
            self._events[self._lost] = _GONE
            self._lost += 1
            count -= 1
        if self._lost > count + 64:  # moving the rest only now and then keeps an append cheap
            del self._events[: self._lost]
            self._first += self._lost
            self._lost = 0
