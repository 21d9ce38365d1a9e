"""Plain values -> typed attrs classes, through cattrs: strict types, every problem at once."""

from __future__ import annotations

import operator
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs
from attrs import frozen
from cattrs import Converter
from cattrs.errors import (
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
    StructureHandlerNotFoundError,
)
from cattrs.gen import make_dict_structure_fn, override

from ..runtime.patterns import Pattern
from ..runtime.suggest import did_you_mean
from ..secret import Secret, redact
from .options import ByteSize, Duration, seconds, size

MISSING: Final = "required, but not given"

Where = tuple[str | int, ...]
"""Steps from a section down to a value: section, option, key, index."""

_SECRET_NAME = re.compile(r"token|secret|passw|credential|api_?key|private_?key|authorization|cookie", re.IGNORECASE)
_LONGEST_SHOWN = 60

# attrs' own validators begin their messages with the name of the attribute.
_FROM_VALIDATOR = re.compile(r"'(\w+)' must ")


class Mismatch(ValueError):
    """A value of the wrong kind. `found` says what it is, `shown` says so with the value, if it is short."""

    def __init__(self, expected: str, value: object, *, hidden: bool = False) -> None:
        super().__init__(f"expected {expected}")
        self.found: str = kind_of(value)
        self.shown: str = self.found
        if isinstance(value, bool):
            self.shown = str(value).lower()
        elif isinstance(value, int | float | str) and not hidden:
            text = repr(value) if not isinstance(value, int) or abs(value) < 10**18 else ""
            if text and len(text) <= _LONGEST_SHOWN:
                self.shown = f"{self.found} {redact(text)}"


class Refusal(ValueError):
    """What an option's own converter or validator says, redacted: it is shown of a secret option as well."""


@frozen
class Problem:
    """One thing that is wrong with the value at `where`; `text` never holds a secret."""

    where: Where
    text: str


def kind_of(value: object) -> str:
    """What a value of a YAML file is called in words."""
    names: dict[type, str] = {
        type(None): "nothing",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
    }
    names |= {list: "a list", dict: "a mapping", tuple: "a list", bytes: "binary data"}
    return names.get(type(value), f"a {type(value).__name__}")


def spelled(where: Where) -> str:
    """``Section.option.key[3]``."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def secret_name(where: Where) -> bool:
    """Whether a value that stands there may be a secret, judged by the names on the way to it."""
    return any(isinstance(step, str) and _SECRET_NAME.search(step) for step in where)


def structure(cls: Any, value: object) -> Any:
    """`value` as an instance of the attrs class, or of another type, `cls`. Raises a group that `problems` explains."""
    return _converter().structure(value, cls)


def structurable(kind: Any) -> bool:
    """Whether a value of a file can become one of this type."""
    base, arguments = _base(kind), [a for a in get_args(kind) if a is not Ellipsis]
    if kind is Any or base in (Literal, re.Pattern):
        return True
    if base is Annotated or kind in (Duration, ByteSize):
        return structurable(arguments[0])
    if base in (Union, types.UnionType) or _is(Mapping, Sequence, AbstractSet)(kind):
        return kind is not bytes and all(map(structurable, arguments))
    try:
        _converter().get_structure_hook(kind)
    except (StructureHandlerNotFoundError, NameError):
        return False
    return True


def takes_null(kind: Any) -> bool:
    """Whether null is a value of this type; elsewhere it means that none is given, as Helm's users write it."""
    return kind in (Any, type(None)) or (
        _base(kind) in (Union, types.UnionType) and any(map(takes_null, get_args(kind)))
    )


