"""An event loop that a test steps by hand, with a clock that only the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SteppedLoop(asyncio.SelectorEventLoop):
    """Nothing runs but within these methods, so that an interleaving can be chosen, and repeated.

    For code without threads and sockets.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._calls = 0
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._calls += 1
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        self._timers.append(timer)
        return timer

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """Those that have yet to go off."""
        self._timers = [timer for timer in self._timers if not timer.cancelled() and timer.when() > self._now]
        return self._timers

    def step(self, act: Callable[..., object] | None = None, *args: Any) -> None:
        """One turn of the loop: what is ready now runs, what that makes ready waits. `act` comes last."""
        if act is not None:
            self.call_soon(act, *args)
        self.call_soon(self.stop)
        self.run_forever()

    def settle(self) -> None:
        """Turns until everything waits."""
        while True:
            before = self._calls
            self.step()
            if self._calls == before + 1:
                return

    def advance(self, seconds: float) -> None:
        """Lets time pass, timer by timer, and everything settle."""
        end = self._now + seconds
        self.settle()
        while due := [timer.when() for timer in self.timers if timer.when() <= end]:
            self._now = min(due)
            self.settle()
        self._now = end
        self.settle()

    def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which must come without time passing."""
        task = self.create_task(work)
        self.settle()
        assert task.done(), f"{task} waits for something that does not come"
        return task.result()
