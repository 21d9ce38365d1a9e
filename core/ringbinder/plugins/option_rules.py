"""What must be right about the options of a plugin, seen without its configuration: types, defaults, secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from contextlib import suppress
from typing import Any, Final, get_args, get_origin, get_type_hints

import attrs

from ..config.conversion import structurable, structure
from ..config.json_schema import plain_value
from ..model import Finding
from ..secret import Secret

_SECRET: Final = re.compile(
    r"(?:^|_)(?:secret|password|passwd|passphrase|token|api_?key|private_?key|credential)s?$", re.IGNORECASE
)


def option_findings(options: type[Any]) -> Iterator[Finding]:
    """What is wrong with the options of an attrs class, each in words."""
    try:
        hints = get_type_hints(options, include_extras=True)
    except Exception as error:
        yield Finding(
            "error", f"the types of its options cannot be read: {type(error).__name__}: {error}",
            "import the types of options where the class is made, not under TYPE_CHECKING",
        )  # fmt: skip
        return
    for option in attrs.fields(options):
        if option.init:
            yield from _findings(option, hints[option.name])


def _findings(option: attrs.Attribute[Any], kind: Any) -> Iterator[Finding]:
    what = f"its option {option.alias!r}"
    if not option.metadata.get("help"):
        yield Finding("warning", f"{what} has no help", "write it with ringbinder.option(...)")
    if not structurable(kind):
        name = getattr(kind, "__name__", str(kind))
        yield Finding("error", f"{what} is of type {name}, which no value of a configuration can become")
        return
    if _SECRET.search(option.name) and option.metadata.get("secret", True) and _is_text(kind):
        yield Finding(
            "error", f"{what} holds a secret, by its name, and is plain text, which logs and errors may show",
            "make it a ringbinder.Secret, or write option(secret=False) if it only names or points to one",
        )  # fmt: skip
    elif option.default is not attrs.NOTHING and option.converter is None:
        yield from _default_findings(option, kind, what)


def _default_findings(option: attrs.Attribute[Any], kind: Any, what: str) -> Iterator[Finding]:
    default: Any = option.default
    if isinstance(default, MutableMapping | MutableSequence | MutableSet):
        yield Finding("error", f"{what} has a default that all instances share", "write factory=... instead")
        return
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        if default.takes_self:
            return
        try:
            default = default.factory()
        except Exception as error:
            yield Finding("error", f"{what} has a default that cannot be made: {type(error).__name__}: {error}")
            return
    with suppress(TypeError):  # no value that could stand in a file: its class has made it
        plain = plain_value(default)
        try:
            right = type(structure(kind, plain)) is type(default) or isinstance(default, int | float)
        except Exception:
            right = False
        if not right:
            shown = "" if _SECRET.search(option.name) or kind is Secret else f" {default!r}"
            yield Finding("error", f"{what} has a default{shown} that is not of its type")


def _is_text(kind: Any) -> bool:
    """Whether a value of this type is text, or has text in it, that is no `Secret`."""
    base, arguments = get_origin(kind) or kind, get_args(kind)
    if isinstance(base, type) and issubclass(base, Mapping):
        arguments = arguments[1:]
    return kind is str or any(map(_is_text, arguments))
