"""Repetitions of what failed because something outside did not answer."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from itertools import count
from math import inf
from typing import Final, TypeVar

from attrs import field, frozen

from ..errors import TransientError
from .clock import Clock, SystemClock

_LONGEST_ASKED: Final = 20.0
"""Seconds. A longer wait that a server asks for is reported instead of being waited for."""

T = TypeVar("T")


class TooLate(TransientError):
    """There is no time left to try again."""


def transient(error: Exception) -> bool:
    """Return whether to try again may help."""
    return isinstance(error, TransientError) and not isinstance(error, TooLate)


@frozen
class Retry:
    """When to try again: `first` seconds after the first failure, doubled with each up to `longest`.

    Up to a quarter of a pause is left out, so that those that failed together do not come back together.
    """

    first: float
    """Seconds."""
    longest: float = inf
    """Seconds."""
    tries: float = inf
    """At most so many in all, the first one among them."""
    in_all: float = inf
    """Seconds after which no other try begins."""
    again: Callable[[Exception], bool] = transient
    """Whether an error is worth another try; those that are `TransientError`, if nothing else is given."""
    clock: Clock = field(factory=SystemClock)
    """Which sleeps; in a plugin, the context's."""
    random: Callable[[float, float], float] = random.uniform
    """Gives a number between two; for tests."""

    def pause(self, failures: int, asked: float | None = None) -> float:
        """Return the seconds to wait after a failure that `failures` preceded, or which the other side has `asked`."""
        pause = min(self.longest, self.first * 2.0 ** min(failures, 30))
        return max(pause * self.random(0.75, 1.0), min(asked or 0.0, _LONGEST_ASKED))

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` gives in the end. Raises what its last try raises."""
        end = self.clock.monotonic() + self.in_all
        for failures in count():
            try:
                return await work()
            except Exception as error:
                asked: float | None = getattr(error, "retry_after", None)
                last = failures + 1 >= self.tries or self.clock.monotonic() >= end
                if last or not self.again(error) or (asked or 0.0) > _LONGEST_ASKED:
                    raise
            await self.clock.sleep(self.pause(failures, asked))
        raise AssertionError("a count has no end")


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds of a `Retry-After`, in either form (RFC 9110, section 10.2.3); None if it has none."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
