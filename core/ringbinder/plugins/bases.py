"""What a plugin is given (`Context`) and the base classes that make the usual plugin short.

The hooks are the contract (`hookspecs`); a class that has them and the same constructor needs no base class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from attrs import field, frozen

from ..config.event_settings import EventLogSettings
from ..config.options import ByteSize as ByteSize
from ..config.options import Duration as Duration
from ..config.options import option as option
from ..errors import PluginError
from ..events.emit_rates import EmitRates
from ..events.emitter import Events, PluginEvents
from ..model import Image, ImageKind, LaunchRequest, Link, Plan, ProviderInfo, Repo, Server, Target
from ..protocol import Log, SinkEvent
from ..runtime.services import Clock, Http, Logger, Metrics, Paths, Services, Store, Tasks
from .deprecation import PLUGIN_API


@frozen
class NoOptions:
    """Configuration of a plugin that has none."""


class Servers(Protocol):
    """The servers of the application's launcher."""

    async def running(self) -> Sequence[Server]:
        """The servers that run now, as the launcher lists them. Raises what a launcher raises."""

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


Fetch = Callable[[Repo, Path, Log], Awaitable[None]]


async def _no_fetch(repo: Repo, into: Path, log: Log) -> None:
    raise RuntimeError("no application is running that could ask a provider for content")


@frozen
class Application:
    """What a plugin may ask of the application that it is part of."""

    events: Events
    fetch: Fetch = _no_fetch
    servers: Servers = field(factory=_NoServers)

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
    application: Application = field()

    @application.default
    def _default_application(self) -> Application:
        return Application.absent(self.services)

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
        return self.services.tasks


C = TypeVar("C")


class Plugin(Generic[C]):
    """Base of the base classes: keeps `config` and `context`.

    `Config` is the attrs class of the options; `sections` names the configuration sections that fill it, the general
    ones first (``("RepoProvider", "GitHubRepoProvider")``): a later one overrides.
    """

    Config: ClassVar[type[Any]] = NoOptions
    sections: ClassVar[tuple[str, ...]] = ()
    plugin_api: ClassVar[int] = PLUGIN_API
    """The `ringbinder.PLUGIN_API` that it was written for; a plugin that says so is told when that is gone."""

    def __init__(self, config: C, context: Context) -> None:
        self.config = config
        self.context = context


class Provider(Plugin[C], ABC):
    """Where repositories come from."""

    @abstractmethod
    def describe(self) -> ProviderInfo: ...

    def recognize(self, link: str) -> Link | None:
        return None

    @abstractmethod
    async def resolve(self, request: LaunchRequest) -> Repo | None: ...

    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        raise PluginError(self.context.name, "this provider cannot bring content itself", "fetch")


class Registry(Plugin[C], ABC):
    """Where images are kept. `holds` is the kind of image that it keeps."""

    holds: ClassVar[ImageKind]

    @abstractmethod
    async def check(self, plan: Plan, fresh: bool) -> Image | None: ...

    @abstractmethod
    async def target(self, plan: Plan) -> Target | None: ...

    async def push(self, image: Image, target: Target, log: Log) -> Image | None:
        raise PluginError(self.context.name, "this registry cannot push; its builder must", "push")

    async def images(self) -> Sequence[Image]:
        return ()

    async def delete(self, image: Image) -> bool | None:
        return False


class Builder(Plugin[C], ABC):
    """What turns a repository into an image. `makes` is the kind of image that comes out."""

    makes: ClassVar[ImageKind]

    @property
    def builds_at_once(self) -> int | None:
        """How many builds it can do at a time in this process; None: as many as it is given.

        Core gives it no more than that, nor than `BinderHub.concurrent_build_limit`; others wait in line.
        """
        return None

    @property
    def builder_info(self) -> Mapping[str, Any]:
        """More for `builder_info` in `/versions`, the same as long as the server runs."""
        return {}

    @abstractmethod
    async def build(self, plan: Plan, target: Target, log: Log) -> Image | None: ...


class Launcher(Plugin[C], ABC):
    """What runs an image for one client. `runs` is the kind of image that it takes."""

    runs: ClassVar[ImageKind]

    @abstractmethod
    async def launch(self, *arguments: Any, **named: Any) -> Server | None:
        """The hook `launch`: name those of `image`, `request`, `plan` and `log` that you need."""

    @abstractmethod
    async def stop(self, server: Server) -> bool | None: ...

    async def servers(self) -> Sequence[Server]:
        raise PluginError(self.context.name, "this launcher does not list its servers", "servers")


class Sink(Plugin[C], ABC):
    """Who hears about it."""

    @abstractmethod
    async def emit(self, events: Sequence[SinkEvent]) -> None: ...
