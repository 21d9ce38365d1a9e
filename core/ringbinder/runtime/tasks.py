"""Background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from attrs import define, field

from .log import Logger


@define
class Tasks:
    """Background tasks: kept alive, their failures logged under their name, ended by `close`."""

    log: Logger
    _running: set[asyncio.Task[Any]] = field(factory=set, init=False)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

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
