"""Loops of the background: no exception ends one, none is busy, and what happened is logged once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import structlog
from ringbinder.errors import TransientError
from ringbinder.runtime.bounded import MalformedError, check_shape
from ringbinder.runtime.loops import Loop
from ringbinder.testing import FakeClock
from structlog.testing import capture_logs


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def loop(clock: FakeClock) -> Loop:
    return Loop("the test", "nothing is tested", structlog.get_logger(), clock)


@pytest.mark.parametrize(
    "error",
    [
        TransientError("gone"), OSError(28, "full"), TimeoutError(), KeyError("items"), AttributeError("x"),
        RecursionError(), MemoryError(), AssertionError(), StopIteration(), StopAsyncIteration(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), ExceptionGroup("two", [ValueError(), TypeError()]),
        asyncio.CancelledError(), asyncio.InvalidStateError(), Unreadable(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_loop_outlives_any_exception(error: BaseException) -> None:
    clock, steps = FakeClock(), 0

    async def step() -> bool:
        nonlocal steps
        steps += 1
        if steps < 5:
            raise error
        return steps == 6

    supervised = loop(clock)
    with capture_logs() as logs:
        await clock.within(60, supervised.run(step))
    assert steps == 6
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "the test failed, trying again: nothing is tested"),
        ("info", "the test works again"),
    ]
    assert supervised.trouble == ""


async def test_loop_that_fails_rests_longer_each_time() -> None:
    clock = FakeClock(jumps=True)
    supervised = loop(clock)

    async def step() -> bool:
        if len(clock.sleeps) == 12:
            return True
        raise ValueError("no")

    await supervised.run(step)
    assert all(0.5 <= pause / expected <= 1 for pause, expected in zip(clock.sleeps, PAUSES, strict=True))


PAUSES = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]


async def test_cancelled_loop_ends() -> None:
    async def step() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(loop(FakeClock()).run(step))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_unexpected_failure_is_logged_with_traceback() -> None:
    clock = FakeClock()
    answers: Iterator[Exception | bool] = iter([KeyError("items"), False, TransientError("gone"), True])

    async def step() -> bool:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    with capture_logs() as logs:
        await clock.within(60, loop(clock).run(step))
    assert isinstance(logs[0]["exc_info"], KeyError)
    assert logs[2]["reason"] == "gone"


SHAPE = {"name": str, "age?": int, "pets": [{"kind?": str}], "of?": {str: {"n": int}}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "has the type NoneType, not dict$"),
        ([], "has the type list, not dict$"),
        ({}, "has the type NoneType, not str at name"),
        ({"name": "x", "pets": None}, "NoneType, not list at pets"),
        ({"name": "x", "pets": [None]}, r"NoneType, not dict at pets\[\]"),
        ({"name": "x", "pets": [{"kind": 1}]}, r"int, not str at pets\[\].kind"),
        ({"name": "x", "pets": [], "age": "1"}, "str, not int at age"),
        ({"name": "x", "pets": [], "of": {"a": {}}}, r"NoneType, not int at of.\*.n"),
    ],
)
def test_value_of_another_shape_is_refused(value: object, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        check_shape(value, SHAPE)


def test_value_of_the_shape_passes() -> None:
    check_shape({"name": "x", "pets": [{"kind": None}, {}], "age": None, "of": {"a": {"n": 1}}, "more": 1}, SHAPE)
