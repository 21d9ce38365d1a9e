"""`ringbinder plugins list`, `show`, `check` and `new`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from ringbinder.config.option_docs import described
from ringbinder.config.options import NoOptions
from ringbinder.config.sources import ENVIRON_PREFIX
from ringbinder.errors import ConfigError, RingbinderError
from ringbinder.plugins.discovery import installed
from ringbinder.plugins.manager import Found, Plugins, import_plugin
from ringbinder.runtime.services import Services
from ringbinder.runtime.suggest import did_you_mean

from ..scaffold import Project
from ..terminal import echo, echo_json, echo_text
from .exitcodes import ExitCode
from .invocation import Invocation
from .trial import rows_of, tried

_COLUMNS = ("name", "kind", "state", "distribution", "version")
_HEADINGS = (*(name.upper() for name in _COLUMNS), "SECTION", "REASON")


async def list_plugins(invocation: Invocation, *, hooks: bool, as_json: bool) -> int:
    """Prints what is installed; raises, after that, what keeps the configuration from working."""
    services = Services(invocation.log)
    try:
        plugins = Plugins.apart(invocation.config(), services)
        broken: RingbinderError | None = None
        try:
            plugins.load()
        except RingbinderError as error:
            broken = error
        rows = plugins.inspect()
    finally:
        await services.close()
    if as_json:
        echo_json([_record(row) for row in rows])
    else:
        _table(rows, hooks)
    if broken is not None:
        raise broken
    return ExitCode.OK


def _record(row: Found) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in (*_COLUMNS, "reason")}
    return fields | {"sections": list(row.sections), "hooks": list(row.hooks)}


def _table(rows: list[Found], hooks: bool) -> None:
    cells = [
        (*(getattr(row, name) for name in _COLUMNS), *(row.sections[-1:] or ("",)), " ".join(row.reason.split()))
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *cells, strict=True)]
    for row, line in zip((None, *rows), (_HEADINGS, *cells), strict=True):
        echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if hooks and row is not None:
            echo(f"    hooks: {', '.join(row.hooks) or 'none'}")


async def show_plugins(invocation: Invocation, name: str, *, as_json: bool) -> int:
    """Shows every plugin of that name. Raises ConfigError if there is none."""
    services = Services(invocation.log)
    try:
        plugins = Plugins.apart(invocation.config(), services)
        try:
            plugins.load()
        except RingbinderError as error:
            invocation.log.info("the configuration does not start", reason=str(error))
        rows = [row for row in plugins.inspect() if row.name == name]
    finally:
        await services.close()
    if not rows:
        raise _none_of(name)
    records = [_shown(row) for row in rows]
    if as_json:
        echo_json(records)
    else:
        for record in records:
            _show(record)
    return ExitCode.OK


async def check_plugins(what: str | None, limit: float) -> int:
    """Judges them, each within `limit` seconds; the exit code says whether one has an error."""
    failed = False
    if not (rows := rows_of(what)):
        raise _none_of(str(what))
    async for row, findings in tried(what, rows, limit):
        failed |= any(finding.level == "error" for finding in findings)
        echo(f"{row.found.key} ({row.found.origin}):{'' if findings else ' right'}")
        for finding in findings:
            fix = f" ({finding.fix})" if finding.fix else ""
            echo_text(f"  {finding.level}: {finding.message}{fix}")
    return ExitCode.CONFIG if failed else ExitCode.OK


def _none_of(name: str) -> ConfigError:
    hint = did_you_mean(name, {row.found.name for row in installed()})
    return ConfigError([f"no plugin {name!r} is installed, and no folder of this name has a pyproject.toml.{hint}"])


def _shown(found: Found) -> dict[str, Any]:
    record = _record(found) | {"target": found.target, "options": []}
    if not found.sections:
        return record
    own = found.sections[-1]
    row = next(row for row in installed() if row.found.target == found.target)
    try:
        options = list(described(getattr(import_plugin(row), "Config", NoOptions)))
    except Exception:  # they cannot be read; the record's reason, or `plugins check`, names what is wrong
        return record
    record["options"] = [
        {
            "name": option.name,
            "type": option.kind,
            "default": option.default.replace("`", ""),
            "variables": [f"{ENVIRON_PREFIX}{own}__{option.name}", *([option.variable] if option.variable else [])],
            "meaning": option.meaning,
        }
        for option in options
    ]
    return record


def _show(record: dict[str, Any]) -> None:
    echo(f"{record['kind']} {record['name']}, of {record['distribution']} {record['version']}".rstrip())
    echo(f"  state:    {record['state']}" + (f": {' '.join(record['reason'].split())}" if record["reason"] else ""))
    echo(f"  class:    {record['target']}")
    echo(f"  hooks:    {', '.join(record['hooks']) or 'none'}")
    echo(f"  sections: {', '.join(record['sections']) or 'none'}")
    for option in record["options"]:
        default = f", default {option['default']}" if option["default"] not in ("", "required") else ""
        needed = ", required" if option["default"] == "required" else ""
        echo(f"  {option['name']} ({option['type']}{default}{needed})")
        echo(f"      {option['meaning']}")
        echo(f"      {' or '.join(option['variables'])}")


def write_project(kind: str, name: str, folder: Path | None) -> None:
    """Writes it and says how to go on. Raises click.ClickException."""
    project = Project(kind, name)
    if problem := project.problem():
        raise click.BadParameter(problem, param_hint="NAME")
    folder = folder or Path(project.distribution)
    try:
        project.write(folder)
    except FileExistsError:
        raise click.ClickException(f"{folder} is there already; give another folder with --into") from None
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror}") from None
    echo(f"{folder}: the {kind} {name}, with tests. Go on with")
    echo(f"    cd {folder}", "    pip install --editable . --group dev", "    pytest")
