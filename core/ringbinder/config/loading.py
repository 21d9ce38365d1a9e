"""YAML, environment and ``--set`` -> typed configuration; every problem at once, never a secret's value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
from attrs import field, frozen
from cattrs.errors import BaseValidationError

from ..errors import ConfigError
from ..secret import Secret
from . import binderhub as compat
from .conversion import problems, structure
from .event_settings import EventLogSettings
from .sections import Sections
from .settings import BinderHubSettings, RingbinderSettings
from .sources import Tree

T = TypeVar("T")


@frozen
class RegistryCredentials:
    """The Helm chart's `registry:` block: how images are pushed. An empty `url` means Docker Hub."""

    url: str = ""
    username: str = ""
    password: Secret = field(factory=lambda: Secret(""))


@frozen(eq=False, repr=False)
class Config:
    """The configuration as a whole; made by `load`."""

    sections: Sections
    choice: compat.Choice
    """What was chosen, and why."""
    files: tuple[Path, ...]
    """What it was read from, beside the environment."""
    settings: RingbinderSettings
    """Section `Ringbinder`, with the chosen builder, registry and launcher."""
    binderhub: BinderHubSettings
    """Section `BinderHub`."""
    events: EventLogSettings
    """Section `EventLog`."""
    registry_credentials: RegistryCredentials | None
    """The Helm chart's `registry:` block, if there is one."""

    def for_images(self, kind: str) -> Config:
        """The same, with registry and launcher for images of that kind, as far as section `Ringbinder` names none."""
        choice = _choice(self.sections.tree, kind)
        settings = attrs.evolve(self.settings, registry=choice.registry, launcher=choice.launcher)
        return attrs.evolve(self, choice=choice, settings=settings)

    @property
    def sandboxed(self) -> bool:
        """Whether code of repositories runs in a sandbox or not at all."""
        return compat.sandboxed(self.sections.tree.sections, self.choice)

    @property
    def risks(self) -> tuple[str, ...]:
        """What is no error, and leaves open what the configuration seems to close; each start repeats it."""
        risk = compat.half_sandboxed(self.sections.tree.sections, self.choice)
        return (*([risk] if risk else []), *self.sections.unended_hosts())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd but no error: hosts that differ, and BinderHub's options that nothing has asked for.

        Complete when all plugins have been filled.
        """
        url = self.registry_credentials.url if self.registry_credentials else ""
        found = list(self.risks)
        found += compat.disagreements(self.sections.tree.sections, url)
        registry, sections = self.sections.tree.registry, self.sections.tree.sections
        stranded = compat.stranded_credentials(registry, sections)
        lone = compat.lone_credentials(registry, sections, self.choice)
        found += [text for text in (stranded, lone) if text]
        for section, option in self.sections.idle():
            if compat.known(section, option):
                found.append(self.sections.located((section, option), "known, but not used by this version"))
        return tuple(found)


def _federation_problem(settings: RingbinderSettings, binderhub: BinderHubSettings) -> str:
    """Why the members of the federation would refuse each other's launch pages; empty if they do not."""
    if not settings.federation_members:
        return ""
    if settings.access_token is not None or binderhub.auth_enabled:
        # A browser sends neither along when it follows a redirect to another origin.
        option = "BinderHub.auth_enabled" if binderhub.auth_enabled else "Ringbinder.access_token"
        return f"a launch that is redirected to another member has no login and no token: leave {option} out"
    if binderhub.build_token_secret is None:
        return "needs BinderHub.build_token_secret, the same on all members, which check each other's tokens"
    return ""


def _choice(tree: Tree, makes: str = "") -> compat.Choice:
    url = tree.registry.get("url")
    return compat.choose(tree.sections, tree.chart, url if isinstance(url, str) else "", makes)


def load(files: Sequence[Path] = (), *, environ: Mapping[str, str] | None = None, sets: Sequence[str] = ()) -> Config:
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
    choice = _choice(tree)
    sections, found = Sections(tree, dict(environ)), list(tree.problems)
    for (section, option), why in compat.GONE.items():
        if option in tree.sections.get(section, {}):
            found.append(sections.located((section, option), f"cannot be used: {why}"))

    def filled(cls: type[T], section: str) -> T:
        try:
            return sections.fill(cls, [section])
        except ConfigError as error:
            found.extend(error.problems)
            return cls()

    settings, binderhub = filled(RingbinderSettings, "Ringbinder"), filled(BinderHubSettings, "BinderHub")
    events, credentials = filled(EventLogSettings, "EventLog"), None
    if binderhub.auth_enabled:
        of_hub = compat.of_hubs_service(environ, tree.sections.get("BinderHub", {}))
        binderhub = attrs.evolve(binderhub, **of_hub)
    if not found and (why := _federation_problem(settings, binderhub)):
        found.append(sections.located(("Ringbinder", "federation_members"), why))
    if "registry" in tree.chart:
        try:
            credentials = structure(RegistryCredentials, tree.registry)
        except BaseValidationError as error:
            found += [sections.located(("registry", *problem.where), problem.text) for problem in problems(error)]
    if found:
        raise ConfigError(found)
    handled = events.handlers_maker and "logging" not in settings.sinks
    settings = attrs.evolve(
        settings,
        builder=choice.builder,
        registry=choice.registry,
        launcher=choice.launcher,
        sinks=(*settings.sinks, "logging") if handled else settings.sinks,
    )
    return Config(sections, choice, tuple(map(Path, files)), settings, binderhub, events, credentials)
