"""The services that core shares among plugins: HTTP client, clock, folders, background tasks, metrics, store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import Factory, define, field

from .clock import Clock, SystemClock
from .log import Logger
from .metrics import Metrics
from .paths import Paths
from .store import Store
from .tasks import Tasks

if TYPE_CHECKING:
    import httpx

    Http = httpx.AsyncClient
else:
    Http = Any


@define
class Services:
    """One per application; `close` ends what was opened."""

    log: Logger
    paths: Paths = field(factory=Paths.default)
    clock: Clock = field(factory=SystemClock)
    public: bool = False
    """Others than the people of this machine can reach the server."""
    metrics: Metrics = field(factory=Metrics)
    store: Store = Factory(lambda self: Store(self.paths.state / "ringbinder.sqlite"), takes_self=True)
    tasks: Tasks = Factory(lambda self: Tasks(self.log, self.clock, self.metrics), takes_self=True)
    transport: Any = None
    """An `httpx.AsyncBaseTransport` for `http` in place of aiohttp's: tests answer requests themselves."""
    closing: bool = field(default=False, init=False)
    """Ringbinder is stopping: what another replica, or the next start, can go on with need not be ended."""
    _http: Http | None = field(default=None, init=False)

    @property
    def http(self) -> Http:
        if self._http is None:
            from http.cookiejar import CookieJar, DefaultCookiePolicy

            import httpx

            from .http import open_transport

            self._http = httpx.AsyncClient(
                transport=self.transport or open_transport(),
                timeout=httpx.Timeout(30.0),
                headers={"User-Agent": "Ringbinder"},
                event_hooks={"request": [_without_userinfo]},
                # A cookie that a hub gave one plugin must not go with the request of another, for a stranger's link.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
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
