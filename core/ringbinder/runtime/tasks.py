"""Background tasks, and what is repeated at intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from attrs import define, field

from .clock import Clock, SystemClock
from .log import Logger
from .loops import Loop
from .metrics import Metrics


@define
class Tasks:
    """Background tasks: kept alive, their failures logged under their name, ended by `close`."""

    log: Logger
    """Where a task that fails is reported."""
    clock: Clock = field(factory=SystemClock)
    """The time of `every`."""
    metrics: Metrics = field(factory=Metrics)
    """Counts the tasks that fail."""
    _running: set[asyncio.Task[Any]] = field(factory=set)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` until it ends. An exception is logged with `name`, and goes no further unless it is awaited."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(
        self, seconds: float, work: Callable[[], Awaitable[object]], name: str, consequence: str
    ) -> asyncio.Task[Any]:
        """Repeat `work`, from now on, `seconds` after each end and sooner after a failure, which does not end it.

        `name` ("watch of shelves") and `consequence` ("new shelves are not shown", without a full stop) are for the
        log, as in `Loop`. Failures are counted in ``ringbinder_background_failures_total``. The returned task may be
        cancelled.
        """
        loop = Loop(name, consequence, self.log, self.clock)
        failures = self.metrics.background_failures.labels(name)

        async def step() -> None:
            with failures.count_exceptions():
                await work()
            loop.well()
            await self.clock.sleep(seconds)

        return self.start(loop.run(step), name)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("background task failed", task=task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancels what still runs and waits for it."""
        while tasks := list(self._running):
            for task in tasks:
                task.cancel()
            # Not `gather`: for tasks that have just ended it never yields (Python 3.12+), and `_ended` never runs.
            await asyncio.wait(tasks)
