"""How one sink gets its events from a spool on disk, again and again until it takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from ..config.event_settings import DeliverySettings
from ..errors import EventsRejected
from ..model import Health
from ..protocol import SinkEvent
from ..runtime.loops import Loop
from ..runtime.retry import Retry
from ..runtime.services import Services
from .emit_rates import EmitRates
from .queues import Send, SinkQueue
from .spool import Read, Spool

_DISK_PAUSE: Final = 1.0
_DISK_PATIENCE: Final = 5.0
_LINES_AT_ONCE: Final = 1000

T = TypeVar("T")


class DiskQueue(SinkQueue):
    """`at_least_once`: events go to disk at once, and from there to the sink until it takes them.

    While the disk takes nothing, they wait in memory, and go to the sink from there once the spool is empty.
    """

    def __init__(
        self, name: str, settings: DeliverySettings, send: Send, services: Services, rates: EmitRates, *, folder: Path
    ) -> None:
        self._spool = Spool(folder, settings.spool, settings.fsync)
        super().__init__(name, settings, send, services, rates)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"spool of {name}")
        self._writing = 0
        self._offered: Sequence[SinkEvent] = ()
        self._of_memory = False
        self._disk_trouble = ""
        self._disk_rests = False
        """The last write has failed, and the next one is not yet due."""
        self._done = False
        services.metrics.sink_spool_bytes.labels(name).set_function(lambda: self._spool.bytes)

    @property
    def waiting(self) -> int:
        offered = len(self._offered) if self._of_memory else 0
        return self._spool.count + len(self._queue) + self._writing + offered

    @property
    def oldest(self) -> SinkEvent | None:
        return next(iter(self._offered or self._queue), None)

    async def open(self) -> None:
        self._closing = self._done = False
        try:
            await self._open_spool()
        except OSError as error:
            self._blame_disk(error)

    async def _open_spool(self) -> None:
        await self._on_disk(self._spool.open)
        if self._spool.count:
            count = self._spool.count
            self._count("replayed", count)
            self._services.log.info("events of an earlier run are sent", sink=self.name, count=count)

    def work(self) -> Sequence[Coroutine[Any, Any, None]]:
        writing = self._loop("the spool", "its events wait in memory, and the oldest are lost")
        delivering = self._loop("delivery", "its events wait in the spool")
        return [self._write_until_closed(writing), delivering.run(self._deliver)]

    async def finish(self) -> None:
        """Writes what is still in memory to the spool; what cannot be written in a few seconds is lost."""
        left = [*(self._offered if self._of_memory else ()), *self._queue]
        self._queue.clear()
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(_DISK_PATIENCE):
                if left:
                    await self._on_disk(self._spool.append, left)
                    left = []
                await self._on_disk(self._spool.close)
        if left:
            self._services.log.warning("events are lost at the end", sink=self.name, count=len(left))
            self._count("dropped", len(left))
        self._thread.shutdown(wait=False)

    def health(self) -> Health:
        health = super().health()
        if not self._disk_trouble:
            return health
        message = "; ".join(filter(None, [str(health.detail.get("message", "")), self._disk_trouble]))
        return Health(health.service, False, {**health.detail, "message": message}, ignore_failure=True)

    async def _on_disk(self, work: Callable[..., T], *arguments: Any) -> T:
        # A thread of its own: a disk that hangs holds up this sink, and no one else.
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _write_until_closed(self, loop: Loop) -> None:
        try:
            await loop.run(self._write)
        finally:
            self._done = True
            self._news.notify_all()

    async def _write(self) -> bool:
        """Brings what waits in memory to the disk; True at the end."""
        if self._queue:
            await self._store()
        elif self._closing:
            return True
        elif self._spool.unsynced:
            try:
                async with asyncio.timeout(1.0):
                    await self._news.wait()
            except TimeoutError:
                with suppress(OSError):
                    await self._on_disk(self._spool.sync)
        else:
            await self._news.wait()
        return False

    async def _store(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), _LINES_AT_ONCE))]
        self._writing = len(batch)
        try:
            if not self._spool.is_open:
                await self._open_spool()
            lost = await self._on_disk(self._spool.append, batch)
        except OSError as error:
            self._queue.extendleft(reversed(batch))
            self._writing = 0
            self._trim()
            self._blame_disk(error)
            self._disk_rests = True
            self._news.notify_all()
            await self._pause(_DISK_PAUSE)
            self._disk_rests = False
        except Exception:
            self._drop(len(batch), "events cannot be written to a sink's spool; they are dropped")
            raise
        else:
            self._writing = 0
            if lost:
                self._drop(lost, "a sink's spool is full; its oldest events are dropped")
            if self._disk_trouble:
                self._disk_trouble = ""
                self._services.log.info("the spool can be written again", sink=self.name)
            self._news.notify_all()
        finally:
            self._writing = 0

    def _blame_disk(self, error: OSError) -> None:
        if not self._disk_trouble:
            self._services.log.error(
                "the spool of a sink cannot be used; events wait in memory", sink=self.name, error=str(error)
            )
        self._disk_trouble = f"the spool cannot be used: {error.strerror or error}"

    async def _pause(self, seconds: float) -> None:
        """Sleeps, but not into the end."""
        sleeping = asyncio.ensure_future(self._services.clock.sleep(seconds))
        closing = asyncio.ensure_future(self._until_closing())
        try:
            await asyncio.wait({sleeping, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            closing.cancel()

    async def _until_closing(self) -> None:
        while not self._closing:
            await self._news.wait()

    async def _deliver(self) -> bool:
        """Gives the sink its next batch; True at the end."""
        if self._spool.count:
            await self._linger(lambda: self._spool.count)
            return not await self._deliver_from_disk()
        if self._disk_rests and self._queue:
            return not await self._deliver_from_memory()
        if self._closing and self._done:
            return True
        self._overflowing = False
        await self._news.wait()
        return False

    async def _deliver_from_disk(self) -> bool:
        """False if the sink has not taken the events before the end; they stay where they are."""
        read: Read | None = None
        try:
            read = await self._on_disk(self._spool.read, self.settings.batch)
            if read.damaged:
                self._services.log.error("lines of a spool are damaged", sink=self.name, count=read.damaged)
                self._count("dropped", read.damaged)
            self._offered = read.events
            if read.events and not await self._until_taken(read.events):
                return False
            self._offered = ()
            await self._on_disk(self._spool.mark, read)
        except OSError as error:
            # Events that were sent and cannot be marked may be sent once more after a restart.
            self._blame_disk(error)
            if read is None:
                if self._closing:
                    return False
                await self._pause(_DISK_PAUSE)
        return True

    async def _deliver_from_memory(self) -> bool:
        count = min(len(self._queue), self.settings.batch)
        self._of_memory, self._offered = True, [self._queue.popleft() for _ in range(count)]
        if not await self._until_taken(self._offered):
            return False
        self._of_memory, self._offered = False, ()
        return True

    async def _until_taken(self, batch: Sequence[SinkEvent]) -> bool:
        """Offers `batch` until the sink takes it; False if the end comes first."""
        retry, attempt = Retry(self.settings.retry_first, self.settings.retry_most), 0
        while batch:
            taken, error = await self._attempt(batch)
            if error is None:
                self._count("sent", taken)
                self._tell(None, "")
                batch, attempt = batch[taken:], 0
                continue
            if isinstance(error, EventsRejected):
                if len(batch) == 1:
                    self._reject(1, error)
                    return True
                for event in batch:
                    if not await self._until_taken([event]):
                        return False
                return True
            self._tell(error, "a sink does not take its events; they are kept and sent again")
            if self._closing:
                return False
            await self._pause(retry.pause(attempt))
            if self._closing:
                return False
            attempt += 1
            self._count("retried", len(batch))
        return True
