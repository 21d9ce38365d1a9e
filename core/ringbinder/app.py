"""The application: configuration, plugins, runs and sessions tied together.

The server and the command line stand on it.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from attrs import define, evolve

from .config.folders import tighten
from .config.loading import Config
from .errors import PluginError
from .events.delivery import Delivery
from .events.emit_rates import EmitRates
from .events.emitter import Events, hash_key
from .launches.build_stage import BuildStage
from .launches.builders import Builders
from .launches.consent import Consents
from .launches.failures import Explainer
from .launches.links import parse_link
from .launches.pipeline import Pipeline
from .launches.reporting import StageEvents
from .launches.runs import Runs
from .launches.servers import Servers
from .launches.sessions import Session, Sessions
from .launches.stages import Notify, Stages
from .model import (
    Allowance,
    Health,
    Image,
    ImageState,
    LaunchRequest,
    Link,
    Plan,
    ProviderInfo,
    Redirect,
    Repo,
    Server,
    User,
    Work,
)
from .plugins.context import Application
from .plugins.discovery import EntryPoints
from .plugins.fitting import fitted
from .plugins.image_registry import ImageRegistry
from .plugins.manager import Plugins, plugin_hooks
from .plugins.watchdog import watched_loop
from .runtime.clock import Clock, SystemClock
from .runtime.log import Logger
from .runtime.metrics import Metrics
from .runtime.paths import Paths
from .runtime.services import Services
from .runtime.store import KeptLog
from .secret import redact

SHUTTING_DOWN = "Ringbinder is shutting down. Please try again in a moment."

_HUB: Final = "JupyterHub API"
"""The line of `/health` about what launches, by its name in BinderHub."""


@define
class Ringbinder:
    """A running application; made by `running`."""

    config: Config
    services: Services
    plugins: Plugins
    pipeline: Pipeline
    runs: Runs
    sessions: Sessions
    servers: Servers
    emitter: Events
    delivery: Delivery

    @property
    def log(self) -> Logger:
        return self.services.log

    @property
    def _launcher(self) -> str:
        return self.config.settings.chosen["launcher"]

    def providers(self) -> dict[str, ProviderInfo]:
        """What can be launched from, by prefix, in the order of the configuration; who fails at it is left out."""
        described = {}
        for name in self.plugins.providers:
            try:
                described[name] = self.pipeline.stages.describe(name)
            except Exception:
                self.log.exception("a provider is left out, since it cannot describe itself", plugin=f"provider:{name}")
        return described

    def link(self, text: str) -> Link:
        """What a pasted address means. Raises `UserError` (``link-not-understood``, ``provider-left-out``)."""
        plugins = self.plugins
        return parse_link(text, plugins.providers, lambda link: plugins.hooks.recognize(link=link), plugins.left_out)

    def launch(self, request: LaunchRequest) -> Session:
        """Starts a session for one client.

        Raises `UserError` (``spec-invalid``) if its spec is too long, and `Refused` if there are too many sessions.
        """
        request.check_length()
        return self.sessions.open(lambda name: evolve(request, session=name))

    async def resolve(self, request: LaunchRequest, tell: Notify = lambda event: None) -> Repo:
        """The first stage alone. Raises what a provider raises."""
        request.check_length()
        return await self.pipeline.resolve(request, tell)

    def consents(self) -> Consents:
        """Whose code may run here; asked for where images are folders, whose code runs on this machine."""
        launcher = self.plugins.get("launcher", self.plugins.launcher)
        asks = launcher.runs == "folder"
        return Consents(asks, self.services.store, self.providers(), self.config.sandboxed)

    async def close(self) -> None:
        """Every open session gets its last event; returns when launches and builds have been taken down."""
        self.services.begin_closing()
        await self.sessions.close(SHUTTING_DOWN)
        await self.runs.close(SHUTTING_DOWN)
        if times := tuple(self.pipeline.launch_seconds):
            await asyncio.to_thread(self.services.store.keep_launches, self.plugins.launcher, times)

    async def find(self, repo: Repo) -> tuple[Plan, Image | None]:
        """The image that `repo` becomes, and whether the registry has it. Raises what a registry raises."""
        return await self.pipeline.find(repo)

    async def image_state(self, plan: Plan, image: Image | None) -> ImageState:
        """What a launch would find now, `plan` and `image` being what `find` gave. Starts nothing."""
        store, place = self.services.store, self.runs.place(plan.image)
        times: Sequence[float] = tuple(self.pipeline.launch_seconds)
        seconds, outcome, before = await asyncio.to_thread(
            lambda: (
                store.last_build_seconds(plan.image),
                store.last_outcome(plan.image),
                [] if times else store.launches(self.plugins.launcher),
            )
        )
        times = times or before
        built_at = image.built_at if image else None
        if image and built_at is None and outcome and outcome[0] == "success":
            built_at = outcome[1]
        building = plan.image in self.runs.active
        broken = outcome is not None and outcome[0] == "failure"
        return ImageState(
            plan.repo,
            plan.image,
            "ready" if image else "building" if building else "broken" if broken else "cold",
            built_at,
            seconds,
            statistics.median(times) if times else None,
            place if not image and self.pipeline.builders.full(plan.repo) else None,
        )

    async def authenticate(self, headers: Mapping[str, str], target: str = "") -> User | Redirect | None:
        """Who sends these headers: `hookspecs.Hooks.authenticate`. Raises what a plugin raises."""
        return await self.plugins.hooks.authenticate(headers=headers, target=target)

    async def log_in(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Redirect | None:
        """Where a browser goes that comes back from a login. Raises what a plugin raises."""
        return await self.plugins.hooks.log_in(headers=headers, query=query)

    async def log_out(self, headers: Mapping[str, str]) -> Redirect | None:
        """What ends the login of who sends these headers. Raises what a plugin raises."""
        return await self.plugins.hooks.log_out(headers=headers)

    async def allowance(self, request: LaunchRequest) -> Allowance | None:
        """How many builds who asks may still start; None if that is not counted."""
        return await self.plugins.hooks.allowance(request=request)

    def why_stopped(self, server: Server) -> str:
        """Why a server that was launched here ended by itself, in words; empty if its launcher has not said."""
        return redact(self.pipeline.reporter.why_stopped(server.id))

    async def work(self) -> Sequence[Work]:
        """Sessions that run, and those that left changed files. Raises what a launcher raises."""
        answers = await self.plugins.hooks.work(self._launcher)
        return [work for _, works in answers for work in works]

    async def keep_work(self, session: str) -> bool:
        """The session counts as active now; True if it runs and the launcher knew it."""
        return bool(await self.plugins.hooks.keep_work(self._launcher, session=session))

    async def export_work(self, session: str, into: Path) -> bool:
        """Writes the changed files: `hookspecs.Hooks.export_work`. True if the launcher knew the session."""
        return bool(await self.plugins.hooks.export_work(self._launcher, session=session, into=into))

    async def discard_work(self, session: str) -> bool:
        """Removes the files of an ended session; True if the launcher knew it."""
        return bool(await self.plugins.hooks.discard_work(self._launcher, session=session))

    async def health(self) -> Sequence[Health]:
        """Every plugin's line; one that raises is a failing line with its name."""

        def unwell(plugin: str, error: Exception) -> Health:
            return Health(plugin, ok=False, detail={"message": str(error)})

        lines = [line for _, line in await self.plugins.hooks.health(unwell)]
        if not any(line.service == _HUB for line in lines):
            lines.append(await self._launcher_health())
        return lines + self.plugins.health() + self.delivery.health()

    async def _launcher_health(self) -> Health:
        """The launcher under the hub's name, which BinderHub's tools look up also where no hub launches."""
        try:
            await self.servers.running()
        except PluginError:  # a launcher need not list its servers
            pass
        except Exception as error:
            return Health(_HUB, ok=False, detail={"message": str(error)})
        return Health(_HUB, ok=True)

    async def kept_log(self, id: str) -> KeptLog | None:
        """The log of a finished build, to anyone who knows its id."""
        return await asyncio.to_thread(self.services.store.log, id)


