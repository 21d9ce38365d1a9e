"""Every hook, event, option, metric, error and command is in the reference, and says what it is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import click
import pytest
from ringbinder.config.event_settings import DeliverySettings
from ringbinder.config.json_schema import CORE_SECTIONS
from ringbinder.config.option_docs import described
from ringbinder.config.options import NoOptions
from ringbinder.events.schema_registry import Catalogue
from ringbinder.plugins.discovery import installed
from ringbinder.plugins.hookspecs import Hooks
from ringbinder.runtime.metrics import Metrics
from ringbinder_server.cli import main

from .pages import ROOT

SOURCES = sorted(file for tree in ("core", "plugins", "server") for file in (ROOT / tree).rglob("*.py"))


def page(name: str) -> str:
    return (ROOT / "docs" / "reference" / f"{name}.md").read_text()


def test_every_hook() -> None:
    reported = page("hooks")
    hooks = {name: hook for name, hook in vars(Hooks).items() if not name.startswith("_")}
    assert [name for name, hook in hooks.items() if f"{name}(" not in reported or not inspect.getdoc(hook)] == []


def test_every_event_and_field() -> None:
    reported = page("events")
    for schema in Catalogue():
        part = reported.partition(f"## `{schema.name}`, version {schema.version}\n")[2].partition("\n## ")[0]
        assert schema.document["question"] in part
        assert schema.document["description"] in part
        for name, rule in schema.fields.items():
            assert f"| `{name}` |" in part, (schema.name, name)
            assert rule.get("description"), (schema.name, name)
            assert rule.get("type") or rule.get("enum"), (schema.name, name)


def configuration() -> Iterator[tuple[str, Any]]:
    """What each part of the reference of the options is made of."""
    yield from CORE_SECTIONS.items()
    for row in installed():
        plugin = row.entry_point.load()
        if row.found.ours and plugin.sections:
            yield plugin.sections[-1], getattr(plugin, "Config", NoOptions)


@pytest.mark.parametrize(("section", "options"), [pytest.param(*each, id=each[0]) for each in configuration()])
def test_every_option(section: str, options: Any) -> None:
    if attrs.fields(options):
        part = page("configuration").partition(f"### `{section}`\n")[2].partition("\n### ")[0]
        for option in described(options):
            assert f"| `{option.name}` |" in part, f"{section}.{option.name}"
            assert option.meaning, f"{section}.{option.name} has no help"


def test_every_option_of_a_delivery() -> None:
    assert [
        o.name for o in described(DeliverySettings) if f"| `{o.name}` |" not in page("events") or not o.meaning
    ] == []


def test_every_metric() -> None:
    reported = page("metrics")
    made = {f"{one.name}_total" if one.type == "counter" else one.name for one in Metrics().registry.collect()}
    written = {
        name for file in SOURCES for name in re.findall(r"\b(?:Gauge|Histogram)\(\s*\"(\w+)\"", file.read_text())
    }
    assert len(made) > 10
    assert [name for name in sorted(made | written) if f"| `{name}` |" not in reported] == []


def test_every_code_of_an_error() -> None:
    reported = page("errors")
    raised = {
        code
        for file in SOURCES
        if "ringbinder_fake" not in file.parts
        for code in re.findall(r"\bUserError\(\s*\"([a-z-]+)\"", file.read_text())
    }
    assert len(raised) > 20
    assert [code for code in sorted(raised) if f"| `{code}` |" not in reported] == []


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def test_every_command_and_its_options() -> None:
    reported = page("commands")
    for name, command in commands(main):
        assert f"## `ringbinder {name}`\n" in reported
        assert command.help, name
        options = [option for option in command.params if isinstance(option, click.Option)]
        assert [option.name for option in options if not option.help] == [], name


@pytest.fixture
def from_docs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the scripts that write the reference."""
    monkeypatch.syspath_prepend(ROOT / "docs")

    def get(name: str) -> ModuleType:
        return import_module(name)

    return get


UNTOLD = {
    "literal": 'raise UserError("brand-new", "told")',
    "by its name": 'raise BuildError("told", code="brand-new")',
    "one of two": 'raise UserError("bad-file" if x else "brand-new", "told")',
    "constant": 'NEW = "brand-new"\nraise UserError(NEW, "told")',
    "cause": 'Cause(r"pattern", "brand-new", "cause", "advice")',
    "answer": 'jsonify(code="brand-new", message="told")',
}


@pytest.mark.parametrize("source", UNTOLD.values(), ids=list(UNTOLD))
def test_a_code_that_nothing_explains_stops_the_reference(
    source: str, from_docs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, file = from_docs("error_codes"), tmp_path / "plugin.py"
    file.write_text(source)
    real = list(module.sources())
    monkeypatch.setattr(module, "sources", lambda: [*real, file])
    with pytest.raises(LookupError, match="brand-new"):
        module.table()


def test_a_code_that_is_put_together_is_refused(from_docs: Any, tmp_path: Path) -> None:
    module, file = from_docs("error_codes"), tmp_path / "plugin.py"
    file.write_text('raise UserError(f"bad-{thing}", "told")')
    with pytest.raises(module.UnreadableCodeError, match=r"plugin\.py:1"):
        module.codes([file])


@pytest.mark.parametrize(
    ("source", "named"),
    [('Gauge("shelf_books", "")', "shelf_books"), ('Counter("shelf", "Books", ["colour"])', "colour")],
)
def test_unexplained_metric_or_label_stops_the_reference(
    source: str, named: str, from_docs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, file = from_docs("metric_table"), tmp_path / "plugin.py"
    file.write_text(source)
    real = list(module.sources())
    monkeypatch.setattr(module, "sources", lambda: [*real, file])
    with pytest.raises(LookupError, match=named):
        module.metric_table() + module.label_table()


def test_variables_of_one_host_are_in_its_table() -> None:
    folder = ROOT / "examples" / "one-host"
    code = "".join((folder / name).read_text() for name in ("one-host", "jupyterhub_config.py"))
    guide = (ROOT / "docs" / "how-to" / "a-binder-for-your-group.md").read_text()
    rows = dict(re.findall(r"^\| `(ONE_HOST_\w+)` \|([^|]*)\|", guide, re.MULTILINE))
    assert set(rows) == set(re.findall(r"ONE_HOST_[A-Z_]+", code))
    defaults = {
        **dict(re.findall(r"\$\{(ONE_HOST_\w+):-([^}$]+)\}", code)),
        **dict(re.findall(r'environ\.get\("(ONE_HOST_\w+)", "(.+?)"\)', code)),
    }
    assert {name: rows[name].strip("` ") for name in defaults} == defaults
    without = set(rows) - set(defaults) - {"ONE_HOST_RINGBINDER"}
    assert [name for name in without if rows[name].strip()] == []
