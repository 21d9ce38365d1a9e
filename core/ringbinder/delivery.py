"""Core's workers for the sinks: whatever a sink does, nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from .event_settings import DeliverySettings
from .events import SinkEvent
from .lanes import Lane, MemoryLane, Send
from .model import Health
from .services import Services
from .spooled_lane import SpooledLane

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
        self,
        sinks: Mapping[str, DeliverySettings],
        send: Send,
        services: Services,
        *,
        flush_timeout: float = 5.0,
    ) -> None:
        """`send` gives events to the sink of that name; `flush_timeout` is in seconds."""
        self._services = services
        self._flush_timeout = flush_timeout
        self._spools = services.paths.state / "spool"
        self._lanes = [self._lane(name, settings, send) for name, settings in sinks.items()]

    def _lane(self, name: str, settings: DeliverySettings, send: Send) -> Lane:
        if settings.mode == "at_least_once":
            return SpooledLane(name, settings, send, self._services, folder=self._folder(name))
        return MemoryLane(name, settings, send, self._services)

    def _folder(self, name: str) -> Path:
        return self._spools / quote(name, safe="")

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
