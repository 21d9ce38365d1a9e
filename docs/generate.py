"""Writes the parts of the documentation that the code knows better.

    python docs/generate.py            rewrites them
    python docs/generate.py --check    says which are stale; exit code 1 if any

It also writes the generated files of the Helm chart (`chart_files.py`), and the version where it is
repeated.

A page asks for a part with a pair of comments; what stands between them is replaced:

    <!-- generated: options -->
    <!-- end -->
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import api_pages
import attrs
import chart_files
import click
import error_codes
import migration
import surface
from metric_table import label_table, metric_table
from ringbinder import errors
from ringbinder.config.event_settings import DeliverySettings, EventLogSettings
from ringbinder.config.option_docs import described
from ringbinder.config.options import NoOptions
from ringbinder.config.settings import BinderHubSettings, RingbinderSettings
from ringbinder.events.schema_registry import Catalogue, as_markdown
from ringbinder.plugins import hookspecs
from ringbinder.plugins.discovery import GROUPS, installed
from ringbinder.testing.__main__ import main as rules_in_words
from ringbinder_server.cli import main as main_command
from ringbinder_server.cli.exitcodes import MEANINGS

_COMMON_OPTIONS = ("files", "sets", "verbose")
DOCS = Path(__file__).parent
PART = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def core_options() -> str:
    """The options of core's own sections."""
    return "\n".join(
        f"### `{section}`\n\n{_table(settings)}"
        for section, settings in (
            ("Ringbinder", RingbinderSettings),
            ("BinderHub", BinderHubSettings),
            ("EventLog", EventLogSettings),
        )
    )


def delivery_options() -> str:
    """What `EventLog.delivery.<sink>` may say."""
    return _table(DeliverySettings)


def event_catalogue() -> str:
    """The schemas of core's own events."""
    return as_markdown(Catalogue())


def error_kinds() -> str:
    """The classes of error that a plugin may raise."""
    rows = ["| error | to whom it speaks |", "|---|---|"]
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.RingbinderError) and kind is not errors.RingbinderError:
            about = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
            rows.append(f"| `{name}` | {about} |")
    return "\n".join(rows) + "\n"


def plugin_options() -> str:
    """The options of every plugin that is installed with Ringbinder itself."""
    return "\n".join(_plugin_sections())


def plugin_table(kind: str) -> str:
    """The plugins of one kind that come with Ringbinder: their names, what they are, their sections."""
    names: dict[str, list[str]] = {}
    for row in sorted(installed(), key=lambda row: row.found.name):
        if row.found.ours and row.found.kind == kind:
            names.setdefault(row.found.target, []).append(row.found.name)
    lines = ["| name | what it is | sections |", "|---|---|---|"]
    for target, shared in names.items():
        module, _, name = target.partition(":")
        plugin = getattr(import_module(module), name)
        home = inspect.getmodule(plugin)
        # The first sentence of its module, without what that says of the plugin's own name.
        about = re.sub(r"^[^:]*`[^:]*: ", "", (inspect.getdoc(home) or "").partition("\n")[0])
        cells = (_quoted(shared), about[:1].upper() + about[1:], _quoted(plugin.sections) or "none")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plugin_directory() -> str:
    """The plugins in `examples/plugins`, from their project files."""
    kinds = {group: kind for kind, group in GROUPS.items()}
    lines = ["| distribution | kind | what it does |", "|---|---|---|"]
    for file in sorted((DOCS.parent / "examples" / "plugins").glob("*/pyproject.toml")):
        project = tomllib.loads(file.read_text())["project"]
        shown = ", ".join(kinds[group].replace("plugin", "wrapper") for group in project["entry-points"])
        name = f"`{project['name']}`"
        lines.append(f"| {name} | {shown} | {project['description']} |")
    return "\n".join(lines) + "\n"


def hooks() -> str:
    """Every hook with its signature and its meaning."""
    lines: list[str] = []
    for name, hook in vars(hookspecs.Hooks).items():
        if name.startswith("_") or not inspect.isfunction(hook):
            continue
        colour = "" if name in hookspecs.PLAIN else "async "
        parameters = {
            parameter: value.annotation
            for parameter, value in inspect.signature(hook).parameters.items()
            if parameter != "self"
        }
        returns = str(inspect.signature(hook).return_annotation)
        lines.append(f"## `{colour}{name}({', '.join(parameters)}) -> {returns}`\n")
        if parameters:
            typed = [f"`{parameter}: {annotation}`" for parameter, annotation in parameters.items()]
            lines.append(f"Arguments: {', '.join(typed)}\n")
        lines.append(f"{inspect.getdoc(hook)}\n")
    return "\n".join(lines)


