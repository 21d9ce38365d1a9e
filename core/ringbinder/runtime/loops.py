"""Loops of the background, which no exception ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define, field

from ..errors import RingbinderError
from ..secret import redact
from .clock import Clock
from .log import Logger
from .retry import Retry

_RETRY: Final = Retry(1.0, longest=60.0)


def error_summary(error: BaseException) -> str:
    """Return type and message of `error`, redacted; an exception of a plugin may have no message that can be read."""
    try:
        message = str(error)
    except Exception:
        message = "its message cannot be read"
    if isinstance(error, RingbinderError):
        return redact(message)
    return redact(f"{type(error).__name__}: {message}" if message else type(error).__name__)


@define(eq=False)
class Loop:
    """Awaits one step after another; after one that fails, pauses that grow.

    Of a row of failures the first is logged, with what it means for the operator, and then the end of them.
    """

    name: str
    """What it is, as in "watch of build pods"."""
    consequence: str
    """What is missing meanwhile, as a sentence without its full stop."""
    log: Logger
    """Where a failure is reported, once until it works again."""
    clock: Clock
    """Which sleeps between tries."""
    retry: Retry = _RETRY
    """Its pauses."""
    expected: tuple[type[Exception], ...] = (RingbinderError, OSError)
    """Failures whose message is enough; others are logged with their traceback."""
    trouble: str = field(default="", init=False)
    """What failed last; empty while all is well."""
    _failures: int = field(default=0, init=False)

    async def run(self, step: Callable[[], Awaitable[object]]) -> None:
        """Returns when a step gives True. Only a cancellation of the task ends it otherwise."""
        while True:
            try:
                if await step() is True:
                    return
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                await self._rest(error)  # something that the step waited for was cancelled
            except Exception as error:
                await self._rest(error)
            else:
                self.well()

    def well(self) -> None:
        """Ends a row of failures; for a step that knows so before it returns."""
        if self.trouble:
            self.log.info(f"{self.name} works again")
        self.trouble, self._failures = "", 0

    async def _rest(self, error: BaseException) -> None:
        reason = error_summary(error)
        if not self.trouble:
            known = isinstance(error, self.expected)
            more: dict[str, Any] = {"reason": reason} if known else {"exc_info": error}
            self.log.warning(f"{self.name} failed, trying again: {self.consequence}", **more)
        self.trouble = reason
        seconds = self.retry.pause(self._failures, getattr(error, "retry_after", None))
        self._failures += 1
        await self.clock.sleep(seconds)
