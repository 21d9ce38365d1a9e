"""`ringbinder plugins check`: the rules that can be judged without starting a plugin, each violation in words."""

from __future__ import annotations

import inspect
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, get_args

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from ..config.json_schema import CORE_SECTIONS
from ..config.options import NoOptions
from ..errors import ConfigError, PluginError, RingbinderError
from ..model import ArchiveSource, DoiSource, Finding, FolderSource, ImageKind, ProviderInfo
from ..runtime.log import Logger
from ..runtime.loops import error_summary
from ..runtime.paths import Paths
from ..runtime.services import Services
from ..runtime.suggest import closest, did_you_mean
from .bases import Provider
from .context import Context
from .deprecation import check_api
from .discovery import GROUPS, OWN, Found, Row, installed
from .fitting import FIT
from .hookspecs import GUARDS
from .imports import import_plugin
from .javascript import javascript_problem
from .manager import BASES, NO_GUARD, check_name, own_delivery
from .option_rules import option_findings
from .validation import check, hooks_in

SLOW: Final = 1.0
"""Seconds of import from which a plugin is called slow: every command waits for it."""


def rows_of_project(folder: Path) -> list[Row]:
    """The plugins that a project's `pyproject.toml` names; its packages can be imported from then on.

    Raises ConfigError if there is no such file, or it names none.
    """
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError) as error:
        raise ConfigError([f"{folder / 'pyproject.toml'} cannot be read: {error}"]) from error
    points = project.get("entry-points", {})
    rows = [
        Row(
            Found(name, kind, project.get("name", ""), project.get("version", ""), value),
            EntryPoint(name, value, group),
        )
        for kind, group in GROUPS.items()
        for name, value in points.get(group, {}).items()
    ]
    groups = GROUPS.values()
    if misspelt := [group for group in points if group not in groups and closest(group, groups)]:
        file = folder / "pyproject.toml"
        raise ConfigError(
            [f"{file}: the entry-point group {group!r} is unknown.{did_you_mean(group, groups)}" for group in misspelt]
        )
    if not rows:
        raise ConfigError([f'{folder / "pyproject.toml"} names no plugin: no [project.entry-points."ringbinder...."]'])
    sys.path[:0] = [str(folder / "src"), str(folder)]
    return rows


async def examine(row: Row, log: Logger) -> list[Finding]:
    """What is wrong with one plugin; nothing if all is well.

    It is imported and, if no option is required, made with the defaults, in folders that are then removed.
    """
    found = row.found
    begin = time.perf_counter()
    try:
        check_name(found)
        plugin = import_plugin(row)
    except PluginError as error:
        return [Finding("error", str(error))]
    findings = list(_import_time(found, time.perf_counter() - begin))
    try:
        check_api(plugin, found.key)
        findings += _kind(found, plugin)
        if found.kind == "sink":
            own_delivery(plugin, found)
        if not getattr(plugin, "__abstractmethods__", None) and isinstance(plugin, type):
            check(object.__new__(plugin), found.key, log)
    except PluginError as error:
        findings.append(Finding("error", str(error)))
    findings += [*_options(found, plugin), *_distribution(row), *_twins(found)]
    if not any(finding.level == "error" for finding in findings):
        findings += await _made(found, plugin, log)
    return findings


async def _made(found: Found, plugin: Any, log: Logger) -> list[Finding]:
    """What is wrong with an instance of the plugin."""
    options = getattr(plugin, "Config", NoOptions)
    with tempfile.TemporaryDirectory(prefix="ringbinder-check-") as folder:
        services = Services(log, Paths(Path(folder) / "state", Path(folder) / "cache"))
        try:
            required = any(option.init and option.default is attrs.NOTHING for option in attrs.fields(options))
            if required:
                inspect.signature(plugin).bind(None, None)
                return []
            made = plugin(options(), Context(found.name, services, log))
            check(made, found.key, log)
            return list(_forms(made)) if found.kind == "provider" else []
        except RingbinderError as error:
            # ConfigError and UserError ask for more than the defaults.
            return [Finding("error", str(error))] if isinstance(error, PluginError) else []
        except Exception as error:
            return [Finding("error", f"it cannot be made with the defaults of its options: {error_summary(error)}")]
        finally:
            await services.close()


def _forms(provider: Any) -> Iterator[Finding]:
    """What is wrong with what a provider gives the form."""
    try:
        info = provider.describe()
    except Exception as error:
        yield Finding("error", f"its describe raises {error_summary(error)}")
        return
    if not isinstance(info, ProviderInfo):
        yield Finding("error", f"its describe gives a {type(info).__name__}, no ProviderInfo")
        return
    for name, pattern in (("spec_regex", info.spec_regex), ("detect_regex", info.detect_regex)):
        if pattern is not None and (problem := javascript_problem(pattern)):
            yield Finding("error", f"its {name} is for JavaScript, but {problem}")


