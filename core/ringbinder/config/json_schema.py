"""Configuration classes -> JSON Schema (draft 2020-12), for editors and for the Helm chart.

A schema takes every file that `structure` takes. It says less in two places: whether a regular expression is right,
and what a validator of the class's own makes of a value.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from ..config.options import NoOptions
from ..runtime.patterns import Pattern
from ..secret import Secret
from . import binderhub as compat
from .event_settings import DeliverySettings, EventLogSettings
from .options import DURATION_FORM, SIZE_FORM, ByteSize, Duration
from .settings import BinderHubSettings, RingbinderSettings
from .specs import RepoOptions

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
CORE_SECTIONS: Final[Mapping[str, type[Any]]] = {
    "Ringbinder": RingbinderSettings,
    "BinderHub": BinderHubSettings,
    "EventLog": EventLogSettings,
}
"""The sections that core itself asks for."""

_PLAIN: Final[Mapping[Any, Mapping[str, Any]]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    Secret: {"type": "string"},
    Path: {"type": "string", "minLength": 1},
    Pattern: {"type": "string", "format": "regex"},
    Any: {},
    Duration: {"type": ["number", "string"], "minimum": 0, "pattern": DURATION_FORM},
    ByteSize: {"type": ["integer", "string"], "minimum": 0, "pattern": SIZE_FORM},
}
_BOUNDS: Final = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}


def of_configuration(plugins: Iterable[Any] = ()) -> dict[str, Any]:
    """The schema of a configuration file: sections at its top, or a Helm values file with them under `config`.

    `plugins` are the plugin classes whose sections it knows besides core's; a section or an option that no one has
    is an error in it, as in ``ringbinder config check``.
    """
    sections = {"$ref": "#/$defs/sections"}
    chart = dict.fromkeys(sorted(compat.CHART_VALUES), True) | {"config": sections}
    helm = {"type": "object", "properties": chart | {"binderhub": {"$ref": "#/$defs/values"}}}
    return {
        "$schema": DIALECT,
        "title": "Configuration of Ringbinder",
        "if": {"type": "object", "anyOf": [{"required": [name]} for name in sorted(compat.CHART_VALUES)]},
        "then": {"$ref": "#/$defs/values"},
        "else": sections,
        "$defs": {"sections": of_sections(plugins), "values": helm},
    }


def of_sections(plugins: Iterable[Any] = ()) -> dict[str, Any]:
    """The schema of a mapping of sections: those of core, of `plugins` (their classes), and BinderHub's others."""
    classes: dict[str, list[type[Any]]] = {name: [cls] for name, cls in CORE_SECTIONS.items()}
    for plugin in plugins:
        for section in getattr(plugin, "sections", ()):
            classes.setdefault(section, []).append(getattr(plugin, "Config", NoOptions))
            if hasattr(plugin, "resolve"):
                classes[section].append(RepoOptions)
    names = sorted({*classes, *compat.OPTIONS})
    return {
        "type": ["object", "null"],
        "properties": {name: _section(name, classes.get(name, ())) for name in names},
        "additionalProperties": False,
    }


def of_class(cls: type[Any]) -> dict[str, Any]:
    """The schema of a mapping that becomes an instance of the attrs class `cls`."""
    properties = dict(_properties(cls))
    required = [a.alias for a in attrs.fields(cls) if a.init and a.default is attrs.NOTHING]
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def of_type(kind: Any) -> dict[str, Any]:
    """The schema of an option's type. A type that Ringbinder does not know takes any value."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if attrs.has(kind):
        return of_class(kind)
    base, arguments = get_origin(kind) or kind, get_args(kind)
    if base is re.Pattern:
        return dict(_PLAIN[Pattern])
    if base is Literal:
        return {"enum": list(arguments)}
    if base in (Union, types.UnionType):
        return {"anyOf": [of_type(member) for member in arguments]}
    if isinstance(base, type) and issubclass(base, Mapping):
        return {"type": "object", "additionalProperties": _or_null(of_type(arguments[1])) if arguments else {}}
    if isinstance(base, type) and issubclass(base, Sequence | AbstractSet):
        return _sequence(base, arguments)
    return {}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, or null, which means that the value is not given."""
    if "anyOf" in schema:
        null = {"type": "null"}
        return schema if null in schema["anyOf"] else {**schema, "anyOf": [*schema["anyOf"], null]}
    if "enum" in schema:
        return {**schema, "enum": list(dict.fromkeys([*schema["enum"], None]))}
    if isinstance(kinds := schema.get("type"), str | list) and "null" not in kinds:
        return {**schema, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}
    return schema


def _sequence(base: type, arguments: tuple[Any, ...]) -> dict[str, Any]:
    if issubclass(base, tuple) and arguments and arguments[-1] is not Ellipsis:
        size = len(arguments)
        items = {"prefixItems": [of_type(item) for item in arguments], "items": False}
        return {"type": "array", "minItems": size, "maxItems": size, **items}
    return {"type": "array", "items": of_type(arguments[0]) if arguments else {}}


def _section(name: str, classes: Iterable[type[Any]]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for cls in classes:
        for option, schema in _properties(cls):
            properties.setdefault(option, _or_null(schema))  # another section may have it
    for option in sorted(compat.OPTIONS.get(name, ())):
        properties.setdefault(option, {"description": "BinderHub's; known, but not used by this version."})
    for section, option in compat.GONE:
        if section == name:
            properties.pop(option, None)
    if name == "EventLog":
        properties["delivery"]["additionalProperties"] = of_class(DeliverySettings)
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _properties(cls: type[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each option of `cls`: its name in a file, and its schema with meaning, default and bounds."""
    hints = get_type_hints(cls, include_extras=True)
    for attribute in attrs.fields(cls):
        if not attribute.init:
            continue
        schema = of_type(hints[attribute.name])
        if attribute.default is not attrs.NOTHING:
            schema = _or_null(schema)
        if meaning := attribute.metadata.get("help"):
            schema["description"] = meaning
        if (default := _default(attribute)) is not attrs.NOTHING:
            schema["default"] = default
        yield attribute.alias, schema | dict(_bounds(attribute.validator))


def _default(attribute: Any) -> Any:
    """The default as it would stand in a file; NOTHING where there is none, or where it is computed or secret."""
    default = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = attrs.NOTHING if default.takes_self else default.factory()
    try:
        return plain_value(default)
    except TypeError:
        return attrs.NOTHING


def plain_value(value: Any) -> Any:
    """`value` as it would stand in a file. Raises TypeError if it is not of a type that files have."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Pattern):
        return value.pattern
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(map(plain_value, value))
    if isinstance(value, Sequence):
        return [plain_value(item) for item in value]
    raise TypeError(f"{type(value).__name__} is no value of a file")


def _bounds(validator: Any) -> Iterator[tuple[str, Any]]:
    """What attrs' own validators of numbers and patterns say, in the words of JSON Schema."""
    inner = getattr(validator, "validator", None)
    for part in (*getattr(validator, "_validators", ()), *([inner] if inner else ())):
        yield from _bounds(part)
    if word := _BOUNDS.get(getattr(validator, "compare_op", "")):
        yield word, validator.bound
    if isinstance(pattern := getattr(validator, "pattern", None), re.Pattern):
        yield "pattern", f"^(?:{pattern.pattern})$"
