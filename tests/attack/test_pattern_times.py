"""Every compiled pattern of the tree takes time linear in the text: twice the text, at most three times the time.

The one test with a clock: it counts the time of this thread alone, so that a busy machine changes little.
"""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import importlib.util
import json
import pkgutil
import random
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs
import pytest
from ringbinder.runtime.patterns import Pattern, Regex

_PACKAGES: Final = (
    "ringbinder", "ringbinder_providers", "ringbinder_registries", "ringbinder_builders", "ringbinder_launchers",
    "ringbinder_sinks", "ringbinder_policies", "ringbinder_cluster", "ringbinder_recipe", "ringbinder_embedded",
    "ringbinder_fake", "ringbinder_server",
)  # fmt: skip
_KINDS: Final = (re.Pattern, Regex, Pattern)
_METHODS: Final = frozenset({"search", "match", "fullmatch", "finditer", "findall", "split", "sub", "subn"})
_OPERATORS_OR_OURS: Final = {
    "ringbinder.causes": "Cause compiles its own",
    "ringbinder.plugins.javascript": "an author's own regular expressions, in `plugins check` and tests",
    "ringbinder.runtime.patterns": "checks the syntax of what an operator wrote",
    "ringbinder.testing.provider": "a provider's own regular expressions, in its author's tests",
    "ringbinder_sinks.jsonlines": "made from the name of a file of the operator's",
}
"""Modules that compile within a function, which this test cannot collect, and why they may."""

_LARGEST: Final = 64_000
_MEASURABLE: Final = 0.001
_SUFFIXES: Final = ("", "\0")
_json: Final = json.dumps({"a": ["b", {"c": 1.5}], "d": None})
_base64: Final = b64encode(random.Random(1).randbytes(3000)).decode()
_UNITS: Final = (
    "x", "X", "1", "a1", ".", "a.", "1.", "-", "a-", "_", " ", "x ", "\t", "\n", "x\n", "\r", "/", "x/", "//", ":",
    "x:", "x: ", "://x", "\"", "'", "'a", "`", "=", "a=", "a=a=", "a=a,", ",", "a,", "[", "]", "(", "#1 ", "%", "%25",
    "%3f", "?a=", "&a=b", "@", "x@", "\\", "\\a", "\x1b[", "\x1b[1;", "é", "{", "<", _json, _base64,
)  # fmt: skip


def _modules() -> Iterator[ModuleType]:
    for name in _PACKAGES:
        package = importlib.import_module(name)
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not found.name.endswith(("__main__", "._leash")):
                try:
                    yield importlib.import_module(found.name)
                except ModuleNotFoundError as error:
                    if error.name not in (
                        "tornado",
                        "jupyterhub",
                        "jupyter_server",
                    ):  # in a hub or a notebook only
                        raise
                    yield _constants_of(found.name)


def _constants_of(name: str) -> ModuleType:
    """The patterns at the top of a module that cannot be imported here."""
    module = ModuleType(name)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    module.__file__ = spec.origin
    for statement in _tree(module).body:
        match statement:
            case ast.Assign([ast.Name(constant)], ast.Call(ast.Attribute(ast.Name("re"), "compile"), [text])):
                setattr(module, constant, re.compile(ast.literal_eval(text)))
    return module


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))


