"""`ringbinder config check` and `schema`: what a configuration chooses, all that is wrong in it, and its schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen
from ringbinder.config.binderhub import Choice
from ringbinder.config.folders import folder_problems
from ringbinder.config.json_schema import of_configuration
from ringbinder.config.loading import Config
from ringbinder.errors import ConfigError, PluginError, RingbinderError
from ringbinder.plugins.discovery import installed
from ringbinder.plugins.manager import Plugins, import_plugin
from ringbinder.runtime.services import Services
from ringbinder.secret import redact

from ..terminal import echo, echo_json, echo_text
from .exitcodes import ExitCode
from .invocation import Invocation

_KINDS = ("builder", "registry", "launcher")


async def check_files(invocation: Invocation, *, as_json: bool) -> int:
    """Judges files, environment and ``--set`` as a whole; starts nothing."""
    choice: Choice | None = None
    warnings: list[str] = []
    try:
        config = invocation.config()
    except ConfigError as error:
        problems = list(error.problems)
    else:
        choice = config.choice
        problems = await _problems(invocation, config)
        warnings = [redact(text) for text in (*config.warnings, *folder_problems(config))]
    verdict = _Verdict(choice, warnings, [redact(text) for text in problems])
    (_print_json if as_json else _print)(verdict)
    return ExitCode.CONFIG if problems else ExitCode.OK


@frozen
class _Verdict:
    choice: Choice | None
    """None if the files cannot even be read."""
    warnings: list[str]
    problems: list[str]


def _print(verdict: _Verdict) -> None:
    if choice := verdict.choice:
        for kind, name in choice.names.items():
            echo(f"{kind + ':':<9} {name}  ({choice.reasons[kind]})")
    for title, found in (("warning", verdict.warnings), ("problem", verdict.problems)):
        for text in found:
            echo_text(f"{title}: {text}")
    echo("The configuration is wrong." if verdict.problems else "The configuration is right.")


def _print_json(verdict: _Verdict) -> None:
    chosen = {}
    if choice := verdict.choice:
        chosen = {kind: {"name": getattr(choice, kind), "reason": choice.reasons[kind]} for kind in _KINDS}
    fields = {"warnings": verdict.warnings, "problems": verdict.problems}
    echo_json({"ok": not verdict.problems, "choice": chosen, **fields})


async def _problems(invocation: Invocation, config: Config) -> list[str]:
    """What the plugins have to say against it: also those that the configuration does not need."""
    services = Services(invocation.log)
    plugins = Plugins.apart(config, services)
    try:
        plugins.load()
        problems: list[str] = []
    except ConfigError as error:
        problems = list(error.problems)
    except RingbinderError as error:
        problems = [str(error)]
    finally:
        await services.close()
    for row in plugins.found:
        if row.state == "failed":
            problems += [reason for reason in row.reason.splitlines() if reason not in problems]
    idle = {section for row in plugins.inspect() for section in row.sections}
    return problems + [text for text in config.sections.unused(idle) if text not in problems]


def print_schema() -> None:
    """Prints it; a plugin that cannot be imported is left out, and named on stderr."""
    echo_json(of_configuration(_classes()), sort_keys=True)


def _classes() -> Iterator[Any]:
    for row in installed():
        try:
            yield import_plugin(row)
        except PluginError as error:
            echo(f"ringbinder: warning: left out: {error}", err=True)