def _twins(found: Found) -> Iterator[Finding]:
    twins = [row.found for row in installed() if row.found.key == found.key]
    if others := " and ".join(twin.origin for twin in twins if twin.distribution != found.distribution):
        message = f"there is a {found.key} of {others} as well, and of plugins with one name none is loaded"
        yield Finding("error", message, "give the entry point another name")


def _import_time(found: Found, seconds: float) -> Iterator[Finding]:
    if seconds > SLOW:
        yield Finding(
            "warning",
            f"{found.target.partition(':')[0]} takes {seconds:.1f} seconds to import, and every command waits for it",
            "import what is heavy in the method that uses it",
        )


def _kind(found: Found, plugin: Any) -> Iterator[Finding]:
    needed: frozenset[str] = getattr(BASES.get(found.kind), "__abstractmethods__", frozenset())
    if missing := sorted(needed - set(hooks_in(plugin))):
        yield Finding("error", f"a {found.kind} must have the hooks {', '.join(missing)}")
    if not hooks_in(plugin):
        yield Finding("error", "it has no hook, so nothing ever calls it")
    keeps_out = not GUARDS.isdisjoint(hooks_in(plugin))
    if found.kind == "policy" and not keeps_out:
        yield Finding("error", NO_GUARD)
    if found.kind == "plugin" and keeps_out:
        yield Finding(
            "warning",
            f"it keeps people out, and its group is {GROUPS['plugin']}: should it not be importable, it is left out",
            f"name it in the group {GROUPS['policy']}, of which nothing is left out",
        )
    if found.kind == "provider" and (sources := _unfetched(plugin)):
        yield Finding(
            "warning",
            f"it has no `fetch`, and its module names {' and '.join(sources)}, which Ringbinder cannot fetch",
            "write `fetch`, or give a GitSource",
        )
    attribute = FIT.get(found.kind)
    kinds = get_args(ImageKind)
    if attribute and getattr(plugin, attribute, None) not in kinds:
        yield Finding("error", f"its class attribute {attribute!r} must be one of {', '.join(kinds)}")


def _unfetched(plugin: Any) -> list[str]:
    """The sources that a provider seems to give, and that would need a `fetch` of its own."""
    if getattr(plugin, "fetch", Provider.fetch) is not Provider.fetch:
        return []
    names = vars(sys.modules[plugin.__module__]).values()
    return [kind.__name__ for kind in (ArchiveSource, DoiSource, FolderSource) if any(name is kind for name in names)]


def _options(found: Found, plugin: Any) -> Iterator[Finding]:
    options = getattr(plugin, "Config", NoOptions)
    sections = tuple(getattr(plugin, "sections", ()))
    if not attrs.has(options):
        yield Finding("error", f"its Config, {options!r}, is no attrs class; write @attrs.frozen before it")
        return
    yield from option_findings(options)
    if attrs.fields(options) and not sections:
        yield Finding("error", "it has options and no `sections`, so that no configuration can set them")
    if sections and sections[-1] in CORE_SECTIONS:
        yield Finding("error", f"its last section, {sections[-1]}, is Ringbinder's own; name one after the plugin")
    for row in installed():
        if row.found.ours and not found.ours and sections[-1:] == _last_section(row):
            last = "".join(sections[-1:])
            yield Finding("warning", f"its last section, {last}, is that of {row.found.key}", "name another")


def _last_section(row: Row) -> tuple[str, ...]:
    return tuple(import_plugin(row).sections)[-1:] or ("",)


def _distribution(row: Row) -> Iterator[Finding]:
    package = row.found.target.partition(":")[0].partition(".")[0]
    if hasattr(sys.modules[package], "__path__") and not (files(package) / "py.typed").is_file():
        yield Finding(
            "warning", f"the package {package} has no file py.typed", "add an empty one: its types are then seen"
        )
    if row.entry_point.dist is None or row.found.ours:
        return
    wanted = list(_requirements(row.entry_point.dist.requires or ()))
    if not wanted:
        message = f"{row.found.distribution} does not require ringbinder-core"
        yield Finding("warning", message, "add it to its dependencies")
    running = Version(version("ringbinder-core"))
    for requirement in wanted:
        if not requirement.specifier.contains(running, prereleases=True):
            yield Finding("error", f"{row.found.distribution} requires {requirement}, and this is {running}")


def _requirements(texts: Iterable[str]) -> Iterator[Requirement]:
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name in OWN:
            yield requirement
