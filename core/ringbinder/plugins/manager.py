"""Entry points -> plugin instances with their configuration and their life span."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Self, get_args

from attrs import evolve

from ..config.event_settings import DeliverySettings, delivery_problems
from ..config.loading import Config
from ..config.options import NoOptions
from ..config.specs import SPECS_SECTION, RepoOptions
from ..errors import ConfigError, PluginError, RingbinderError
from ..git import Git
from ..model import Health, ImageKind, Plan
from ..runtime.loops import error_summary
from ..runtime.services import Services
from ..runtime.suggest import did_you_mean
from ..secret import redact
from .bases import Builder, Launcher, Provider, Registry, Sink
from .call_loop import timeout_problems
from .caller import HookCaller
from .context import Application, Context
from .deprecation import check_api
from .discovery import GENERAL, GROUPS, NAME, EntryPoints, Found, Row, installed, select
from .fitting import FIT, check_fit, fitted
from .hookspecs import GUARDS, Ticket
from .image_registry import ImageRegistry
from .imports import import_plugin
from .lifespan import Life
from .validation import guards, hooks_in

__all__ = ["Found", "PlaceOfBuild", "Plugins", "import_plugin"]

PlaceOfBuild = Callable[[Plan, Ticket], AbstractAsyncContextManager[None]]

BASES: Final[Mapping[str, type]] = {
    "provider": Provider,
    "registry": Registry,
    "builder": Builder,
    "launcher": Launcher,
    "sink": Sink,
}
"""The base class of each kind, whose abstract methods a plugin of it must have."""
NO_GUARD: Final = f"a policy must have the hook {' or '.join(sorted(GUARDS))}"


def plugin_hooks(config: Config, services: Services) -> HookCaller:
    """The caller of hooks with the operator's time limits, which counts failures."""
    errors = services.metrics.plugin_errors
    return HookCaller(
        services.log,
        timeouts=config.settings.hook_timeouts,
        on_failure=lambda plugin, hook: errors.labels(plugin, hook).inc(),
    )


