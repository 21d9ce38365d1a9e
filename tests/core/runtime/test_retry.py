"""One policy of repetitions: how often, how long apart, and what the other side asks for."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest
from ringbinder.errors import TransientError
from ringbinder.runtime.retry import Retry, TooLate, retry_after
from ringbinder.testing.clock import FakeClock


def policy(clock: FakeClock, **options: Any) -> Retry:
    return Retry(1.0, clock=clock, random=lambda least, most: most, **options)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(jumps=True)


def failing(*errors: Exception) -> Any:
    left = list(errors)

    async def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work


@pytest.mark.parametrize(
    ("errors", "slept"),
    [
        ([], []),
        ([TransientError("x")] * 3, [1.0, 2.0, 4.0]),
        ([TransientError("x", 3.0)] * 3, [3.0, 3.0, 4.0]),
    ],
)
async def test_retry_until_success(errors: list[Exception], slept: list[float], clock: FakeClock) -> None:
    assert await policy(clock, tries=4)(failing(*errors)) == "done"
    assert clock.sleeps == slept


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (TransientError("x"), 3),
        (TransientError("asked for a minute", 60.0), 0),
        (TooLate("x"), 0),
        (ValueError("x"), 0),
    ],
    ids=repr,
)
async def test_retry_gives_up(error: Exception, pauses: int, clock: FakeClock) -> None:
    with pytest.raises(type(error)) as caught:
        await policy(clock, tries=4)(failing(*[error] * 9))
    assert caught.value is error
    assert len(clock.sleeps) == pauses


async def test_retry_ends_with_its_time(clock: FakeClock) -> None:
    with pytest.raises(TransientError):
        await policy(clock, longest=2.0, in_all=6.0)(failing(*[TransientError("x")] * 9))
    assert clock.sleeps == [1.0, 2.0, 2.0, 2.0]


def test_pause_is_bounded(clock: FakeClock) -> None:
    assert policy(clock, longest=9.0).pause(10_000) == 9.0
    assert policy(clock, longest=9.0).pause(0, asked=1e12) == 20.0
    assert 0.75 <= Retry(1.0).pause(0) <= 1.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        (formatdate(1030, usegmt=True), 30.0),
        (formatdate(900, usegmt=True), 0.0),
        ("", None),
        (None, None),
        ("-1", None),
        ("\u0663", None),
        ("soon", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, now=1000.0) == seconds
