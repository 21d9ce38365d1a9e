"""A clock whose hands the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from attrs import define, field


@define
class FakeClock:
    """A `Clock`. Who sleeps wakes when `advance` has brought the time.

    With `jumps`, sleeping takes no time: the hands move at once. `sleeps` has what was slept, in seconds.
    """

    now: float = 1_000_000.0
    """Unix seconds, and those of `monotonic`."""
    jumps: bool = False
    """Whether sleeping takes no time."""
    sleeps: list[float] = field(factory=list)
    """Seconds, in order."""
    _waiting: list[tuple[float, asyncio.Future[None]]] = field(factory=list, init=False)

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if self.jumps or seconds <= 0:
            self.now += max(seconds, 0)
            await asyncio.sleep(0)
            return
        waiting = (self.now + seconds, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting[1]
        finally:
            self._waiting.remove(waiting)

    @property
    def sleepers(self) -> int:
        """How many sleep now."""
        return len(self._waiting)

    async def advance(self, seconds: float) -> None:
        """Lets time pass; wakes the sleepers in their order, each of whom runs before the next one wakes."""
        end = self.now + seconds
        await _settle()
        while due := sorted(
            (waiting for waiting in self._waiting if waiting[0] <= end and not waiting[1].done()),
            key=lambda waiting: waiting[0],
        ):
            self.now = due[0][0]
            due[0][1].set_result(None)
            await _settle()
        self.now = end
        await _settle()

    async def within(self, seconds: float, work: Awaitable[object], step: float = 1.0) -> object:
        """The result of `work`, while up to `seconds` pass in steps. Raises TimeoutError after that."""
        task = asyncio.ensure_future(work)
        try:
            await _settle()
            for _ in range(int(seconds / step) + 1):
                if task.done():
                    return await task
                await self.advance(step)
            raise TimeoutError(f"not done after {seconds:g} seconds of the fake clock")
        finally:
            task.cancel()


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