class Plugins:
    """All plugins of one application. `load` makes the active ones, `running` starts them.

    `found` has every installed plugin and every instance; `hooks` calls the active ones, under the names
    ``kind:name`` (``provider:gh``).
    """

    def __init__(
        self,
        config: Config,
        services: Services,
        hooks: HookCaller,
        application: Application,
        *,
        entry_points: EntryPoints | None = None,
    ) -> None:
        """`entry_points` gives those of a group; the default is what is installed."""
        self.hooks = hooks
        self._config = config
        self._services = services
        self._application = application
        self._selection = select(installed(entry_points), config.settings)
        self._delivery: dict[str, DeliverySettings] = {}
        self._repos: dict[str, RepoOptions] = {}
        self._git: dict[str, Git] = {}
        self._stopped: list[Found] = []

    @classmethod
    def apart(cls, config: Config, services: Services, *, entry_points: EntryPoints | None = None) -> Self:
        """Plugins without an application, to be looked at; they examine the registry that is chosen."""
        config = fitted(config, entry_points)
        hooks = plugin_hooks(config, services)
        registry = ImageRegistry(hooks, config.settings.chosen["registry"])
        application = evolve(Application.absent(services), registry=registry)
        return cls(config, services, hooks, application, entry_points=entry_points)

    @property
    def found(self) -> list[Found]:
        return [row.found for row in self._selection.rows]

    @property
    def registry(self) -> str:
        return self._config.settings.registry

    @property
    def builders(self) -> tuple[str, ...]:
        """In the order in which they are asked."""
        return self._config.settings.builders

    @property
    def launcher(self) -> str:
        return self._config.settings.launcher

    @property
    def sinks(self) -> tuple[str, ...]:
        """The active sinks, in the order of the configuration."""
        active = self._active("sink")
        return tuple(name for name in dict.fromkeys(self._config.settings.sinks) if name in active)

    @property
    def providers(self) -> tuple[str, ...]:
        """The active providers: the installed ones, then the configuration's instances in their order."""
        return tuple(self._active("provider"))

    def get(self, kind: str, name: str) -> Any:
        """The active plugin. Raises PluginError if there is none of that kind and name."""
        active = self._active(kind)
        if name not in active:
            hint = did_you_mean(name, active, f" Active: {', '.join(active) or 'none'}.")
            raise PluginError(f"{kind}:{name}", f"no {kind} of this name is active.{hint}")
        return active[name].instance

    @property
    def left_out(self) -> Mapping[str, str]:
        """The providers that are installed and not active, with the reason that is shown for a link to one.

        Where others can reach the server, the reason of a failure is in the log alone.
        """
        active = self._active("provider")
        reasons = {}
        for found in self.found:
            if found.kind == "provider" and found.name not in active:
                hidden = self._services.public and found.state == "failed"
                reason = "it failed, and the log of this service has the reason" if hidden else found.reason
                reasons[found.name] = " ".join(reason.split())
        return reasons

    def builds_at_once(self, builder: str) -> int | None:
        """How many builds a builder takes at a time; None: as many as there are."""
        # A stranger's builder need not come of the base class.
        own: int | None = getattr(self.get("builder", builder), "builds_at_once", None)
        return own or None

    def place_of_builds(self, builder: str) -> PlaceOfBuild | None:
        """How a place for a build is held; None: core counts the builds of `builder`."""
        plugin = self.get("builder", builder)
        if getattr(type(plugin), "place", Builder.place) is Builder.place:
            return None

        @asynccontextmanager
        async def place(plan: Plan, ticket: Ticket) -> AsyncIterator[None]:
            async with AsyncExitStack() as held:
                try:
                    await held.enter_async_context(plugin.place(plan, ticket))
                except RingbinderError:
                    raise
                except Exception as error:
                    raise PluginError(f"builder:{builder}", error_summary(error), "place") from error
                yield

        return place

    @property
    def image_kind(self) -> ImageKind:
        """The kind of image that all builders make, the registry holds and the launcher runs."""
        kind: ImageKind = self.get("launcher", self.launcher).runs
        return kind

    def spec_options(self, provider: str) -> RepoOptions:
        """What the operator says about the specs of an active provider."""
        return self._repos[provider]

    @property
    def delivery(self) -> Mapping[str, DeliverySettings]:
        """How each active sink gets its events."""
        return {name: self._delivery[name] for name in self.sinks}

    def load(self) -> None:
        """Imports, configures and makes what the configuration wants.

        Raises ConfigError or PluginError if something that it needs, or that admits or authenticates, fails or
        does not fit; what else fails is left out, with a warning.
        """
        selection = self._selection
        log = self._services.log
        for warning in selection.warnings:
            log.warning(warning)
        problems = [*selection.problems, *timeout_problems(self._config.settings.hook_timeouts)]
        problems += dict.fromkeys(self._guards_of_one_name())
        problems += [
            f"EventLog.delivery.{name}: no sink of this name stands in Ringbinder.sinks."
            + did_you_mean(name, self._config.settings.sinks)
            for name in self._config.events.delivery
            if name not in self._config.settings.sinks
        ]
        errors: list[RingbinderError] = []
        made = [row for row in selection.wanted() if self._works(self._make, row, errors)]
        # The one that is registered last is called first.
        for row in reversed(made):
            self._works(self._register, row, errors)
        problems += dict.fromkeys(self._misspelt_limits())
        problems += dict.fromkeys(self._absent_builders())
        _raise(problems, errors)
        check_fit(self._selection)

    @asynccontextmanager
    async def running(
        self, after_sinks: Callable[[], AbstractAsyncContextManager[None]] | None = None
    ) -> AsyncIterator[None]:
        """Starts the active plugins one after another, and stops them in reverse.

        General plugins start first, then policies, sinks, registry, builder, launcher, providers. `after_sinks`
        is entered after the sinks, hence left when only sinks and those before them still run. Raises
        PluginError or ConfigError if one does not start that the configuration needs, or that admits or
        authenticates; another is left out, with a warning.
        """
        limit = self._config.settings.lifespan_timeout or None
        lives: list[Life] = []
        try:
            for kind in GROUPS:
                for row in self._selection.wanted([kind]):
                    if row.found.state == "active":
                        await self._start(row, lives, limit)
                if kind == "sink" and after_sinks is not None:
                    lives.append(life := Life(after_sinks(), self._services.log))
                    await life.start(limit)
            yield
        finally:
            await _end(lives, limit)

    def inspect(self) -> list[Found]:
        """All that was found, with the hooks of the inactive ones too: those are imported, and not made.

        What an operator has disabled stays untouched.
        """
        return [_inspected(row) for row in self._selection.rows]

    def health(self) -> list[Health]:
        """A line for each plugin that admits or authenticates and does not work, and for others that may fail."""
        left_out = [row.found for row in self._selection.rows if row.may_fail and row.found.state == "failed"]
        return [
            *(Health(found.key, ok=False, detail={"message": found.reason}) for found in self._stopped),
            *(Health(found.key, ok=False, detail={"message": found.reason}, ignore_failure=True) for found in left_out),
        ]

    def _active(self, kind: str) -> dict[str, Found]:
        return {found.name: found for found in self.found if found.kind == kind and found.state == "active"}

    def _works(self, step: Callable[[Row], None], row: Row, errors: list[RingbinderError]) -> bool:
        """Whether `step` succeeds; a failure of what must work goes to `errors`."""
        try:
            step(row)
        except RingbinderError as error:
            failure = _advised(row, error)
            self._fail(row, failure)
            if row.must_work:
                errors.append(failure)
            return False
        return True

    def _guards_of_one_name(self) -> Iterator[str]:
        """What is wrong with general plugins of one name of which one keeps people out, none being loaded."""
        for row in self._selection.rows:
            if row.found.kind == "plugin" and row.found.state == "failed" and not row.guards:
                with suppress(PluginError):
                    row.guards = guards(import_plugin(row))
                if row.must_work:
                    yield row.found.reason

    def _misspelt_limits(self) -> Iterator[str]:
        """What the configuration says to those that keep people out, and no one has understood."""
        for row in self._selection.wanted():
            if row.guards and row.must_work and row.found.state == "active":
                yield from self._config.sections.unused_near(row.found.sections, self._idle_sections)

    def _absent_builders(self) -> Iterator[str]:
        """What is wrong with the builders that `spec_config` names."""
        for entry in (entry for options in self._repos.values() for entry in options.spec_config):
            for name in entry.builders:
                if name not in self.builders:
                    hint = did_you_mean(name, self.builders, " Add it there: it is asked for other repositories last.")
                    yield (
                        f'spec_config: what has the pattern "{entry.pattern}" is to be built by "{name}", which does '
                        f"not stand in Ringbinder.builder.{hint}"
                    )

    def _idle_sections(self) -> set[str]:
        return {section for found in self.inspect() for section in found.sections}

    def _register(self, row: Row) -> None:
        found = row.found
        defaults = {"fetch": self._git[found.name].fetch} if found.kind == "provider" else {}
        self.hooks.register(found.instance, found.key, general=found.kind in GENERAL, defaults=defaults)
        if found.kind == "policy" and GUARDS.isdisjoint(found.hooks):
            self.hooks.unregister(found.key)
            raise PluginError(found.key, f"{NO_GUARD} ({found.origin})")
        if found.kind == "provider":
            try:
                self.hooks.describe(found.key)
            except Exception as error:
                self.hooks.unregister(found.key)
                if isinstance(error, PluginError):
                    raise
                raise PluginError(
                    found.key, f"it cannot describe itself: {error_summary(error)}", "describe"
                ) from error

    def _make(self, row: Row) -> None:
        found = row.found
        check_name(found)
        plugin = import_plugin(row)
        row.guards |= guards(plugin)
        check_api(plugin, found.key)
        log = self._services.log.bind(plugin=found.key)
        try:
            found.sections = _sections(plugin)
            options: type[Any] = getattr(plugin, "Config", NoOptions)
            beside = RepoOptions if found.kind == "provider" else None
            git = Git(found.name, self._services)
            config: Any = self._config.sections.fill(
                options, found.sections, extra=row.extra, where=row.where, beside=beside
            )
            if found.kind == "provider":
                git.options = self._repos[found.name] = self._config.sections.fill(
                    RepoOptions,
                    tuple(dict.fromkeys((SPECS_SECTION, *found.sections))),
                    extra=row.extra,
                    where=row.where,
                    beside=options,
                )
                self._git[found.name] = git
            if found.kind == "sink":
                self._delivery[found.name] = self._config.sections.fill(
                    DeliverySettings,
                    (),
                    extra={**own_delivery(plugin, found), **self._config.events.delivery.get(found.name, {})},
                    where=f"EventLog.delivery.{found.name}",
                )
            context = Context(found.name, self._services, log, self._application, found.kind, git, found.version)
            found.instance = plugin(config, context)
        except RingbinderError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(found.key, f"it cannot be made ({found.origin}): {error_summary(error)}") from error
        row.guards |= guards(found.instance)
        found.hooks = hooks_in(found.instance)
        _check_kind(found)
        found.state = "active"

    def _fail(self, row: Row, error: RingbinderError) -> None:
        found = row.found
        found.state, found.reason, found.instance = "failed", redact(str(error)), None
        if not row.must_work:
            self._services.log.warning(
                "a plugin is left out", plugin=found.key, distribution=found.origin, reason=found.reason,
                exc_info=error.__cause__,
            )  # fmt: skip

    async def _start(self, row: Row, lives: list[Life], limit: float | None) -> None:
        found = row.found
        try:
            if (span := self.hooks.lifespan(found.key)) is None:
                return
            log = self._services.log.bind(plugin=found.key)
            life = Life(span, log, partial(self._ended, row), found.key)
            await life.start(limit)
            lives.append(life)
        except Exception as error:
            failure = _advised(row, error if isinstance(error, RingbinderError) else _not_started(found, error))
            self.hooks.unregister(found.key)
            self._fail(row, failure)
            if row.must_work:
                raise failure from failure.__cause__

    def _ended(self, row: Row) -> None:
        """A life span has ended while all others go on: what kept people out must not let them in now."""
        if not row.guards:
            return
        row.found.reason = "it has stopped working (its lifespan has ended); the log tells why"
        if row.may_fail:
            self.hooks.unregister(row.found.key)
            row.found.state, row.found.instance = "failed", None
        else:
            self.hooks.refuse(row.found.key)
            self._stopped.append(row.found)


