"""Answers that are remembered for a while, and questions that are asked once for all who want to know."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from attrs import define

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """At most `limit` values, each for its own time; the one that was not used for longest goes first.

    None is no value: what there is not must be remembered as something else.
    """

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        """`now` gives seconds that never go back: `Clock.monotonic`."""
        self._limit = limit
        self._now = now
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._flights: SingleFlight[K, V] = SingleFlight()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """The value, unless its time is over."""
        if (found := self._kept.get(key)) is None:
            return None
        until, value = found
        if until <= self._now():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return value

    def put(self, key: K, value: V, seconds: float) -> None:
        """Keep `value`; for no time if `seconds` is not positive."""
        self._kept.pop(key, None)
        if seconds > 0:
            self._kept[key] = (self._now() + seconds, value)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget the value, if there is one."""
        self._kept.pop(key, None)

    async def load(
        self, key: K, work: Callable[[], Coroutine[Any, Any, V]], seconds: float | Callable[[V], float]
    ) -> V:
        """Return the value, or what `work` returns, which is then kept for `seconds`, or for what they are of it.

        All who want it meanwhile wait for the same `work`, as in `SingleFlight`, and get its error, which is not kept.
        """
        if (known := self.get(key)) is not None:
            return known

        async def loaded() -> V:
            value = await work()
            self.put(key, value, seconds(value) if callable(seconds) else seconds)
            return value

        return await self._flights(key, loaded)


class SingleFlight(Generic[K, V]):
    """Of those who ask the same at the same time, one does the work and all get its answer or its error."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    async def __call__(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What `work` returns, for this `key`. It is cancelled when the last one who waits for it is."""
        if (flight := self._flights.get(key)) is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                if self._flights.get(key) is flight:
                    del self._flights[key]


@define(eq=False)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiting: int = 0
