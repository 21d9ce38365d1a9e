"""What core lends to a plugin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

from attrs import Factory, evolve, field, frozen

from ..config.event_settings import EventLogSettings
from ..events.emit_rates import EmitRates
from ..events.emitter import Events, PluginEvents
from ..model import Repo, Server
from ..protocol import Log
from ..runtime.clock import Clock
from ..runtime.log import Logger
from ..runtime.metrics import Metrics
from ..runtime.paths import Paths
from ..runtime.services import Http, Services
from ..runtime.store import Store
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
    """What core lends to one plugin for its life: its name, the shared services and a logger bound to it."""

    name: str
    """The entry-point or instance name: the prefix in the link for a provider."""
    services: Services
    log: Logger
    application: Application = Factory(lambda self: Application.absent(self.services), takes_self=True)

    @property
    def http(self) -> Http:
        """Shared httpx.AsyncClient over the aiohttp transport, without a connection limit."""
        return self.services.http

    @property
    def metrics(self) -> Metrics:
        return self.services.metrics

    @property
    def events(self) -> PluginEvents:
        """For events of the plugin's own: `register` a schema, then `emit`."""
        return PluginEvents(self.name, self.application.events)

    @property
    def fetch(self) -> Fetch:
        """Brings a repository's content into an existing empty folder, by asking its provider."""
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
        return self.services.clock

    @property
    def store(self) -> Store:
        return self.services.store

    @property
    def paths(self) -> Paths:
        return self.services.paths

    @property
    def tasks(self) -> Tasks:
        """For work in the background: a task that fails is logged with the plugin's name; all end at shutdown."""
        return evolve(self.services.tasks, log=self.log)
