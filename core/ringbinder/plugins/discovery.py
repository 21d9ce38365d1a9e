"""Which installed plugins there are, and which of them the configuration wants; nothing is imported here."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import Distribution, EntryPoint
from typing import Any, Final, Literal

from attrs import define, evolve

from ..config.settings import RingbinderSettings
from ..runtime.suggest import closest, did_you_mean

GROUPS: Final[Mapping[str, str]] = {
    "plugin": "ringbinder.plugins",
    "policy": "ringbinder.policies",
    "sink": "ringbinder.sinks",
    "registry": "ringbinder.registries",
    "builder": "ringbinder.builders",
    "launcher": "ringbinder.launchers",
    "provider": "ringbinder.providers",
}
"""Entry-point group of each kind, in the order in which plugins are started and asked."""

OWN: Final = frozenset({"ringbinder", "ringbinder-core"})
"""The distributions that Ringbinder itself is made of."""

OPT_IN: Final = frozenset({"fake"})
"""Test doubles: off unless named."""

GENERAL: Final = frozenset({"plugin", "policy"})
"""The kinds that are asked at every stage, besides the one plugin that is chosen for it."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What a plugin, or an instance of one, may be called."""

_ALWAYS_ON: Final = ("plugin", "policy", "provider")
_SEPARATORS: Final = re.compile(r"[-_.]+")

State = Literal["active", "available", "disabled", "failed"]
EntryPoints = Callable[[str], Iterable[EntryPoint]]


@define(eq=False)
class Found:
    """One plugin that is installed, or one instance of it. `reason` says why it is not active."""

    name: str
    kind: str
    distribution: str
    version: str
    target: str
    """``module:attribute``"""
    state: State = "available"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    """The configuration sections that fill it."""
    instance: Any = None

    @property
    def key(self) -> str:
        """Its name among the plugins of all kinds: ``provider:gh``."""
        return f"{self.kind}:{self.name}"

    @property
    def ours(self) -> bool:
        """Whether it ships with Ringbinder."""
        return _normal(self.distribution) in OWN

    @property
    def origin(self) -> str:
        """The distribution that it comes from, with its version."""
        return f"{self.distribution} {self.version}".strip() or "an unknown distribution"


@define(eq=False)
class Row:
    """A found plugin on its way to being loaded."""

    found: Found
    entry_point: EntryPoint
    extra: Mapping[str, Any] | None = None
    """An instance's own settings."""
    where: str = ""
    """Where those stand."""
    needed: str = ""
    """The option that names it, if one does: its failure is then an error."""
    guards: bool = False
    """It admits or authenticates, as far as is known: its failure must not let people in."""
    may_fail: bool = False
    """`Ringbinder.may_fail` names it."""
    wanted: bool = False

    @property
    def must_work(self) -> bool:
        """Nothing starts without it."""
        return not self.may_fail and (bool(self.needed) or self.guards)

    def rule_out(self, state: State, reason: str) -> None:
        self.found.state, self.found.reason = state, reason


def installed(entry_points: EntryPoints | None = None) -> list[Row]:
    """The plugins that are installed, by kind: Ringbinder's own first, then by name of their distribution."""
    of_group = entry_points or _of_environment()
    # A distribution's metadata is parsed with each look at it: once will do for all of its plugins.
    origin = cache(_origin)
    rows: list[Row] = []
    for kind, group in GROUPS.items():
        # The order in which distributions are found is that of a folder's listing: any.
        rows += sorted((_row(kind, point, *origin(point.dist)) for point in of_group(group)), key=_rank)
    return rows


def _of_environment() -> EntryPoints:
    every = importlib.metadata.entry_points()

    def of_group(group: str) -> Iterator[EntryPoint]:
        # A policy in a group whose name is mistyped must not be silently missing: it fails when it is imported.
        names = {group, *filter(_means_policies, every.groups)} if group == GROUPS["policy"] else {group}
        for name in sorted(names):
            yield from every.select(group=name)

    return of_group