def problems(error: BaseException, where: Where = ()) -> Iterator[Problem]:
    """Every single problem in what `structure` raised."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        noted, others = error.group_exceptions()
        for inner, note in noted:
            step = note.index if isinstance(note, IterableValidationNote) else note.name
            yield from problems(inner, (*where, step))
        for inner in others:
            yield from problems(inner, where)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [a.alias for a in attrs.fields(error.cl) if a.init]
        for name in sorted(map(str, error.extra_fields)):
            yield Problem((*where, name), "unknown option." + did_you_mean(name, known))
    elif isinstance(error, KeyError) and where and error.args == (where[-1],):
        yield Problem(where, MISSING)
    elif isinstance(error, Mismatch):
        yield Problem(where, f"{error}, but it is {error.found if secret_name(where) else error.shown}")
    elif isinstance(error, Refusal):
        yield Problem(where, str(error))
    else:
        text = str(error.args[0]) if error.args else type(error).__name__
        validator = _FROM_VALIDATOR.match(text)
        if validator and validator[1] not in where[-1:]:
            where = (*where, validator[1])
        yield Problem(where, "not a value that this option takes" if secret_name(where) else redact(text))


Hook = Callable[[Any, Any], Any]


def _base(kind: Any) -> Any:
    """``list`` of ``list[int]``, ``Union`` of ``int | None``; a plain class is its own."""
    return get_origin(kind) or kind


def _exact(kind: type, words: str) -> Hook:
    def hook(value: Any, target: Any) -> Any:
        if type(value) is not kind:
            raise Mismatch(words, value)
        # cattrs finds this hook for subclasses too: an IntEnum makes its member of it.
        return value if target is kind else target(value)

    return hook


def _float(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise Mismatch("a number", value)
    try:
        return float(value)
    except OverflowError:
        raise Mismatch("a number that is not as large", value, hidden=True) from None


def _secret(value: Any, _: Any) -> Secret:
    if type(value) is not str:
        raise Mismatch("text (put it between quotes)", value, hidden=True)
    return Secret(value)


def _path(value: Any, _: Any) -> Path:
    if type(value) is not str or not value or "\0" in value:
        raise Mismatch("a path", value)
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{error} (for the ~ in this path)") from None


def _pattern(value: Any, _: Any) -> Pattern:
    if type(value) is not str:
        raise Mismatch("a regular expression (put it between quotes)", value)
    return Pattern(value)


def _with_unit(read: Callable[[object], Any]) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        try:
            return read(value)
        except ValueError as error:
            raise Mismatch(str(error), value) from None

    return hook


def _literal(value: Any, kind: Any) -> Any:
    choices = get_args(kind)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise Mismatch("one of " + ", ".join(repr(choice) for choice in choices), value)
    return value


def _union(kind: Any, converter: Converter) -> Hook:
    members = [(member, converter.get_structure_hook(member)) for member in get_args(kind)]

    def hook(value: Any, _: Any) -> Any:
        failures: list[Exception] = []
        for member, inner in members:
            try:
                return inner(value, member)
            except Exception as error:
                failures.append(error)
        reported = [e for (m, _), e in zip(members, failures, strict=True) if m is not type(None)]
        if len(reported) == 1:
            raise reported[0]
        deeper = [e for e in reported if not isinstance(e, Mismatch)]
        if len(deeper) == 1:
            raise deeper[0]
        words = " or ".join(str(e).removeprefix("expected ") for e in reported if isinstance(e, Mismatch))
        raise Mismatch(words or "another kind of value", value, hidden=any(m is Secret for m, _ in members))

    return hook


def _each(kind: Any, items: Sequence[tuple[int | str, Any, Any, Hook]]) -> list[Any]:
    """Structures (step, value, type, hook) one by one; raises all failures together."""
    made: list[Any] = []
    failures: list[Exception] = []
    for step, value, inner_kind, hook in items:
        try:
            made.append(hook(value, inner_kind))
        except Exception as error:
            note = IterableValidationNote("item", step, inner_kind)
            error.__notes__ = [*getattr(error, "__notes__", ()), note]
            failures.append(error)
    if failures:
        # pyright takes the arguments of `__new__` for those of `__init__`, which has one more.
        raise IterableValidationError("items", failures, kind)  # pyright: ignore[reportCallIssue]
    return made


def _sequence(kind: Any, converter: Converter) -> Hook:
    base = _base(kind)
    arguments = get_args(kind)
    fixed = base is tuple and bool(arguments) and arguments[-1] is not Ellipsis
    make: Callable[[list[Any]], Any] = list
    if issubclass(base, tuple):
        make = tuple
    elif issubclass(base, AbstractSet):
        make = set if issubclass(base, set) else frozenset

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise Mismatch("a list", value)
        if fixed and len(value) != len(arguments):
            raise ValueError(f"expected a list of {len(arguments)} values, but it has {len(value)}")
        kinds = arguments if fixed else [arguments[0] if arguments else Any] * len(value)
        hooks = {inner: converter.get_structure_hook(inner) for inner in set(kinds)}
        pairs = enumerate(zip(value, kinds, strict=True))
        return make(_each(kind, [(i, item, inner, hooks[inner]) for i, (item, inner) in pairs]))

    return hook


def _mapping(kind: Any, converter: Converter) -> Hook:
    key_kind, value_kind = get_args(kind) or (str, Any)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Mismatch("a mapping", value)
        if not takes_null(value_kind):
            value = {key: item for key, item in value.items() if item is not None}
        key_hook = converter.get_structure_hook(key_kind)
        value_hook = converter.get_structure_hook(value_kind)
        keys = _each(kind, [(str(key), key, key_kind, key_hook) for key in value])
        values = _each(kind, [(str(key), item, value_kind, value_hook) for key, item in value.items()])
        return dict(zip(keys, values, strict=True))

    return hook


def _judged(attribute: attrs.Attribute[Any], converter: Converter) -> Hook:
    """Structures the value of an attribute that has a converter or a validator, so that their errors name it.

    The class calls both again. A validator that needs the instance, which is not there yet, is left to that call.
    """

    def hook(value: Any, kind: Any) -> Any:
        structured = final = converter.get_structure_hook(kind)(value, kind)
        convert: Any = attribute.converter
        if isinstance(convert, attrs.Converter):
            return structured
        try:
            if convert is not None:
                final = convert(structured)
            if attribute.validator is not None:
                with suppress(AttributeError, TypeError):
                    attribute.validator(None, attribute, final)
        except ValueError as error:
            text = str(error)
            # attrs' own messages show the value.
            if _FROM_VALIDATOR.match(text):
                raise
            raise Refusal(redact(text)) from error
        return structured

    return hook


def _attrs_class(kind: Any, converter: Converter) -> Hook:
    fields = attrs.fields(attrs.resolve_types(kind))
    types_by_name = {a.alias: a.type for a in fields}
    judged: dict[str, Any] = {
        a.name: override(struct_hook=_judged(a, converter)) for a in fields if a.converter or a.validator
    }
    inner = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **judged)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Mismatch("a mapping of options", value)
        given = {
            str(key): item
            for key, item in value.items()
            if item is not None or takes_null(types_by_name.get(str(key), Any))
        }
        return inner(given, kind)

    return hook


def _is(*bases: type) -> Callable[[Any], bool]:
    def test(kind: Any) -> bool:
        base = _base(kind)
        return isinstance(base, type) and issubclass(base, bases)

    return test


@cache
def _converter() -> Converter:
    converter = Converter(detailed_validation=True)
    factory: Any = converter.register_structure_hook_factory
    factory(_is(Mapping), _mapping)
    factory(lambda kind: _is(Sequence, AbstractSet)(kind) and not _is(str, bytes, Mapping)(kind), _sequence)
    factory(attrs.has, _attrs_class)
    factory(lambda kind: _base(kind) in (Union, types.UnionType), _union)
    hooks: dict[Any, Hook] = {
        bool: _exact(bool, "true or false"),
        int: _exact(int, "a whole number"),
        str: _exact(str, "text (put it between quotes)"),
        type(None): _exact(type(None), "nothing"),
        float: _float,
        Secret: _secret,
        Path: _path,
        Pattern: _pattern,
        Duration: _with_unit(seconds),
        ByteSize: _with_unit(size),
    }
    for exact, hook in hooks.items():
        if exact in (bool, int, float, str, Path):
            # cattrs looks for these by class first; a predicate would never be asked.
            converter.register_structure_hook(exact, hook)
        else:
            converter.register_structure_hook_func(partial(operator.eq, exact), hook)
    converter.register_structure_hook_func(lambda kind: _base(kind) is Literal, _literal)
    # An option may say `re.Pattern`, too: it gets the one that takes linear time.
    converter.register_structure_hook_func(lambda kind: _base(kind) is re.Pattern, _pattern)
    return converter
