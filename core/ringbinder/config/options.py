"""How a configuration class is written: `option()` and the types that have units.

Light on purpose: settings and plugins import it, and it imports nothing of ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Required, TypedDict, TypeVar, Unpack, overload

import attrs

Duration = Annotated[float, "duration"]
"""Seconds. In a file: a number of seconds, or with a unit: ``250ms``, ``90s``, ``10m``, ``2h``, ``1d``."""

ByteSize = Annotated[int, "bytes"]
"""Bytes. In a file: a whole number, or with a unit, by powers of 1024 as in BinderHub: ``2G``, ``512Mi``."""

_DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", re.ASCII)
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B?)\s*", re.ASCII | re.IGNORECASE)

Validator = (
    Callable[[Any, "attrs.Attribute[Any]", Any], object]
    | Sequence[Callable[[Any, "attrs.Attribute[Any]", Any], object]]
    | None
)
"""Of attrs: called with the object, the attribute and the value."""

DURATION_FORM = rf"^\s*[0-9]+(\.[0-9]+)?\s*({'|'.join(_DURATION_UNITS)})\s*$"
"""What a `Duration` with a unit looks like, for a JSON Schema: no flags, no look-around."""

SIZE_FORM = r"^\s*[0-9]+(\.[0-9]+)?\s*[KkMmGgTt]?[Ii]?[Bb]?\s*$"
"""What a `ByteSize` with a unit looks like, for a JSON Schema."""


T = TypeVar("T")


class _About(TypedDict, total=False):
    help: Required[str]
    env: str | None
    also: str | None
    inherited: bool
    secret: bool
    validator: Validator
    repr: bool


@overload
def option(default: T, **about: Unpack[_About]) -> T: ...
@overload
def option(*, factory: Callable[[], T], **about: Unpack[_About]) -> T: ...
@overload
def option(
    default: Any = ...,
    *,
    factory: Callable[[], Any] | None = None,
    converter: Callable[[Any], Any] | None = None,
    **about: Unpack[_About],
) -> Any: ...
def option(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    env: str | None = None,
    also: str | None = None,
    inherited: bool = True,
    secret: bool = True,
    **arguments: Any,
) -> Any:
    """An option of a configuration class: an attrs field with its documentation.

    Without a default it is required. `also` names an option of another section that means the same
    (``BinderHub.image_prefix``) and fills it when its own section does not; `env` names an environment
    variable that fills it when no file does (``GITHUB_ACCESS_TOKEN``). What is not `inherited`, an instance
    of the plugin (`Ringbinder.instances`) has only if it says so itself: a token is for one host, and an
    instance may ask another. With `secret=False`, an option that is called a secret, password or token may be plain
    text, since it only names or points to one. `arguments` are those of `attrs.field`: ``factory``, ``validator``,
    ``converter``, ``repr``; a ValueError of validator or converter is shown to the operator.

    >>> @attrs.frozen
    ... class Options:
    ...     shelf: str = option(help="Name of the shelf.")
    ...     wait: Duration = option(10.0, help="How long the shelf may take to answer.")
    >>> Options(shelf="novels")
    Options(shelf='novels', wait=10.0)
    """
    metadata = {"help": help, "env": env, "also": also, "inherited": inherited, "secret": secret}
    return attrs.field(default=default, metadata=metadata, **arguments)


def seconds(value: object) -> float:
    """What a `Duration` in a file means, in seconds. Raises ValueError for anything else.

    >>> seconds("90s"), seconds("1.5h"), seconds(2)
    (90.0, 5400.0, 2.0)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and value >= 0:
            return float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)) and match[2] in _DURATION_UNITS:
        amount = float(match[1]) * _DURATION_UNITS[match[2]]
        if math.isfinite(amount):
            return amount
    raise ValueError("a duration: seconds as a number, or such as 90s, 10m, 2h, 1d")


def size(value: object) -> int:
    """What a `ByteSize` in a file means, in bytes. Raises ValueError for anything else.

    >>> size("2K"), size("512MiB"), size(100)
    (2048, 536870912, 100)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        scale = 1024 ** _SIZE_UNITS[match[2].upper()]
        amount = int(match[1]) * scale if match[1].isdigit() else float(match[1]) * scale
        if math.isfinite(amount):
            return int(amount)
    raise ValueError("a size in bytes: a whole number, or such as 512M, 2G")


@attrs.frozen
class NoOptions:
    """Configuration of a plugin that has none."""
