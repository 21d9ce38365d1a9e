"""Time that a test turns where it waits: the clock of the services, and the event loop's own timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from ringbinder.runtime.clock import SystemClock


class TurnedClock(SystemClock):
    """The machine's clock, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._sleepers: set[asyncio.Event] = set()

    def turn(self, seconds: float) -> None:
        self.ahead += seconds
        for turned in self._sleepers:
            turned.set()

    def time(self) -> float:
        return super().time() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        end, turned = self.monotonic() + seconds, asyncio.Event()
        self._sleepers.add(turned)
        try:
            while (left := end - self.monotonic()) > 0:
                turned.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(turned.wait(), left)
        finally:
            self._sleepers.discard(turned)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
async def turn_timers(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the running loop's own timers forward by so many seconds: those that are due then run next."""
    loop, ahead = asyncio.get_running_loop(), 0.0
    time = loop.time

    def turn(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(loop, "time", lambda: time() + ahead)
    return turn
