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

PAGE: Final = "docs/reference/contracts.md"
"""Where the rules of all suites stand."""

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
    """Lets each test of a suite, when it fails, name its rule and the page that explains it."""

    def decorate(suite: T) -> T:
        for name, test in list(vars(suite).items()):
            if name.startswith("test_"):
                setattr(suite, name, _named(test, f"{kind}: {title_of(name)}"))
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


def _named(test: Callable[..., Any], rule: str) -> Callable[..., Any]:
    @functools.wraps(test)
    async def named(*arguments: Any, **keywords: Any) -> None:
        try:
            await test(*arguments, **keywords)
        except (Exception, pytest.fail.Exception) as error:
            error.add_note(f'Contract rule "{rule}"; all rules: {PAGE} of Ringbinder\'s documentation')
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