def contracts() -> str:
    """The rules of every contract suite."""
    return rules_in_words([])


def commands() -> str:
    """Every command with its arguments and options, and the exit codes."""
    codes = ["| exit code | meaning |", "|---|---|"]
    codes += [f"| {code:d} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join([*_commands(main_command, "ringbinder"), "## Exit codes\n", *codes]) + "\n"


def _commands(group: click.Group, words: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{words} {name}")
            continue
        context = click.Context(command)
        arguments = [one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)]
        yield f"## `{words} {name}`\n"
        if arguments:
            yield f"Arguments: {_quoted(arguments)}.\n"
        yield f"{inspect.cleandoc(command.help or '').replace(chr(8), '')}\n"
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in _COMMON_OPTIONS:
                yield f"- {_quoted([*option.opts, *option.secondary_opts])}: {' '.join((option.help or '').split())}"
        yield ""


PARTS: dict[str, Callable[[], str]] = {
    "core-options": core_options,
    "plugin-options": plugin_options,
    "delivery-options": delivery_options,
    "event-catalogue": event_catalogue,
    "metrics": metric_table,
    "metric-labels": label_table,
    "error-kinds": error_kinds,
    "error-codes": error_codes.table,
    "hooks": hooks,
    "commands": commands,
    "contracts": contracts,
    "plugin-directory": plugin_directory,
    "migration": migration.table,
    "chart-values": chart_files.reference,
    "providers": partial(plugin_table, "provider"),
    "registries": partial(plugin_table, "registry"),
    "launchers": partial(plugin_table, "launcher"),
    **{f"api-{re.sub('[._]', '-', name)}": partial(api_pages.of_module, name) for name in surface.PUBLIC},
}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _plugin_sections() -> Iterator[str]:
    seen: set[tuple[str, ...]] = set()
    for row in sorted(installed(), key=lambda row: row.found.key):
        if not row.found.ours:
            continue
        plugin: Any = row.entry_point.load()
        options = getattr(plugin, "Config", NoOptions)
        if not plugin.sections or not attrs.fields(options) or plugin.sections in seen:
            continue
        seen.add(plugin.sections)
        *general, own = plugin.sections
        also = f" Also filled from: {', '.join(f'`{name}`' for name in general)}." if general else ""
        yield f"### `{own}`\n\nOf the {row.found.kind} `{row.found.name}`.{also}\n\n{_table(options)}"


def _table(options: type[Any]) -> str:
    rows = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for option in described(options):
        meaning = option.meaning + (f" Environment: `{option.variable}`." if option.variable else "")
        cells = (f"`{option.name}`", option.kind, option.default, meaning)
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def parts_of_the_program() -> dict[Path, str]:
    """The project files of both distributions, with the version that the one of `ringbinder` names."""
    whole, core = DOCS.parent / "pyproject.toml", DOCS.parent / "core" / "pyproject.toml"
    version = tomllib.loads(whole.read_text())["project"]["version"]
    return {
        whole: re.sub(r'(?m)^(  "ringbinder-core==)[^"]*', rf"\g<1>{version}", whole.read_text()),
        core: re.sub(r'(?m)^version = "[^"]*"', f'version = "{version}"', core.read_text()),
    }


def rendered(page: str) -> str:
    """`page` with all its generated parts as the code has them now. Raises KeyError for an unknown part."""
    return PART.sub(lambda match: f"{match[1]}\n{PARTS[match['name']]()}\n{match[3]}", page)


def stale() -> dict[Path, str]:
    """Every file that is not as it should be, with what it has to hold."""
    pages = {path: rendered(path.read_text()) for path in sorted(DOCS.rglob("*.md"))}
    wanted = {**pages, **parts_of_the_program(), **chart_files.files()}
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text}


def main() -> int:
    check = "--check" in sys.argv
    found = stale()
    for path, text in found.items():
        if not check:
            path.write_text(text)
        sys.stdout.write(f"{'stale' if check else 'rewritten'}: {path.relative_to(DOCS.parent)}\n")
    return int(bool(found) and check)


if __name__ == "__main__":
    raise SystemExit(main())
