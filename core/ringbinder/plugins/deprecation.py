"""What plugin authors can rely on: the number of the plugin API, and how something public goes away.

The policy: `docs/explanation/promise.md`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from attrs import frozen

from ..errors import PluginError

PLUGIN_API: Final = 1
"""Goes up when a plugin that was written for the number before would no longer work."""

OLDEST_PLUGIN_API: Final = 1
"""Plugins that were written for a number from here on work."""


class PluginDeprecationWarning(FutureWarning):
    """A plugin uses something that will go away: names the plugin, its replacement, and the last version."""


@frozen
class Deprecated:
    """Something public that goes away: what to use instead, since when, and in which version it is gone."""

    instead: str
    since: str
    gone_in: str


HOOKS: Final[dict[str, Deprecated]] = {}
"""Hooks that go away, by name."""

ARGUMENTS: Final[dict[tuple[str, str], Deprecated]] = {}
"""Arguments of hooks that go away: (hook, argument)."""

NAMES: Final[dict[str, tuple[Deprecated, Any]]] = {}
"""Names of the module `ringbinder` that go away, with what they mean until then."""

_importing: ContextVar[str] = ContextVar("importing", default="")


@contextmanager
def importing(plugin: str) -> Iterator[None]:
    """While entered, what is used of the module `ringbinder` is put down to this plugin (``kind:name``)."""
    token = _importing.set(plugin)
    try:
        yield
    finally:
        _importing.reset(token)


def check_api(plugin: object, name: str) -> None:
    """Raises PluginError if a plugin was written for an API that this version does not have."""
    wanted = getattr(plugin, "plugin_api", PLUGIN_API)
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise PluginError(name, f"its attribute plugin_api is a number, such as {PLUGIN_API}, not {wanted!r}")
    if wanted > PLUGIN_API:
        raise PluginError(
            name, f"it was written for plugin API {wanted}, this Ringbinder has {PLUGIN_API}; upgrade ringbinder"
        )
    if wanted < OLDEST_PLUGIN_API:
        raise PluginError(
            name,
            f"it was written for plugin API {wanted}, and this Ringbinder works with {OLDEST_PLUGIN_API} to "
            f"{PLUGIN_API}; upgrade the plugin",
        )


def warn_of_hook(name: str, hook: str, arguments: Mapping[str, Any]) -> None:
    """Warns if plugin `name` has a hook, or takes an argument of it, that goes away."""
    if found := HOOKS.get(hook):
        _warn(name, f"the hook {hook!r}", found)
    for argument in arguments:
        if found := ARGUMENTS.get((hook, argument)):
            _warn(name, f"the argument {argument!r} of hook {hook!r}", found)


def deprecated_name(name: str) -> Any:
    """What a name of the module `ringbinder` means that goes away, with a warning. Raises AttributeError."""
    if name not in NAMES:
        raise AttributeError(f"module 'ringbinder' has no attribute {name!r}")
    found, meaning = NAMES[name]
    _warn(_importing.get() or "unknown", f"ringbinder.{name}", found)
    return meaning


def _warn(plugin: str, what: str, found: Deprecated) -> None:
    text = (
        f"plugin {plugin!r} uses {what}, which is deprecated since {found.since} and gone in {found.gone_in}; "
        f"use {found.instead} instead"
    )
    warnings.warn(PluginDeprecationWarning(text), stacklevel=4)