def _means_policies(group: str) -> bool:
    """Whether `group` is none of ours, and its name is closest to that of policies."""
    prefix, _, kind = _SEPARATORS.sub(".", group.lower()).partition(".")
    kinds = [known.partition(".")[2] for known in GROUPS.values()]
    return group not in GROUPS.values() and prefix == "ringbinder" and closest(kind, kinds) == "policies"


def _rank(row: Row) -> tuple[bool, str]:
    return not row.found.ours, _normal(row.found.distribution)


def _origin(distribution: Distribution | None) -> tuple[str, str]:
    """Return name and version."""
    return (distribution.name or "", distribution.version or "") if distribution else ("", "")


def _row(kind: str, point: EntryPoint, distribution: str, version: str) -> Row:
    found = Found(point.name, kind, distribution, version, point.value)
    return Row(found, point, guards=kind == "policy")


@define(eq=False)
class Selection:
    """What the configuration wants of `rows`, what is wrong with it, and what is odd but no error."""

    rows: list[Row]
    settings: RingbinderSettings
    problems: list[str]
    warnings: list[str]

    def wanted(self, kinds: Iterable[str] = GROUPS) -> Iterator[Row]:
        """What is to be loaded, in order of the kinds."""
        for kind in kinds:
            yield from (row for row in self.rows if row.wanted and row.found.kind == kind)


def select(rows: Sequence[Row], settings: RingbinderSettings) -> Selection:
    """Marks in `rows`, to which the instances are added, what is wanted."""
    selection = Selection(list(rows), settings, [], [])
    _disable(selection)
    _add_instances(selection)
    _let_fail(selection)
    _rule_out_duplicates(selection)
    for kind, names in (
        ("registry", [settings.registry]), ("builder", settings.builders), ("launcher", [settings.launcher]),
    ):  # fmt: skip
        for name in names:
            _need(selection, (kind,), name, f"Ringbinder.{kind}")
    for name in settings.sinks:
        _need(selection, ("sink",), name, "Ringbinder.sinks")
    for name in settings.extra_plugins:
        _need(selection, _ALWAYS_ON, name, "Ringbinder.extra_plugins")
    for row in selection.rows:
        found = row.found
        if found.kind in _ALWAYS_ON and found.state == "available" and not row.wanted:
            row.wanted = row.guards or found.name not in OPT_IN or found.name in settings.builders
            found.reason = "" if row.wanted else "off unless named"
    return selection


def _disable(selection: Selection) -> None:
    for entry in selection.settings.disabled_plugins:
        matching = [row for row in selection.rows if _matches(entry, row.found)]
        for row in matching:
            row.rule_out("disabled", f"{entry} stands in Ringbinder.disabled_plugins")
        if not matching and entry not in selection.settings.instances:
            hint = did_you_mean(entry, {row.found.name for row in selection.rows})
            selection.warnings.append(f'Ringbinder.disabled_plugins: no plugin "{entry}" is installed.{hint}')
        policies = [row.found for row in matching if row.found.kind == "policy"]
        if policies and len(matching) > 1:
            origin = policies[0].distribution or "distribution"
            selection.warnings.append(
                f'Ringbinder.disabled_plugins: "{entry}" turns off several plugins, the policy of this name '
                f"among them; name only those that you mean, as distribution:name (the policy is {origin}:{entry})"
            )


def _let_fail(selection: Selection) -> None:
    for entry in selection.settings.may_fail:
        matching = [row for row in selection.rows if row.found.kind in _ALWAYS_ON and _matches(entry, row.found)]
        for row in matching:
            row.may_fail = True
        if not matching:
            names = {row.found.name for row in selection.rows if row.found.kind in _ALWAYS_ON}
            selection.problems.append(
                f'Ringbinder.may_fail: no policy, general plugin or provider "{entry}" is installed.'
                + _hint(entry, names)
            )


def _matches(entry: str, found: Found) -> bool:
    distribution, colon, name = entry.rpartition(":")
    return found.name == name and (not colon or _normal(distribution) == _normal(found.distribution))


def _normal(distribution: str) -> str:
    """The one spelling of a distribution's name (packaging's specification of names)."""
    return _SEPARATORS.sub("-", distribution).lower()


