"""Background tasks: all end at the end, and what goes wrong in one is told."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import structlog
from ringbinder.errors import TransientError
from ringbinder.runtime.tasks import Tasks
from ringbinder.testing import FakeClock
from ringbinder.testing.context import make_context
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


async def test_interval_counts_from_each_end_despite_failures() -> None:
    clock, began = FakeClock(now=0.0), list[float]()
    tasks = Tasks(structlog.get_logger(), clock)

    async def work() -> None:
        began.append(clock.now)
        if len(began) == 1:
            await clock.sleep(2.0)
        if len(began) == 2:
            raise TransientError("gone")

    with capture_logs() as logs:
        tasks.every(10.0, work, "the work", "nothing is done")
        await clock.advance(34.0)
    await tasks.close()
    assert [math.ceil(at) for at in began] == [
        0,
        12,
        13,
        23,
        33,
    ]  # up to a quarter of the pause after a failure is left out
    assert [(entry["event"], entry.get("reason")) for entry in logs] == [
        ("the work failed, trying again: nothing is done", "gone"),
        ("the work works again", None),
    ]
    labels = {"task": "the work"}
    assert tasks.metrics.registry.get_sample_value("ringbinder_background_failures_total", labels) == 1


async def test_tasks_of_a_plugin_log_its_name_and_end_with_all(tmp_path: Path) -> None:
    context = make_context(tmp_path, "thing")

    async def work() -> None:
        raise ValueError("oops")

    with capture_logs() as logs:
        await asyncio.wait([context.tasks.start(work(), "the work")])
        waiting = context.tasks.start(asyncio.Event().wait(), "waits")
        await context.services.tasks.close()
    assert waiting.cancelled()
    assert [(entry["plugin"], entry["task"]) for entry in logs] == [("thing", "the work")]
    await context.services.close()
