"""The rules of a contract suite, read from the suite itself: for its failures, and for the reference page."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import pytest
from attrs import frozen

_MARK: Final = "Rule: "

T = TypeVar("T", bound=type)


@frozen
class Rule:
    """One test of a suite: its title in words, and what it demands."""

    title: str
    """In words, as in ``a bad spec is the users error``."""
    about: str
    """What it is for, from the docstring of its test."""
    demands: tuple[str, ...]
    """What is asserted, each in a sentence."""


def contract(kind: str) -> Callable[[T], T]:
    """Lets each test of a suite, when it fails, name its rule, what that is for, and where all rules stand."""

    def decorate(suite: T) -> T:
        for name, test in list(vars(suite).items()):
            if name.startswith("test_"):
                setattr(suite, name, _named(test, kind, title_of(name)))
        return suite

    return decorate


def rules_of(suite: type) -> Iterator[Rule]:
    """Every rule of a suite, in the order of its tests."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(suite)))
    methods = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    for name, method in methods.items():
        if name.startswith("test_"):
            called = {node.attr for node in ast.walk(method) if isinstance(node, ast.Attribute)} & methods.keys()
            found = [text for part in (method, *map(methods.__getitem__, sorted(called))) for text in _demands(part)]
            yield Rule(title_of(name), inspect.cleandoc(ast.get_docstring(method) or ""), tuple(dict.fromkeys(found)))


def title_of(test: str) -> str:
    """``a bad spec is the users error`` for ``test_a_bad_spec_is_the_users_error``."""
    return test.removeprefix("test_").replace("_", " ")


def as_text(kind: str, suite: type) -> Iterator[str]:
    """The lines of a suite's rules in Markdown, as the reference has them."""
    yield f"## `{suite.__name__}`\n"
    for rule in rules_of(suite):
        yield f"### {kind}: {rule.title}\n"
        yield f"{rule.about}\n"
        yield from (f"- {demand}" for demand in rule.demands)
        yield ""


def _named(test: Callable[..., Any], kind: str, title: str) -> Callable[..., Any]:
    about = inspect.cleandoc(test.__doc__ or "")
    note = f'Contract rule "{kind}: {title}": {about}\nAll rules: python -m ringbinder.testing {kind}'

    @functools.wraps(test)
    async def named(*arguments: Any, **keywords: Any) -> None:
        try:
            await test(*arguments, **keywords)
        except (Exception, pytest.fail.Exception) as error:
            error.add_note(note)
            raise

    return named


def _demands(method: ast.AST) -> Iterator[str]:
    parts = {part for node in ast.walk(method) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(method):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node not in parts:
            text = _text(node)
            if text.startswith(_MARK):
                text = text.removeprefix(_MARK).split(";")[0]
                yield text[:1].upper() + text[1:].rstrip(".") + "."


def _text(node: ast.expr) -> str:
    """A string of the source as prose: what an f-string fills in becomes the name of that."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"`{ast.unparse(node.value)}`"
    return ""
