"""Trying again what failed because something outside did not answer."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from attrs import frozen
from ringbinder import Clock, TransientError

_LONGEST_WAIT: Final = 10.0
"""Seconds. A longer wait that a server asks for is reported instead of being waited for."""

T = TypeVar("T")


class TooLate(TransientError):
    """There is no time left to try again."""


@frozen
class Patience:
    """`retries` times more, `delay` seconds and then longer in between."""

    clock: Clock
    retries: int
    delay: float

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives at last. Raises what it raises, a TransientError only when patience ends."""
        for attempt in range(self.retries):
            try:
                return await work()
            except TooLate:
                raise
            except TransientError as error:
                if (error.retry_after or 0.0) > _LONGEST_WAIT:
                    raise
                delay = self.delay * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311
                await self.clock.sleep(max(delay, error.retry_after or 0.0))
        return await work()