async def _end(lives: Sequence[Life], limit: float | None) -> None:
    cancelled: asyncio.CancelledError | None = None
    for life in reversed(lives):
        try:
            await life.end(limit)
        except asyncio.CancelledError as error:
            cancelled = error  # an end in a hurry: the rest still stop
    if cancelled is not None:
        raise cancelled


def _not_started(found: Found, error: Exception) -> PluginError:
    failure = PluginError(found.key, f"it did not start ({found.origin}): {error_summary(error)}", "lifespan")
    failure.__cause__ = error
    return failure


def _advised(row: Row, error: RingbinderError) -> RingbinderError:
    """`error`, with what to do about a plugin without which nothing starts though no option names it."""
    if row.needed or not row.must_work:
        return error
    advice = (
        f"plugin {row.found.key!r} of {row.found.origin} admits or authenticates, and no one is let in without it: "
        f"set it right, turn it off with Ringbinder.disabled_plugins: [{row.found.name}], or have it left out while "
        f"it fails with Ringbinder.may_fail: [{row.found.name}]"
    )
    if isinstance(error, ConfigError):
        advised: RingbinderError = ConfigError([*error.problems, advice])
        advised.__cause__ = error.__cause__
        return advised
    error.args = (f"{error}; {advice}",)
    return error


