"""Options of a configuration class in words, for the reference and for `ringbinder plugins show`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import attrs
from attrs import frozen

from ..runtime.patterns import Pattern
from ..secret import Secret
from .options import ByteSize, Duration


@frozen
class Described:
    """One option, as an operator reads it. `variable` is the environment variable of its own, if it has one."""

    name: str
    kind: str
    default: str
    """``required`` where there is none; empty where it is nothing, or secret."""
    meaning: str
    variable: str = ""


def described(options: type[Any]) -> Iterator[Described]:
    """Every option of an attrs class."""
    hints = get_type_hints(options, include_extras=True)
    for option in attrs.fields(options):
        meta = option.metadata
        yield Described(
            option.name, _words(hints[option.name]), _default(option), meta.get("help") or "", meta.get("env") or ""
        )


def _words(kind: Any) -> str:
    named: dict[Any, str] = {Duration: "duration", ByteSize: "size", Secret: "secret", Path: "path"}
    named |= {str: "text", bool: "true or false", int: "whole number", float: "number"}
    named |= {type(None): "nothing", Any: "anything", Pattern: "regular expression"}
    if kind in named:
        return named[kind]
    if attrs.has(kind):
        return "mapping"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (tuple, list, frozenset, set):
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return f"mapping of {_words(arguments[0])} to {_words(arguments[1])}"
    if origin is re.Pattern:
        return "regular expression"
    if arguments and origin is not None and "Literal" in str(origin):
        return " or ".join(f"`{value}`" if value else "nothing" for value in arguments)
    if arguments:
        return " or ".join(_words(argument) for argument in arguments)
    return getattr(kind, "__name__", str(kind))


def _default(option: Any) -> str:
    default = option.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory() if not default.takes_self else None
    if default is attrs.NOTHING:
        return "required"
    if default is None or default == "" or (isinstance(default, tuple | dict | frozenset) and not default):
        return ""
    if isinstance(default, Secret):
        return ""
    if isinstance(default, frozenset):
        default = sorted(default)
    if isinstance(default, tuple | list):
        return ", ".join(f"`{value}`" for value in default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"
