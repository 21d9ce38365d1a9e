"""Time, so that tests can turn it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def time(self) -> float:
        """Unix seconds."""
        raise NotImplementedError  # only declared: the protocol's classes have it

    def monotonic(self) -> float:
        """Seconds that never go back."""
        raise NotImplementedError  # only declared: the protocol's classes have it

    async def sleep(self, seconds: float) -> None:
        """Wait; for no time if `seconds` is not positive, letting other tasks run."""


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
