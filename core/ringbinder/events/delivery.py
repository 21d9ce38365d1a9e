"""Core's workers for the sinks: no matter what a sink does, no one waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

from ..config.event_settings import DeliverySettings
from ..model import Health
from ..protocol import SinkEvent
from ..runtime.services import Services
from .disk_queue import DiskQueue
from .emit_rates import EmitRates
from .queues import MemoryQueue, Send, SinkQueue

__all__ = ["Delivery", "Send"]

_LAST_WORD_SECONDS: Final = 1.0


class Delivery:
    """Gives every event to every sink that wants it, in order; each sink has a queue of its own.

    A queue is `at_most_once` (from memory) or `at_least_once` (from a spool in the state folder). What became
    of the events is counted in `Metrics.sink_events`: each that is ``queued``, or ``replayed`` from the spool
    after a restart, ends as one of ``sent``, ``dropped`` (never offered), ``failed`` (offered and not taken)
    and ``rejected`` (the receiver will never take it), or stays in the spool; ``retried`` counts further
    attempts. Events that are emitted before `running` wait for it.
    """

    def __init__(self, send: Send, services: Services, rates: EmitRates, *, flush_timeout: float = 5.0) -> None:
        """`send` gives events to the sink of that name; `flush_timeout` is in seconds."""
        self._send = send
        self._services = services
        self._rates = rates
        self._flush_timeout = flush_timeout
        self._queues: list[SinkQueue] = []

    def add(self, sink: str, settings: DeliverySettings) -> None:
        """Gives a sink its queue; to be called before `running`."""
        services, rates = self._services, self._rates
        if settings.mode == "at_least_once":
            folder = services.paths.state / "spool" / quote(sink, safe="")
            self._queues.append(DiskQueue(sink, settings, self._send, services, rates, folder=folder))
        else:
            self._queues.append(MemoryQueue(sink, settings, self._send, services, rates))

    def emit(self, event: SinkEvent) -> None:
        """Queues `event`. Returns at once, never raises; only for the event loop's thread."""
        for queue in self._queues:
            queue.put(event)

    def health(self) -> list[Health]:
        """One line for each sink; a sink that is unwell does not make the whole unhealthy."""
        return [queue.health() for queue in self._queues]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delivers; on leaving, what is queued still goes out for at most `flush_timeout` seconds.

        What is in a spool by then is kept for the next start.
        """
        for queue in self._queues:
            await queue.open()
        workers = [
            self._services.tasks.start(work, f"delivery to sink {queue.name}")
            for queue in self._queues
            for work in queue.work()
        ]
        try:
            yield
        finally:
            try:
                await self._flush(workers)
            finally:
                for queue in self._queues:
                    await asyncio.shield(queue.finish())

    async def _flush(self, workers: list[asyncio.Task[None]]) -> None:
        for queue in self._queues:
            queue.close()
        if not workers:
            return
        try:
            _, late = await asyncio.wait(workers, timeout=self._flush_timeout)
        finally:
            for worker in workers:
                worker.cancel()
        if late:
            # A sink that takes no notice of its cancellation must not hold up the end either.
            await asyncio.wait(late, timeout=_LAST_WORD_SECONDS)
