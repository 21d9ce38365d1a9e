"""The services that core shares among plugins: HTTP client, clock, folders, background tasks, metrics, store."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from attrs import define, field, frozen

from .metrics import Metrics
from .store import Store

if TYPE_CHECKING:
    import httpx

    Http = httpx.AsyncClient
else:
    Http = Any

__all__ = ["Clock", "Http", "Logger", "Metrics", "Paths", "Services", "Store", "SystemClock", "Tasks"]

Logger = structlog.typing.FilteringBoundLogger


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def time(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@frozen
class Paths:
    """Folders of this installation. `state` is precious (images, sessions, kept logs), `cache` may be deleted."""

    state: Path
    cache: Path
    configuration: tuple[Path, ...] = ()
    """Files of configuration, which may hold secrets: not for code of strangers."""

    @classmethod
    def of(cls, state: Path | None, cache: Path | None) -> Paths:
        """The given ones, else `default`."""
        default = cls.default()
        return cls(state or default.state, cache or default.cache)

    @classmethod
    def default(cls) -> Paths:
        """``RINGBINDER_STATE`` and ``RINGBINDER_CACHE``, else the platform's folders for user data and caches."""
        import platformdirs

        state = os.environ.get("RINGBINDER_STATE") or platformdirs.user_data_dir(
            "ringbinder", appauthor=False
        )
        cache = os.environ.get("RINGBINDER_CACHE") or platformdirs.user_cache_dir(
            "ringbinder", appauthor=False
        )
        return cls(Path(state), Path(cache))


@define
class Tasks:
    """Background tasks: kept alive, their failures logged under their name, ended by `close`."""

    log: Logger
    _running: set[asyncio.Task[Any]] = field(factory=set, init=False)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("background task failed", task=task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancels what still runs and waits for it."""
        while tasks := list(self._running):
            for task in tasks:
                task.cancel()
            # Not `gather`: for tasks that have just ended it never yields (Python 3.12+), and `_ended` never runs.
            await asyncio.wait(tasks)


@define
class Services:
    """One per application; `close` ends what was opened."""

    log: Logger
    paths: Paths = field(factory=Paths.default)
    clock: Clock = field(factory=SystemClock)
    public: bool = False
    """Others than the people of this machine can reach the server."""
    metrics: Metrics = field(factory=Metrics)
    store: Store = field()
    tasks: Tasks = field()
    transport: Any = None
    """An `httpx.AsyncBaseTransport` for `http` in place of aiohttp's: tests answer requests themselves."""
    closing: bool = field(default=False, init=False)
    """Ringbinder is stopping: what another replica, or the next start, can go on with need not be ended."""
    _http: Http | None = field(default=None, init=False)

    @store.default
    def _default_store(self) -> Store:
        return Store(self.paths.state / "ringbinder.sqlite")

    @tasks.default
    def _default_tasks(self) -> Tasks:
        return Tasks(self.log)

    @property
    def http(self) -> Http:
        if self._http is None:
            import httpx

            from .http import Transport

            self._http = httpx.AsyncClient(
                transport=self.transport or Transport(),
                timeout=httpx.Timeout(30.0),
                headers={"User-Agent": "Ringbinder"},
                event_hooks={"request": [_without_userinfo]},
            )
        return self._http

    def begin_closing(self) -> None:
        """Sets `closing`."""
        self.closing = True

    async def close(self) -> None:
        await self.tasks.close()
        if self._http is not None:
            await self._http.aclose()
        self.store.close()


async def _without_userinfo(request: Any) -> None:
    """httpx has made a header of what stands before the `@` of an address; aiohttp refuses to see both."""
    request.url = request.url.copy_with(userinfo=b"")
