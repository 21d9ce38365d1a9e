"""How one sink gets its events: what all queues share, and the one from memory. See `disk_queue` for the other."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from ..config.event_settings import LEVELS, DeliverySettings
from ..errors import EventsRejected, PluginError, TransientError
from ..model import Health
from ..protocol import SinkEvent
from ..runtime.loops import Loop, error_summary
from ..runtime.services import Services
from ..runtime.wakeup import Wakeup
from .emit_rates import EmitRates, current_sink

Send = Callable[[str, Sequence[SinkEvent]], Awaitable[int | None]]
"""Gives events, in order, to the sink of that name."""

Outcome = Literal["queued", "replayed", "sent", "dropped", "failed", "rejected", "retried"]
OUTCOMES: Final[tuple[Outcome, ...]] = (
    "queued", "replayed", "sent", "dropped", "failed", "rejected", "retried"
)  # fmt: skip

_SLOW_SECONDS: Final = 5.0
_RECENT_SECONDS: Final = 60.0


class SinkQueue(ABC):
    """One sink's queue in memory, which drops its oldest events, and what is known of the sink's health."""

    def __init__(self, name: str, settings: DeliverySettings, send: Send, services: Services, rates: EmitRates) -> None:
        self.name = name
        self.settings = settings
        self._send = send
        self._services = services
        self._rates = rates
        self._queue: deque[SinkEvent] = deque()
        self._news = Wakeup()
        self._closing = False
        self._trouble = ""
        """What the last call came to, if it failed."""
        self._calling: float | None = None
        """Since when a call is under way (monotonic seconds)."""
        self._dropped_at: float | None = None
        self._overflowing = False
        metrics = services.metrics
        for outcome in OUTCOMES:
            self._count(outcome, 0)  # shown from the start: a counter that is missing raises no alarm
        metrics.sink_waiting.labels(name).set_function(lambda: self.waiting)
        metrics.sink_oldest_seconds.labels(name).set_function(self._oldest_seconds)
        metrics.sink_healthy.labels(name).set_function(lambda: self.health().ok)

    @property
    def waiting(self) -> int:
        """Events that the sink has not yet taken."""
        return len(self._queue)

    @property
    @abstractmethod
    def oldest(self) -> SinkEvent | None:
        """The event that waits longest."""

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    def work(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What delivers, until the queue is closed and empty."""

    @abstractmethod
    async def finish(self) -> None:
        """After the work has ended, or was cut short."""

    def wants(self, event: SinkEvent) -> bool:
        """Whether the sink's filter lets `event` pass."""
        settings = self.settings
        provider = event.fields.get("provider")
        return (
            any(fnmatchcase(event.schema, pattern) for pattern in settings.schemas)
            and (event.level not in LEVELS or LEVELS.index(event.level) >= LEVELS.index(settings.level))
            and (provider is None or any(fnmatchcase(str(provider), word) for word in settings.providers))
        )

    def put(self, event: SinkEvent) -> None:
        if not self.wants(event):
            return
        self._count("queued")
        self._queue.append(event)
        self._trim()
        self._news.notify_all()

    def _trim(self) -> None:
        while len(self._queue) > self.settings.queue:
            self._queue.popleft()
            self._drop(1, "a sink is too slow; its oldest events are dropped")

    def close(self) -> None:
        """The work ends once the queue is empty."""
        self._closing = True
        self._news.notify_all()

    def health(self) -> Health:
        now = time.monotonic()
        calling = now - self._calling if self._calling is not None else 0.0
        flooding = self._rates.flooding.get(self.name)
        reported = [
            (self._trouble, self._trouble),
            (f"it has not answered for {calling:.0f} seconds", calling > _SLOW_SECONDS),
            ("events were dropped", _recent(self._dropped_at, now)),
            ("it emits too many events itself", _recent(flooding, now)),
        ]
        words = "; ".join(text for text, true in reported if true)
        detail: dict[str, Any] = {"mode": self.settings.mode, "waiting": self.waiting}
        if words:
            detail["message"] = words
        return Health(f"sink:{self.name}", not words, detail, ignore_failure=True)

    def _loop(self, what: str, consequence: str) -> Loop:
        services = self._services
        return Loop(f"{what} to sink {self.name}", consequence, services.log, services.clock)

    def _oldest_seconds(self) -> float:
        oldest = self.oldest
        return max(0.0, self._services.clock.time() - oldest.timestamp) if oldest else 0.0

    def _count(self, outcome: Outcome, number: int = 1) -> None:
        self._services.metrics.sink_events.labels(sink=self.name, outcome=outcome).inc(number)

    def _drop(self, number: int, why: str) -> None:
        self._count("dropped", number)
        self._dropped_at = time.monotonic()
        if not self._overflowing:
            self._overflowing = True
            self._services.log.warning(why, sink=self.name)

    async def _linger(self, waiting: Callable[[], int]) -> None:
        """Waits for a batch to grow, as long as the sink's setting says."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.linger):
                while self.settings.linger and waiting() < self.settings.batch and not self._closing:
                    await self._news.wait()

    async def _attempt(self, batch: Sequence[SinkEvent]) -> tuple[int, BaseException | None]:
        """Offers `batch` once; gives how many events of its beginning were taken, and what went wrong if none was."""
        current_sink.set(self.name)
        self._calling = time.monotonic()
        try:
            async with asyncio.timeout(self.settings.timeout or None):
                return self._taken(await self._send(self.name, batch), len(batch)), None
        except asyncio.CancelledError as error:
            # Cancelled from within, a sink has failed; only our own end is meant for us.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return 0, error
        except TimeoutError as error:
            return 0, error if str(error) else TimeoutError(f"no answer in {self.settings.timeout:g} seconds")
        except Exception as error:
            return 0, error
        finally:
            self._calling = None

    def _taken(self, answer: int | None, offered: int) -> int:
        """How many events an answer of `emit` means. Raises PluginError if that cannot be."""
        if answer is None or answer == offered:
            return offered
        if not 0 <= answer < offered:
            raise PluginError(f"sink:{self.name}", f"it took {answer} of {offered} events", "emit")
        if not answer:
            raise TransientError(f"sink {self.name} took none of the events")
        return answer

    def _tell(self, error: BaseException | None, failed: str) -> None:
        # Once for a row of failures: a sink that is down must not fill the log.
        if error is not None and not self._trouble:
            self._services.log.error(failed, sink=self.name, exc_info=error)
        elif error is None and self._trouble:
            self._services.log.info("a sink takes its events again", sink=self.name)
        self._trouble = error_summary(error) if error is not None else ""

    def _reject(self, number: int, error: BaseException) -> None:
        self._count("rejected", number)
        self._services.log.error("a sink's receiver rejects an event", sink=self.name, exc_info=error)


class MemoryQueue(SinkQueue):
    """`at_most_once`: each event is offered in one call, and never again."""

    def __init__(self, name: str, settings: DeliverySettings, send: Send, services: Services, rates: EmitRates) -> None:
        super().__init__(name, settings, send, services, rates)
        self._batch: list[SinkEvent] = []

    @property
    def oldest(self) -> SinkEvent | None:
        return next(iter(self._batch or self._queue), None)

    async def open(self) -> None:
        self._closing = False

    def work(self) -> Sequence[Coroutine[Any, Any, None]]:
        return [self._loop("delivery", "its events wait, and the oldest are lost").run(self._deliver)]

    async def finish(self) -> None:
        if self._queue:
            self._services.log.warning("events are lost at the end", sink=self.name, count=len(self._queue))
            self._count("dropped", len(self._queue))
            self._queue.clear()

    async def _deliver(self) -> bool:
        """Gives the sink its next batch; True at the end."""
        if not self._queue:
            if self._closing:
                return True
            self._overflowing = False
            await self._news.wait()
            return False
        await self._linger(lambda: len(self._queue))
        count = min(len(self._queue), self.settings.batch)
        self._batch = [self._queue.popleft() for _ in range(count)]
        try:
            await self._offer(self._batch)
        finally:
            self._batch = []
        return False

    async def _offer(self, batch: Sequence[SinkEvent]) -> None:
        while batch:
            taken, error = 0, None
            try:
                taken, error = await self._attempt(batch)
            finally:
                if not taken and not isinstance(error, EventsRejected):
                    self._count("failed", len(batch))
            if isinstance(error, EventsRejected):
                if len(batch) == 1:
                    self._reject(1, error)
                    return
                for event in batch:
                    await self._offer([event])
                return
            self._tell(error, "a sink does not take its events; they are lost")
            if error is not None:
                return
            self._count("sent", taken)
            batch = batch[taken:]


def _recent(moment: float | None, now: float) -> bool:
    return moment is not None and now - moment < _RECENT_SECONDS