def _add_instances(selection: Selection) -> None:
    made: list[Row] = []
    for name, mapping in selection.settings.instances.items():
        where = f"Ringbinder.instances.{name}"
        if not NAME.fullmatch(name):
            selection.problems.append(f"{where}: a name is made of letters, digits, dots, dashes and underscores")
            continue
        if isinstance(row := _instance(selection, name, mapping, where), str):
            selection.problems.append(f"{where}: {row}")
            continue
        if name in selection.settings.disabled_plugins:
            row.rule_out("disabled", f"{name} stands in Ringbinder.disabled_plugins")
        elif row.found.kind in _ALWAYS_ON:
            row.wanted, row.needed = True, where
        made.append(row)
    for instance in made:
        for row in selection.rows:
            if row.found.key == instance.found.key:
                row.rule_out("disabled", "the instance of this name in Ringbinder.instances takes its place")
    selection.rows += made


def _instance(selection: Selection, name: str, mapping: Mapping[str, Any], where: str) -> Row | str:
    """The row of an instance, or what is wrong with it."""
    plugin, kind = mapping.get("plugin"), mapping.get("kind")
    if not isinstance(plugin, str) or not plugin:
        return "the option plugin is missing: the name of the plugin of which this is an instance"
    if kind is not None and kind not in GROUPS:
        return f"kind must be one of {', '.join(GROUPS)}"
    barred = [entry for entry in selection.settings.disabled_plugins if ":" in entry]
    rows = [
        row for row in selection.rows
        if row.found.name == plugin and kind in (None, row.found.kind)
        and not any(_matches(entry, row.found) for entry in barred)
    ]  # fmt: skip
    kinds = sorted({row.found.kind for row in rows})
    if kind is None and "provider" in kinds:
        rows = [row for row in rows if row.found.kind == "provider"]
    elif len(kinds) > 1:
        return f'"{plugin}" is the name of plugins of several kinds; say which with kind: {" or ".join(kinds)}'
    if not rows:
        names = {row.found.name for row in selection.rows if kind in (None, row.found.kind)}
        return f'no {kind or "plugin"} "{plugin}" is installed and not disabled.{_hint(plugin, names)}'
    if len(rows) > 1:
        return _twice(rows)
    extra = {key: value for key, value in mapping.items() if key not in ("plugin", "kind")}
    found = evolve(rows[0].found, name=name, state="available", reason="")
    return Row(found, rows[0].entry_point, extra, where, guards=rows[0].guards)


def _rule_out_duplicates(selection: Selection) -> None:
    by_key: dict[str, list[Row]] = {}
    for row in selection.rows:
        if row.found.state == "available":
            by_key.setdefault(row.found.key, []).append(row)
    for rows in by_key.values():
        if len(rows) > 1:
            for row in rows:
                row.rule_out("failed", _twice(rows))
            if any(row.must_work for row in rows):
                selection.problems.append(_twice(rows))
            elif rows[0].found.kind in _ALWAYS_ON:
                selection.warnings.append(f"none of them is loaded: {_twice(rows)}")


def _twice(rows: Sequence[Row]) -> str:
    found = rows[0].found
    origins = " and ".join(row.found.origin for row in rows)
    return (
        f'the {found.kind} "{found.name}" is offered more than once, by {origins}; take one out, or name it '
        f"in Ringbinder.disabled_plugins as {found.distribution or 'distribution'}:{found.name}"
    )


def _need(selection: Selection, kinds: Sequence[str], name: str, option: str) -> None:
    rows = [row for row in selection.rows if row.found.kind in kinds and row.found.name == name]
    usable = [row for row in rows if row.found.state == "available"]
    for row in usable:
        row.wanted, row.needed = True, option
    if usable:
        return
    if rows:
        selection.problems.append(f'{option}: "{name}" cannot be used: {rows[0].found.reason}')
        return
    names = {row.found.name for row in selection.rows if row.found.kind in kinds}
    selection.problems.append(f'{option}: no {" or ".join(kinds)} "{name}" is installed.{_hint(name, names)}')


def _hint(name: str, names: set[str]) -> str:
    return did_you_mean(name, names, f" Installed: {', '.join(sorted(names)) or 'none'}.")
