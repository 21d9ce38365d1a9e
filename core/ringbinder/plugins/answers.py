"""Whether what a plugin gives is of the type that its hook promises, down to the fields of what core defines."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

Judge = Callable[[Any], str]
"""Gives what is wrong with a value, to follow "it gave"; empty if nothing is."""


@cache
def judge_of(hint: Any) -> Judge:
    """The judge of values of type `hint`, as the annotation of a hook or of a field of the model has it.

    A sequence is one that can be read twice: no generator, and no text. Values of a mapping are the plugin's own.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: ""
    if origin is Annotated:
        return judge_of(arguments[0])
    words = words_for(hint)
    if origin is Literal:
        return lambda value: "" if value in arguments else _instead(value, words)
    if origin in (Union, types.UnionType):
        return _one_of(words, arguments)
    kind: type = types.NoneType if hint is None else origin or hint
    if kind is tuple and arguments[-1] is not Ellipsis:
        return _several(words, [judge_of(argument) for argument in arguments])
    if kind in (tuple, frozenset, Sequence):
        return _many(words, kind, judge_of(arguments[0]))
    if kind is not Mapping and attrs.has(kind):
        return _whole(kind)
    kinds = (int, float) if kind is float else (kind,)
    # Python's True is an int: as a number of events taken it would be 1.
    unfit = (bool,) if kind in (int, float) else ()
    return lambda value: "" if isinstance(value, kinds) and not isinstance(value, unfit) else _instead(value, words)


def _one_of(words: str, members: Sequence[Any]) -> Judge:
    judges = [(get_origin(member) or member, judge_of(member)) for member in members]

    def judge(value: Any) -> str:
        problems: list[tuple[Any, str]] = []
        for kind, its in judges:
            if not (problem := its(value)):
                return ""
            problems.append((kind, problem))
        # What is of one of the classes has something wrong inside.
        inside = [problem for kind, problem in problems if isinstance(kind, type) and isinstance(value, kind)]
        return inside[0] if inside else _instead(value, words)

    return judge


def _many(words: str, kind: type[Collection[Any]], judge_item: Judge) -> Judge:
    def judge(value: Any) -> str:
        if not isinstance(value, kind) or isinstance(value, str | bytes):
            return _instead(value, words)
        return next((f"a {type(value).__name__} with {problem}" for item in value if (problem := judge_item(item))), "")

    return judge


def _several(words: str, judges: Sequence[Judge]) -> Judge:
    def judge(value: Any) -> str:
        if not isinstance(value, tuple) or len(value) != len(judges):
            return _instead(value, words)
        return next((problem for its, item in zip(judges, value, strict=True) if (problem := its(item))), "")

    return judge


def _whole(kind: type) -> Judge:
    words, hints = words_for(kind), get_type_hints(kind, include_extras=True)
    judges = [(each.name, judge_of(hints[each.name])) for each in attrs.fields(kind)]

    def judge(value: Any) -> str:
        if not isinstance(value, kind):
            return _instead(value, words)
        for name, its in judges:
            if problem := its(getattr(value, name)):
                return f"a {kind.__name__} whose {name!r} is {problem}"
        return ""

    return judge


def _instead(value: Any, words: str) -> str:
    given = "None" if value is None else _a(type(value).__name__)
    return f"{given} instead of {words}"


def words_for(hint: Any) -> str:
    """A type in words.

    >>> words_for(int | None), words_for(Sequence[str]), words_for(Literal["oci", "folder"])
    ('an int or None', 'a sequence of str', "'oci' or 'folder'")
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (None, types.NoneType):
        return "None"
    if origin in (Union, types.UnionType):
        return " or ".join(map(words_for, arguments))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    kind = origin or hint
    if kind in (tuple, frozenset, Sequence):
        return f"{_a(kind.__name__.lower())} of {getattr(arguments[0], '__name__', arguments[0])}"
    return "an async context manager" if kind is AbstractAsyncContextManager else _a(kind.__name__)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"