def own_delivery(plugin: Any, found: Found) -> Mapping[str, Any]:
    """What a sink's class says about its delivery. Raises PluginError if that is wrong: it is its author's."""
    own: Mapping[str, Any] = getattr(plugin, "delivery", {})
    if wrong := delivery_problems(own):
        raise PluginError(found.key, f"its class attribute 'delivery' is wrong ({found.origin}): {'; '.join(wrong)}")
    return own


def check_name(found: Found) -> None:
    """Raises PluginError if a plugin's name can stand in no link and no option."""
    if not NAME.fullmatch(found.name):
        problem = f"{found.name!r} is no name of an entry point here: letters, digits, dots, dashes and underscores"
        raise PluginError(found.key, f"{problem} ({found.origin})")


def _sections(plugin: Any) -> tuple[str, ...]:
    return tuple(getattr(plugin, "sections", ()))


def _inspected(row: Row) -> Found:
    found = evolve(row.found)
    if found.state in ("available", "failed"):
        try:
            plugin = import_plugin(row)
        except PluginError as error:
            found.state, found.reason = "failed", found.reason or redact(str(error))
        else:
            found.hooks, found.sections = hooks_in(plugin), _sections(plugin)
    return found


def _check_kind(found: Found) -> None:
    """Raises PluginError if a plugin lacks what makes it one of its kind."""
    base = BASES.get(found.kind)
    needed: frozenset[str] = getattr(base, "__abstractmethods__", frozenset())
    if missing := sorted(needed - set(found.hooks)):
        raise PluginError(found.key, f"a {found.kind} must have the hooks {', '.join(missing)} ({found.origin})")
    attribute = FIT.get(found.kind)
    kinds = get_args(ImageKind)
    if attribute and getattr(found.instance, attribute, None) not in kinds:
        raise PluginError(
            found.key, f"its class attribute {attribute!r} must be one of {', '.join(kinds)} ({found.origin})"
        )


def _raise(problems: Sequence[str], errors: Sequence[RingbinderError]) -> None:
    """One ConfigError for all, unless there is only one error; its cause holds them with their tracebacks."""
    if not problems and not errors:
        return
    if not problems and len(errors) == 1:
        raise errors[0]
    message = list(problems)
    for error in errors:
        message += error.problems if isinstance(error, ConfigError) else [str(error)]
    raise ConfigError(message) from (ExceptionGroup("plugins failed", errors) if errors else None)
