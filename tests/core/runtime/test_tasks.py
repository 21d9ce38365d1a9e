"""Background tasks: all end at the end, and what goes wrong in one is told."""

from __future__ import annotations

import asyncio

import structlog
from ringbinder.runtime.tasks import Tasks
from structlog.testing import capture_logs


async def test_close_cancels_and_waits() -> None:
    tasks = Tasks(structlog.get_logger())
    ended: list[str] = []

    async def slow(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)
            ended.append(name)

    for name in "ab":
        tasks.start(slow(name), name)
    await asyncio.sleep(0)
    await tasks.close()
    assert sorted(ended) == ["a", "b"]
    await tasks.close()


async def test_close_ends_when_a_task_has_just_ended() -> None:
    tasks = Tasks(structlog.get_logger())
    last_step = asyncio.Event()

    async def work() -> None:
        last_step.set()

    task = tasks.start(work(), "work")
    # The waiter is woken before the callbacks of the task: it is done, and nobody has been told yet.
    await last_step.wait()
    assert task.done()
    await tasks.close()


async def test_a_failure_is_logged_with_the_tasks_name() -> None:
    tasks = Tasks(structlog.get_logger())

    async def work() -> None:
        raise ValueError("oops")

    with capture_logs() as logs:
        await asyncio.wait([tasks.start(work(), "the work")])
        await tasks.close()
    assert [(entry["event"], entry["task"]) for entry in logs] == [("background task failed", "the work")]
