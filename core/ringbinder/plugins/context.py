"""What core lends to a plugin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, Self
from urllib.parse import quote

from attrs import Factory, evolve, field, frozen

from ..config.event_settings import EventLogSettings
from ..events.emit_rates import EmitRates
from ..events.emitter import Events, PluginEvents
from ..git import Git
from ..model import Repo, Server
from ..protocol import Log
from ..runtime.caching import Cache
from ..runtime.clock import Clock
from ..runtime.kvstore import KeyValueStore
from ..runtime.log import Logger
from ..runtime.metrics import PluginMetrics
from ..runtime.paths import Paths
from ..runtime.private import make_private
from ..runtime.services import Http, Services
from ..runtime.tasks import Tasks
from .image_registry import ImageRegistry


class Servers(Protocol):
    """The servers of the application's launcher."""

    async def running(self) -> Sequence[Server]:
        """The servers that run now, as the launcher lists them. Raises what a launcher raises."""
        raise NotImplementedError  # only declared: the protocol's classes have it

    def stopped(self, server: str, reason: str, seconds: float | None = None, why: str = "") -> None:
        """For launchers: reports that a server has ended, before `running` no longer lists it.

        `server` is its id, `reason` a word, `seconds` its life time if it is known, `why` words for its person (a
        sentence without its full stop, lines of a log after it).
        """


class _NoServers:
    async def running(self) -> Sequence[Server]:
        return ()

    def stopped(self, server: str, reason: str, seconds: float | None = None, why: str = "") -> None:
        """Does nothing."""


NO_REGISTRY: Final = ImageRegistry(None, "")

Fetch = Callable[[Repo, Path, Log], Awaitable[None]]


async def _no_fetch(repo: Repo, into: Path, log: Log) -> None:
    raise RuntimeError("no application is running that could ask a provider for content")


@frozen
class Application:
    """What a plugin may ask of the application that it is part of."""

    events: Events
    fetch: Fetch = _no_fetch
    servers: Servers = field(factory=_NoServers)
    registry: ImageRegistry = NO_REGISTRY

    @classmethod
    def absent(cls, services: Services) -> Self:
        """For plugins that are made without an application, such as to list or to test them."""
        log, metrics = services.log, services.metrics
        return cls(Events(log, metrics, EmitRates(log, metrics, EventLogSettings().plugin_rate)))


@frozen
class Context:
    """What core lends to one plugin for its life. Times are in seconds, sizes in bytes.

    Everything here is for this plugin, or shared with all others. Tests replace it (`ringbinder.testing.make_context`).
    """

    name: str
    """The entry-point or instance name: the prefix in the link for a provider."""
    services: Services
    """Core's own, for tests: ``await context.services.close()``. Plugins use what is below."""
    log: Logger
    """structlog's logger, bound to the plugin: ``log.warning("shelf unavailable", shelf=name)``; it redacts secrets."""
    application: Application = Factory(lambda self: Application.absent(self.services), takes_self=True)
    """Core's own, as `services`."""
    kind: str = ""
    """``provider``, ``registry``, ``builder``, ``launcher``, ``sink``, ``policy`` or ``plugin``; empty in tests."""
    git: Git = Factory(lambda self: Git(self.name, self.services), takes_self=True)
    """For providers: git within the operator's limits; see `ringbinder.git`."""
    version: str = ""
    """The version of the distribution that the plugin comes from; empty in tests."""

    @property
    def key(self) -> str:
        """Kind and name, as in ``provider:gh``: no two plugins of an application have the same."""
        return f"{self.kind}:{self.name}" if self.kind else self.name

    @property
    def http(self) -> Http:
        """The shared `httpx.AsyncClient`, for any number of concurrent requests; not to be closed.

        - Errors are httpx's own: catch ``httpx.HTTPError`` (``httpx.TimeoutException`` and ``httpx.ConnectError`` among
          them), and ``httpx.InvalidURL`` for an address that is not yours. No status is an error by itself.
        - Each of connecting, sending, and waiting for the next bytes may take 30 seconds; a slow response can take any
          time in all: set ``timeout=`` of the request, and `asyncio.timeout` around the whole.
        - Redirects are not followed unless ``follow_redirects=True``; none should be, with a credential for one host.
        - A response is read up to 32 MiB (see `ringbinder.http`); a longer one is ``httpx.ReadError``. None is asked
          for compressed, and one that is all the same is ``httpx.DecodingError``. For JSON of a stranger:
          ``await read_json(response.aiter_bytes(), limit)`` of `ringbinder.untrusted`, within
          ``async with http.stream("GET", url) as response``.
        - Proxies are the environment's (``HTTPS_PROXY``, ``NO_PROXY``); ``~/.netrc`` is not read. No cookie is kept:
          a plugin that needs them has a client of its own, with `ringbinder.http.open_transport`.
        - It goes wherever it is sent, also into the network of the server: a plugin whose addresses come from strangers
          checks where they lead.
        """
        return self.services.http

    @property
    def metrics(self) -> PluginMetrics:
        """Metrics of the plugin's own: `counter`, `gauge`, `histogram`."""
        return PluginMetrics(self.key, self.services.metrics)

    @property
    def events(self) -> PluginEvents:
        """For events of the plugin's own: `register` a schema, then `emit`."""
        return PluginEvents(self.name, self.application.events)

    @property
    def fetch(self) -> Fetch:
        """Brings a repository's content into an existing empty folder, by asking its provider.

        ``await context.fetch(repo, into, log)``. Raises what the provider raises.
        """
        return self.application.fetch

    @property
    def servers(self) -> Servers:
        """The servers that run, and how a launcher reports that one has ended."""
        return self.application.servers

    @property
    def registry(self) -> ImageRegistry:
        """The registry that the configuration chooses: for builders that assemble images themselves."""
        return self.application.registry

    @property
    def clock(self) -> Clock:
        """The time, and `sleep`, which tests turn."""
        return self.services.clock

    @property
    def store(self) -> KeyValueStore:
        """A small key-value store of this plugin's own, in its `state_folder`. It needs no closing."""
        return KeyValueStore(self._state_folder / "store.sqlite")

    @property
    def state_folder(self) -> Path:
        """A folder of this plugin's own, made for this user only: ``KIND-NAME`` below ``plugins`` of the state folder.

        It survives restarts, and an upgrade of the plugin; replicas on other machines have folders of their own. What
        may be deleted at any time belongs below ``paths.cache``. Raises OSError if it cannot be made.
        """
        folder = self._state_folder
        make_private(folder)
        return folder

    @property
    def _state_folder(self) -> Path:
        return self.paths.state / "plugins" / quote(self.key.replace(":", "-", 1), safe="")

    @property
    def paths(self) -> Paths:
        """The folders of this installation. See `state_folder` for files of the plugin's own."""
        return self.services.paths

    @property
    def public(self) -> bool:
        """Whether others than the people of this machine can reach the server."""
        return self.services.public

    @property
    def closing(self) -> bool:
        """Ringbinder is stopping: what another replica, or the next start, can go on with need not be ended."""
        return self.services.closing

    @property
    def tasks(self) -> Tasks:
        """For work in the background: a task that fails is logged with the plugin's name; all end at shutdown."""
        return evolve(self.services.tasks, log=self.log)

    def cache(self, limit: int) -> Cache[Any, Any]:
        """A cache for at most `limit` values, by this clock: ``await cache.load(key, work, seconds)``."""
        return Cache(limit, self.clock.monotonic)
