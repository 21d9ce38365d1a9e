"""`ringbinder doctor`: what is wrong with the set-up as it runs now, and how to fix it."""

from __future__ import annotations

from ringbinder.config.folders import folder_problems, sharing
from ringbinder.errors import RingbinderError
from ringbinder.model import Finding, Health
from ringbinder.plugins.manager import Plugins
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from ringbinder.secret import redact

from ..terminal import echo, echo_json, echo_text
from .exitcodes import ExitCode
from .invocation import Invocation

_MARKS = {"ok": "ok      ", "warning": "warning ", "error": "ERROR   "}


async def examine(invocation: Invocation, *, as_json: bool) -> int:
    """Asks every active plugin. What is not active, it leaves alone; what fails, it tells and goes on."""
    findings = await _findings(invocation)
    (_print_json if as_json else _print)(findings)
    return ExitCode.CONFIG if any(finding.level == "error" for _, finding in findings) else ExitCode.OK


async def _findings(invocation: Invocation) -> list[tuple[str, Finding]]:
    """Each with the plugin that found it."""
    config = invocation.config()
    services = Services(invocation.log, Paths.of(config.settings.state_folder, config.settings.cache_folder))
    plugins = Plugins.apart(config, services)
    found = [("configuration", Finding("warning", risk)) for risk in config.risks]
    found += [("folders", _failed(problem)) for problem in folder_problems(config)]
    for folder in (services.paths.state, services.paths.cache):
        if folder.is_dir() and (warning := sharing(folder)):
            found.append(("folders", Finding("warning", warning)))
    try:
        try:
            plugins.load()
        except RingbinderError as error:
            found += [("configuration", _failed(line)) for line in str(error).splitlines()]
        try:
            async with plugins.running():
                answers = await plugins.hooks.doctor(lambda _, error: [_failed(str(error))])
                answers += [(line.service, [_left_out(line)]) for line in plugins.health() if line.ignore_failure]
        except RingbinderError as error:
            answers = [("start", [_failed(str(error))])]
    finally:
        await services.close()
    return found + [(plugin, finding) for plugin, lines in answers for finding in lines]


def _left_out(line: Health) -> Finding:
    return Finding(
        "warning",
        f"it is left out, so that everybody passes it: {line.detail['message']}",
        "set it right, and take it out of Ringbinder.may_fail",
    )


def _failed(message: str) -> Finding:
    return Finding("error", message)


def _print(findings: list[tuple[str, Finding]]) -> None:
    for plugin, finding in findings:
        echo_text(redact(f"{_MARKS[finding.level]}{plugin}: {finding.message}"))
        if finding.fix and finding.level != "ok":
            echo_text(redact(f"{'':8}to fix it: {finding.fix}"))
    if not findings:
        echo("No active plugin has anything to examine.")


def _print_json(findings: list[tuple[str, Finding]]) -> None:
    lines = [
        {"plugin": plugin, "level": line.level, "message": redact(line.message), "fix": redact(line.fix)}
        for plugin, line in findings
    ]
    echo_json(lines)
