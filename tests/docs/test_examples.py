"""What the documentation shows works: examples in docstrings and pages, command lines, JSON, Python."""

from __future__ import annotations

import ast
import doctest
import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from ringbinder.events.schema_registry import Catalogue
from ringbinder_server.cli import main

from .pages import PAGES, ROOT, block, named

CORE = ROOT / "core"
EXAMPLES = [file for file in sorted((CORE / "ringbinder").rglob("*.py")) if ">>> " in file.read_text()]
SHOWN = re.compile(r"^(?:    |\$ )(?P<shown>ringbinder .*)$|`(?P<inline>ringbinder [a-z][^`]*)`", re.MULTILINE)
DOCSTRINGS = re.compile(r"<!-- generated: api-.*?<!-- end -->", re.DOTALL)
_MEANING = re.compile(r"\s{2,}.*|\s+#.*")
"""What stands behind a command line, to explain it."""


def test_there_are_examples_in_docstrings() -> None:
    assert {"image_names", "options", "secret"} <= {file.stem for file in EXAMPLES}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_in_docstrings(file: Path) -> None:
    name = ".".join(file.relative_to(CORE).with_suffix("").parts)
    done = doctest.testmod(import_module(name))
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_examples_in_pages(page: Path) -> None:
    """Those of docstrings, which generated pages have too, are run in their modules."""
    text = DOCSTRINGS.sub("", page.read_text())
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner().run(examples).failed == 0


def command_lines(text: str) -> Iterator[str]:
    for match in SHOWN.finditer(text):
        yield _MEANING.sub("", match["shown"] or " ".join(match["inline"].split()))


def understood(words: list[str]) -> None:
    """Raises click.UsageError if the program has no such command or option."""
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            raise click.NoSuchOption(name, f"no command {name!r}")
        command, context = found, click.Context(found, parent=context)
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
    for word in words:
        if word.startswith("-") and (option := word.partition("=")[0]) not in options | {"-"}:
            raise click.NoSuchOption(option, f"{command.name} has no option {option}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_are_ones_that_the_program_has(page: Path) -> None:
    for line in command_lines(page.read_text()):
        if re.match(r"ringbinder(?: COMMAND)?(?: --\w+)?$", line):
            continue
        try:
            understood(shlex.split(line)[1:])
        except click.UsageError as error:
            pytest.fail(f"`{line}`: {error.message}")


@pytest.mark.parametrize("line", ["serve --pubic", "plugin list", "plugins lst", "launch LINK --jsn"])
def test_a_command_that_is_misspelt_is_noticed(line: str) -> None:
    (shown,) = command_lines(f"text\n\n    ringbinder {line}   what it does\n")
    with pytest.raises(click.UsageError):
        understood(shlex.split(shown)[1:])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_and_json_can_be_read(page: Path) -> None:
    text = page.read_text()
    for code in block(text, "python"):
        ast.parse(code)
    for code in block(text, "json"):
        json.loads(code)


def test_the_schema_that_is_shown_as_an_example_is_one() -> None:
    page = (ROOT / "docs" / "how-to" / "propose-an-event.md").read_text()
    shown = page[page.index('       {\n         "$id"') :].partition("\n\n")[0]
    schema = Catalogue().register(json.loads(textwrap.dedent(shown)))
    assert schema.problem({"repo": "https://host.example/a", "course": "c1"}) is None