@asynccontextmanager
async def running(
    config: Config,
    log: Logger,
    *,
    public: bool = False,
    build_log: str = "",
    image: str = "",
    entry_points: EntryPoints | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Ringbinder]:
    """Loads and starts everything; on leaving ends sessions, builds, sinks and plugins, in that order.

    `public`: others than the people of this machine can reach the server, as they can where people log in.
    `build_log` is where clients find the log of a build, with ``{id}``; empty: nowhere. `image` is the full name of
    what is built, in place of one made of the prefix and the repository: it is built also if it is there.
    `entry_points` go to `Plugins`, `clock` to `Services` (tests give some of their own). Raises `ConfigError` or
    `PluginError` if something that the configuration needs cannot be loaded or started.
    """
    config = fitted(config, entry_points)
    settings = config.settings
    paths = evolve(Paths.of(settings.state_folder, settings.cache_folder), configuration=config.files)
    await asyncio.to_thread(tighten, paths, log)
    # A login is for others, also behind a hub on the loopback.
    public = public or config.binderhub.auth_enabled
    services = Services(log, paths, clock or SystemClock(), metrics=Metrics(settings.metrics_repos), public=public)
    try:
        app = await _assembled(config, services, build_log, image, entry_points)
        plugins = app.plugins
        async with watched_loop(log, services.metrics), plugins.running(after_sinks=app.delivery.running):
            if plugins.sinks:
                services.tasks.start(asyncio.to_thread(app.emitter.warm_up), "prepare the schemas")
            try:
                yield app
            finally:
                await app.close()
    finally:
        await services.close()


