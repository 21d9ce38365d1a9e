"""A line of builds or launches that wait for a place, each with the number of those before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from attrs import define, field

_EACH: Final = 10


def queue_notice(before: int, eta: float | None = None) -> tuple[str, dict[str, Any]]:
    """Return what a client behind `before` others is shown, and the `queue` of its event; `eta` is in seconds.

    A policy shows it with ``ticket.notify(message, queue=queue)``.
    """
    position = before + 1
    return f"Waiting for a free place: number {position} in the queue", {"position": position, "eta_s": eta}


@define
class WaitingLine:
    """`places` may be taken at the same time; who comes first is served first."""

    places: int
    """How many may be in at a time."""
    _taken: int = field(default=0, init=False)
    _waiting: dict[asyncio.Future[None], Callable[[int], None]] = field(factory=dict, init=False)

    @property
    def full(self) -> bool:
        """Who comes now must wait."""
        return self._taken >= self.places or bool(self._waiting)

    @asynccontextmanager
    async def place(self, tell: Callable[[int], None]) -> AsyncIterator[None]:
        """Holds a place until left; `tell` is called with the number of those before, when that changes.

        Far back in a long line only in tens: else each build that ends would speak to all who wait.
        """
        if self.full:
            await self._wait(tell)
        else:
            self._taken += 1
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Takes one more place without waiting: for what outlasts the holder of a `place`."""
        self._taken += 1
        try:
            yield
        finally:
            self._release()

    async def _wait(self, tell: Callable[[int], None]) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tell(len(self._waiting))
        self._waiting[turn] = tell
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come
                self._release()
            elif self._waiting.pop(turn, None):
                self._tell()
            raise

    def _release(self) -> None:
        self._taken -= 1
        while self._waiting and self._taken < self.places:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if turn.done():  # cancelled, and its task has not run since
                continue
            self._taken += 1
            turn.set_result(None)
            self._tell()

    def _tell(self) -> None:
        for before, tell in enumerate(self._waiting.values()):
            if before < _EACH or before % _EACH == 0:
                tell(before)
