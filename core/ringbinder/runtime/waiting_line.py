"""A line of builds or launches that wait for a place, each with the number of those before it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from attrs import define, field, frozen

_EACH: Final = 10


def queue_notice(before: int, eta: float | None = None) -> tuple[str, dict[str, Any]]:
    """Return what a client behind `before` others is shown, and the `queue` of its event; `eta` is in seconds.

    A policy shows it with ``ticket.notify(message, queue=queue)``.
    """
    position = before + 1
    return f"Waiting for a free place: number {position} in the queue", {"position": position, "eta_s": eta}


@frozen
class _Waiter:
    group: str
    tell: Callable[[int], None]


@define
class WaitingLine:
    """`places` may be taken at the same time; who comes first is served first.

    Who waits for a group that is full keeps no one of another group waiting.
    """

    places: int
    """How many may be in at a time."""
    limits: Mapping[str, int] = field(factory=dict)
    """How many of a group may be in at a time, where that is less."""
    _taken: Counter[str] = field(factory=Counter, init=False)
    """Places by group."""
    _waiting: dict[asyncio.Future[None], _Waiter] = field(factory=dict, init=False)

    @property
    def full(self) -> bool:
        """Who comes now, of no group, must wait."""
        return self.full_for("")

    def full_for(self, group: str) -> bool:
        """Whether who comes now, of `group`, must wait."""
        in_all, most = self._taken.total(), self.limits.get(group, self.places)
        return in_all >= self.places or self._taken[group] >= most

    @asynccontextmanager
    async def place(self, tell: Callable[[int], None], group: str = "") -> AsyncIterator[None]:
        """Holds a place until left; `tell` is called with the number of those before, when that changes.

        Far back in a long line only in tens: else each build that ends would speak to all who wait.
        """
        if self.full_for(group):
            await self._wait(_Waiter(group, tell))
        else:
            self._taken[group] += 1
        try:
            yield
        finally:
            self._release(group)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Takes one more place without waiting: for what outlasts the holder of a `place`."""
        self._taken[""] += 1
        try:
            yield
        finally:
            self._release("")

    async def _wait(self, waiter: _Waiter) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter.tell(len(self._waiting))
        self._waiting[turn] = waiter
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come
                self._release(waiter.group)
            elif self._waiting.pop(turn, None):
                self._tell()
            raise

    def _release(self, group: str) -> None:
        self._taken[group] -= 1
        for turn, waiter in list(self._waiting.items()):
            if turn.done():  # cancelled, and its task has not run since
                del self._waiting[turn]
            elif not self.full_for(waiter.group):
                del self._waiting[turn]
                self._taken[waiter.group] += 1
                turn.set_result(None)
                self._tell()

    def _tell(self) -> None:
        for before, waiter in enumerate(self._waiting.values()):
            if before < _EACH or before % _EACH == 0:
                waiter.tell(before)
