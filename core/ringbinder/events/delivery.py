"""Core's workers for the sinks: whatever a sink does, nobody waits for it."""

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
from .disk_queue import SpooledLane
from .emit_rates import EmitRates
from .queues import Lane, MemoryLane, Send

__all__ = ["Delivery", "Send"]

_LAST_WORD_SECONDS: Final = 1.0


class Delivery:
    """Gives every event to every sink that wants it, in order; each sink has a lane of its own.

    A lane is `at_most_once` (from memory) or `at_least_once` (from a spool in the state folder). What became
    of the events is counted in `Metrics.sink_events`: each that is ``queued``, or ``replayed`` from the spool
    after a restart, ends as one of ``sent``, ``dropped`` (never offered), ``failed`` (offered and not taken)
    and ``rejected`` (the receiver will never take it), or stays in the spool; ``retried`` counts further
    attempts. Events that are emitted before `running` wait for it.
    """

    def __init__(
        self, send: Send, services: Services, rates: EmitRates, *, flush_timeout: float = 5.0
    ) -> None:
        """`send` gives events to the sink of that name; `flush_timeout` is in seconds."""
        self._send = send
        self._services = services
        self._rates = rates
        self._flush_timeout = flush_timeout
        self._lanes: list[Lane] = []

    def add(self, sink: str, settings: DeliverySettings) -> None:
        """Gives a sink its lane; to be called before `running`."""
        services, rates = self._services, self._rates
        if settings.mode == "at_least_once":
            folder = services.paths.state / "spool" / quote(sink, safe="")
            self._lanes.append(SpooledLane(sink, settings, self._send, services, rates, folder=folder))
        else:
            self._lanes.append(MemoryLane(sink, settings, self._send, services, rates))

    def emit(self, event: SinkEvent) -> None:
        """Queues `event`. Returns at once, never raises; only for the event loop's thread."""
        for lane in self._lanes:
            lane.put(event)

    async def stored(self) -> None:
        """Returns when every event emitted so far is in the spool of each sink that has one."""
        await asyncio.gather(*(lane.stored() for lane in self._lanes))

    def health(self) -> list[Health]:
        """One line for each sink; a sink that is unwell does not make the whole unhealthy."""
        return [lane.health() for lane in self._lanes]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delivers; on leaving, what is queued still goes out for at most `flush_timeout` seconds.

        What is in a spool by then is kept for the next start.
        """
        for lane in self._lanes:
            await lane.open()
        workers = [
            self._services.tasks.start(work, f"delivery to sink {lane.name}")
            for lane in self._lanes
            for work in lane.work()
        ]
        try:
            yield
        finally:
            try:
                await self._flush(workers)
            finally:
                for lane in self._lanes:
                    await asyncio.shield(lane.finish())

    async def _flush(self, workers: list[asyncio.Task[None]]) -> None:
        for lane in self._lanes:
            lane.close()
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
