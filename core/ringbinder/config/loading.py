"""YAML, environment and ``--set`` -> typed configuration; every problem at once, never a secret's value."""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin

import attrs
from attrs import define, field, frozen
from cattrs.errors import BaseValidationError

from ..errors import ConfigError
from ..runtime.suggest import did_you_mean
from ..secret import Secret
from . import binderhub as compat
from .conversion import Where, problems, spelled, structure
from .event_settings import EventLogSettings
from .settings import BinderHubSettings, RingbinderSettings
from .sources import Origin, Tree, parse_text

T = TypeVar("T")


@frozen
class RegistryCredentials:
    """The Helm chart's `registry:` block: how images are pushed. An empty `url` means Docker Hub."""

    url: str = ""
    username: str = ""
    password: Secret = field(factory=lambda: Secret(""))


@define(eq=False, repr=False)
class Config:
    """The configuration as a whole; made by `load`.

    Attributes:
        settings: section `Ringbinder`, with the chosen builder, registry and launcher.
        files: what it was read from, beside the environment.
        binderhub: section `BinderHub`.
        events: section `EventLog`.
        choice: what was chosen, and why.
        registry_credentials: the Helm chart's `registry:` block, if there is one.
    """

    _tree: Tree
    _environ: Mapping[str, str]
    choice: compat.Choice
    files: tuple[Path, ...] = ()
    settings: RingbinderSettings = field(init=False, factory=RingbinderSettings)
    binderhub: BinderHubSettings = field(init=False, factory=BinderHubSettings)
    events: EventLogSettings = field(init=False, factory=EventLogSettings)
    registry_credentials: RegistryCredentials | None = field(init=False, default=None)
    _registry_defaults: Mapping[str, Any] = field(init=False, factory=dict)
    _asked: dict[str, set[str]] = field(init=False, factory=dict)
    _judged: set[tuple[str, str]] = field(init=False, factory=set)

    def fill(
        self,
        cls: type[T],
        sections: Sequence[str],
        *,
        extra: Mapping[str, Any] | None = None,
        where: str = "",
        beside: type[Any] | None = None,
    ) -> T:
        """An instance of the attrs class `cls` from `sections`, later ones over earlier ones, then `extra`.

        An option that is given in none of them is taken from the option of another section or the environment
        variable that it names (see `option`), else it has its default. The Helm chart's `registry:` block
        stands behind section `DockerRegistry`. `where` says in error messages where `extra` stands
        (``Ringbinder.instances.lab``); with it, options that are not `inherited` are taken from `extra`
        alone.
        An option that `cls` does not have is an error in the last section and in `extra`; in the others it
        may be meant for another class, so `unused` judges it when all have been filled. The options of
        `beside`, another attrs class, may stand in any. Raises ConfigError with every problem.
        """
        attrs.resolve_types(cls)  # type: ignore[type-var]
        fields: dict[str, attrs.Attribute[Any]] = {a.alias: a for a in attrs.fields(cls) if a.init}  # type: ignore[arg-type]
        others = {a.alias for a in attrs.fields(beside)} if beside else set()
        base = tuple(where.split(".")) if where else ()
        withheld = {name for name, a in fields.items() if base and not a.metadata.get("inherited", True)}
        given: list[tuple[Where, Mapping[str, Any]]] = []
        for section in sections:
            self._asked.setdefault(section, set()).update(fields)
            if section == compat.REGISTRY_SECTION:
                given.append((("registry",), self._registry_defaults))
            given.append(((section,), self._tree.sections.get(section, {})))
        given.append((base, extra or {}))

        told: list[str] = []
        stands: dict[str, Where] = {}
        values: dict[str, Any] = {}
        for place, options in given:
            for name, value in options.items():
                if place != base and name in withheld:
                    continue
                if name in fields:
                    stands[name], values[name] = (*place, name), value
                elif name not in others and place in (base, (sections[-1],) if sections else base):
                    told += self._unknown((*place, name), {*fields, *others})
        for name, attribute in fields.items():
            if name not in withheld:
                self._from_elsewhere(name, attribute, stands, values)
            self._from_text(name, attribute, stands, values)
        try:
            made = cast(T, structure(cls, values))
        except BaseValidationError as error:
            own = base or tuple(sections[-1:])
            told += [
                self._told(_placed(problem.where, stands, own), problem.text) for problem in problems(error)
            ]
        if told:
            raise ConfigError(told)
        return made

    def _from_elsewhere(
        self, name: str, attribute: attrs.Attribute[Any], stands: dict[str, Where], values: dict[str, Any]
    ) -> None:
        """Takes an option that is not given from another section's that means the same, or its variable."""
        section, _, option = (attribute.metadata.get("also") or "").partition(".")
        content = self._tree.sections.get(section, {})
        if name not in stands and option in content:
            stands[name], values[name] = (section, option), content[option]
            self._asked.setdefault(section, set()).add(option)
        variable = attribute.metadata.get("env")
        if name not in stands and variable and (text := self._environ.get(variable)):
            stands[name] = (f"${variable}",)
            self._tree.origins[stands[name]] = Origin("environment", text)
            values[name], _ = parse_text(text)

    def _from_text(
        self, name: str, attribute: attrs.Attribute[Any], stands: dict[str, Where], values: dict[str, Any]
    ) -> None:
        """Applies what is special about the environment and the command line, where everything is text.

        Where text is wanted, the value is the text as it is, also if YAML would see a number or a comment
        in it.
        """
        origin = self._tree.origins.get(stands.get(name, ()))
        if origin and origin.text is not None and _takes_text(attribute.type):
            quoted = isinstance(values[name], str) and origin.text.lstrip()[:1] in ("'", '"')
            values[name] = values[name] if quoted else origin.text

    @property
    def sandboxed(self) -> bool:
        """Whether code of repositories runs in a sandbox or not at all."""
        return compat.sandboxed(self._tree.sections, self.choice)

    @property
    def risks(self) -> tuple[str, ...]:
        """What is no error, and leaves open what the configuration seems to close; each start repeats it."""
        risk = compat.half_sandboxed(self._tree.sections, self.choice)
        return (*([risk] if risk else []), *self._unended_hosts())

    def _unended_hosts(self) -> Iterator[str]:
        from .specs import unended_host

        for section, options in self._tree.sections.items():
            for option in ("allowed_specs", "high_quota_specs"):
                patterns = options.get(option)
                for pattern in patterns if isinstance(patterns, list) else ():
                    with suppress(ValueError, TypeError):  # `fill` reports these
                        if host := unended_host(pattern):
                            yield self._told(
                                (section, option),
                                f'"{pattern}" also matches hosts such as {host}.evil.example. End the host with %2F.',
                            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd but no error: hosts that differ, and BinderHub's options that nothing has asked for.

        Complete when all plugins have been filled.
        """
        url = self.registry_credentials.url if self.registry_credentials else ""
        found = list(self.risks)
        found += compat.disagreements(self._tree.sections, url)
        registry, sections = self._tree.registry, self._tree.sections
        stranded = compat.stranded_credentials(registry, sections)
        lone = compat.lone_credentials(registry, sections, self.choice)
        found += [text for text in (stranded, lone) if text]
        for section, option in self._idle():
            if compat.known(section, option):
                found.append(self._told((section, option), "known, but not used by this version"))
        return tuple(found)

    def unused(self, idle: Collection[str] = ()) -> tuple[str, ...]:
        """The sections and options that nothing has asked for and that BinderHub does not have either.

        Each with where it stands and a did-you-mean. To be called when all plugins have been filled; `idle`
        names the sections of plugins that are installed and not active: nobody has looked at what they say.
        """
        return tuple(text for _, text in self._unused(idle))

    def unused_near(self, own: Collection[str], idle: Callable[[], Collection[str]]) -> tuple[str, ...]:
        """Those of `unused` that stand in one of the sections `own`, or in one that is nearly called so."""

        def near(section: str) -> bool:
            return section in own or bool(did_you_mean(section, own))

        if not any(near(section) for section, _ in self._unused(())):
            return ()
        return tuple(text for section, text in self._unused(idle()) if near(section))

    def _unused(self, idle: Collection[str]) -> Iterator[tuple[str, str]]:
        sections = {*self._asked, *compat.OPTIONS, *idle}
        for section in self._tree.sections:
            if section not in sections:
                yield section, self._told((section,), "unknown section." + did_you_mean(section, sections))
        for section, option in self._idle():
            judged = (section, option) in self._judged or compat.known(section, option)
            if section in sections and not judged and not (section in idle and section not in self._asked):
                names = {*self._asked.get(section, ()), *compat.OPTIONS.get(section, ())}
                yield section, self._told((section, option), "unknown option." + did_you_mean(option, names))

    def _idle(self) -> Iterator[tuple[str, str]]:
        for section, content in self._tree.sections.items():
            for option in content:
                if option not in self._asked.get(section, ()):
                    yield section, option

    def _unknown(self, where: Where, fields: Collection[str]) -> Iterator[str]:
        section, name = str(where[0]), str(where[-1])
        if len(where) != 2 or not compat.known(section, name):
            self._judged.add((section, name))
            hint = did_you_mean(
                name, fields, f" Known: {', '.join(sorted(fields))}." if len(fields) < 20 else ""
            )
            yield self._told(where, f"unknown option.{hint}")

    def _told(self, where: Where, text: str) -> str:
        origin = self._tree.origin(where)
        return f"{origin.place}: {spelled(where)}: {text}" if origin else f"{spelled(where)}: {text}"


def _placed(where: Where, stands: Mapping[str, Where], own: Where) -> Where:
    """Where in the files a problem of an options class stands; `own` is where its options belong."""
    if not where:
        return own
    return (*stands.get(str(where[0]), (*own, where[0])), *where[1:])


def _takes_text(kind: Any) -> bool:
    """Whether an option is plain text or a secret, or nothing else but left out."""
    if get_origin(kind) in (Union, types.UnionType):
        return all(inner is type(None) or _takes_text(inner) for inner in get_args(kind))
    return kind in (str, Secret)


def _federation_problem(config: Config) -> str:
    """Why the members of the federation would refuse each other's launch pages; empty if they do not."""
    if not config.settings.federation_members:
        return ""
    if config.settings.access_token is not None or config.binderhub.auth_enabled:
        # A browser sends neither along when it follows a redirect to another origin.
        option = "BinderHub.auth_enabled" if config.binderhub.auth_enabled else "Ringbinder.access_token"
        return f"a launch that is redirected to another member has no login and no token: leave {option} out"
    if config.binderhub.build_token_secret is None:
        return "needs BinderHub.build_token_secret, the same on all members, which check each other's tokens"
    return ""


def load(
    files: Sequence[Path] = (), *, environ: Mapping[str, str] | None = None, sets: Sequence[str] = ()
) -> Config:
    """Reads `files`, then the environment (default: this process's), then `sets`; the later wins.

    Raises ConfigError with all problems of the files' form and of core's own sections; a plugin's section is
    judged when the plugin is loaded.
    """
    environ = os.environ if environ is None else environ
    tree = Tree()
    for file in files:
        tree.add_file(Path(file))
    tree.add_environ(environ)
    for text in sets:
        tree.add_set(text)
    tree.finish()
    url = tree.registry.get("url")
    choice = compat.choose(tree.sections, tree.chart, url if isinstance(url, str) else "")
    config = Config(tree, dict(environ), choice, tuple(map(Path, files)))
    config._registry_defaults = compat.registry_defaults(tree.registry, tree.sections)
    found = list(tree.problems)
    for (section, option), why in compat.GONE.items():
        if option in tree.sections.get(section, {}):
            found.append(config._told((section, option), f"cannot be used: {why}"))
    try:
        settings = config.fill(RingbinderSettings, ["Ringbinder"])
        config.settings = attrs.evolve(
            settings, builder=choice.builder, registry=choice.registry, launcher=choice.launcher
        )
    except ConfigError as error:
        found += error.problems
    try:
        binderhub = config.fill(BinderHubSettings, ["BinderHub"])
        if binderhub.auth_enabled:
            told = compat.of_hubs_service(environ, tree.sections.get("BinderHub", {}))
            binderhub = attrs.evolve(binderhub, **told)
        config.binderhub = binderhub
    except ConfigError as error:
        found += error.problems
    try:
        config.events = config.fill(EventLogSettings, ["EventLog"])
    except ConfigError as error:
        found += error.problems
    if not found and (why := _federation_problem(config)):
        found.append(config._told(("Ringbinder", "federation_members"), why))
    if config.events.handlers_maker and "logging" not in config.settings.sinks:
        config.settings = attrs.evolve(config.settings, sinks=(*config.settings.sinks, "logging"))
    if "registry" in tree.chart:
        try:
            config.registry_credentials = structure(RegistryCredentials, tree.registry)
        except BaseValidationError as error:
            found += [config._told(("registry", *problem.where), problem.text) for problem in problems(error)]
    if found:
        raise ConfigError(found)
    return config