def _patterns_in(value: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(value, _KINDS):
        yield value
    elif id(value) in seen:
        return
    elif isinstance(value, tuple | list | AbstractSet | Mapping):
        seen.add(id(value))
        for part in (*value, *value.values()) if isinstance(value, Mapping) else value:
            yield from _patterns_in(part, seen)
    elif attrs.has(type(value)) and not isinstance(value, type):
        seen.add(id(value))
        for field in attrs.fields(type(value)):
            yield from _patterns_in(getattr(value, field.name, None), seen)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@functools.cache
def _collected() -> dict[str, tuple[Any, frozenset[str]]]:
    """Every pattern that is reached from a name of a module, with the methods that are called on it."""
    patterns: dict[int, tuple[str, Any]] = {}
    methods: dict[int, set[str]] = {}
    for module in _modules():
        for name, value in vars(module).items():
            for pattern in _patterns_in(value, set()):
                patterns.setdefault(id(pattern), (f"{module.__name__}.{name}", pattern))
        for call in _calls(_tree(module)):
            match call.func:
                case ast.Attribute(ast.Name(name), method) if method in _METHODS:
                    methods.setdefault(id(getattr(module, name, None)), set()).add(method)
    names: dict[str, tuple[Any, frozenset[str]]] = {}
    for key, (name, pattern) in patterns.items():
        names[f"{name} {pattern.pattern!r}"] = pattern, frozenset(methods.get(key, {"search"}))
    return names


def test_every_pattern_is_collected() -> None:
    """A pattern stands at the top of its module, where this test finds it."""
    hidden = []
    for module in _modules():
        tree = _tree(module)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for call in (call for function in functions for call in _calls(function)):
            match call.func:
                case ast.Attribute(ast.Name("re"), name) if name != "escape":
                    hidden.append((module.__name__, call.lineno))
                case ast.Name("Regex"):
                    hidden.append((module.__name__, call.lineno))
    assert [place for place in hidden if place[0] not in _OPERATORS_OR_OURS] == []
    assert {module for module, _ in hidden} == set(_OPERATORS_OR_OURS), "take away what is no longer so"
    assert len(_collected()) > 100


@pytest.mark.parametrize("name", sorted(_collected()), ids=ascii)
def test_twice_the_text_takes_at_most_thrice_the_time(name: str) -> None:
    pattern, methods = _collected()[name]
    of_bytes = isinstance(pattern.pattern, bytes)
    source = pattern.pattern.decode() if of_bytes else pattern.pattern
    # What the pattern itself looks for, over and over, is often what is worst for it.
    literal = re.sub(r"\\[a-zA-Z]|\(\?P?[<!=:][^>:]*[>:]?|[\\^$*+?()\[\]{}|]", "", source)
    for unit in (*_UNITS, *filter(None, (literal, *literal.split()))):
        for suffix in _SUFFIXES:
            for method in sorted(methods):
                run = _runner(pattern, method)

                def measured(
                    size: int, run: Callable[[Any], object] = run, unit: str = unit, suffix: str = suffix
                ) -> float:
                    text = (unit * (size // len(unit) + 1))[:size] + suffix
                    return _seconds(run, text.encode() if of_bytes else text)

                assert _is_linear(measured), f"{method} of {unit[:40]!r} over and over, then {suffix!r}"


def test_a_pattern_that_backtracks_is_found_out() -> None:
    pattern = re.compile(r"(?P<name>[\w./-]+): not found$")
    assert not _is_linear(lambda size: _seconds(pattern.search, "x" * size))
    assert _is_linear(lambda size: _seconds(Regex(pattern.pattern).search, "x" * size))


def _runner(pattern: Any, method: str) -> Callable[[Any], object]:
    if method in ("sub", "subn"):
        empty = b"" if isinstance(pattern.pattern, bytes) else ""
        return lambda text: getattr(pattern, method)(empty, text)
    if method == "finditer":
        return lambda text: sum(1 for _ in pattern.finditer(text))
    run: Callable[[Any], object] = getattr(pattern, method)
    return run


def _seconds(run: Callable[[Any], object], text: Any) -> float:
    begin = time.thread_time()
    run(text)
    return time.thread_time() - begin


def _is_linear(measured: Callable[[int], float]) -> bool:
    """Looks at the smallest text whose time can be measured; a text that is too quick at the largest size is fine."""
    gc.disable()
    try:
        size = 8
        while size <= _LARGEST and measured(size) < _MEASURABLE:
            size *= 2
        if size > _LARGEST:
            return True
        # Doubled twice: what is linear takes 4 times as long, what is quadratic 16 times.
        # A busy machine gets more tries.
        return any(
            min(measured(size * 4) for _ in range(runs)) <= 9 * min(measured(size) for _ in range(runs))
            for runs in (2, 5, 15)
        )
    finally:
        gc.enable()