async def _assembled(
    config: Config, services: Services, build_log: str, image: str, entry_points: EntryPoints | None
) -> Ringbinder:
    """The application, each part made whole from what it needs; nothing is started."""
    settings, binderhub, log = config.settings, config.binderhub, services.log
    hooks = plugin_hooks(config, services)
    stages = Stages(hooks, settings, services.metrics, log)
    rates = EmitRates(log, services.metrics, config.events.plugin_rate)
    delivery = Delivery(stages.emit, services, rates, flush_timeout=config.events.flush_timeout)
    emitter = Events(
        log, services.metrics, rates, config.events,
        await asyncio.to_thread(hash_key, config.events, services.paths.state) if settings.sinks else b"",
        delivery.emit if settings.sinks else None,
    )  # fmt: skip
    reporter = StageEvents(emitter, stages.describe, config.events.launch_version)
    servers = Servers(stages, reporter)
    registry = ImageRegistry(hooks, settings.chosen["registry"])
    lent = Application(emitter, stages.fetch, servers, registry)
    plugins = Plugins(config, services, hooks, lent, entry_points=entry_points)
    plugins.load()
    for sink, its in plugins.delivery.items():
        delivery.add(sink, its)
    explainer = Explainer(hooks, log, services.metrics)
    builders = Builders.of(plugins, settings, binderhub.concurrent_build_limit, binderhub.image_prefix, image)
    builds = BuildStage(stages, services, explainer, reporter, builders, build_log)
    runs = Runs(
        builds.build, builds.explain, builds.keep,
        settings.log_max_events, settings.log_max_bytes, settings.cancel_unwatched_builds,
    )  # fmt: skip
    pipeline = Pipeline(stages, plugins, services, explainer, reporter, runs, builders)
    sessions = Sessions(
        pipeline.serve, servers.stop, settings.session_grace, settings.session_memory,
        most=settings.max_sessions, most_of_one=settings.max_sessions_per_client,
    )  # fmt: skip
    return Ringbinder(config, services, plugins, pipeline, runs, sessions, servers, emitter, delivery)
