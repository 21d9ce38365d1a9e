"""Wakes tasks that wait for news."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Wakes everybody who waits.

    One thread only: check, then `wait`, with no `await` between, misses nothing.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[bool], None] = {}  # in the order of their coming

    def notify_all(self) -> None:
        for future in self._waiting:
            _wake(future, notified=True)
        self._waiting.clear()

    async def wait(self, seconds: float | None = None) -> bool:
        """Returns True once notified, or False after `seconds` without that."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting[future] = None
        # A timer alone: where thousands wait, what `asyncio.timeout` makes around it is felt.
        timer = None if seconds is None else loop.call_later(seconds, _wake, future, False)
        try:
            return await future
        finally:
            self._waiting.pop(future, None)
            if timer is not None:
                timer.cancel()


def _wake(future: asyncio.Future[bool], notified: bool) -> None:
    if not future.done():
        future.set_result(notified)
