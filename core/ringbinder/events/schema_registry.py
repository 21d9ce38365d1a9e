"""The schemas of events: one JSON Schema a version, each with the question that the event answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import resources
from typing import Any, Final, get_args

from attrs import define, field

from ..config.event_settings import Level

RESERVED: Final = frozenset({"timestamp", "schema", "version"})
"""Keys of the capsule, which no field may be named after."""

_PRIVATE_NAME: Final = re.compile(
    r"(^|_)(ip|addr|address|user_agent|token|password|passwd|secret|credentials?|authorization|cookie|api_?key)(_|$)",
    re.IGNORECASE,
)


class SchemaError(ValueError):
    """A schema does not keep the rules for events."""


@define(eq=False, slots=False)
class Schema:
    """One version of one event; `document` is its JSON Schema (2020-12), flat, with keywords of our own.

    ``version``, ``question`` (what the event answers), ``level`` (default: info), and at a property
    ``private`` (it may tell a client's address or a credential).
    """

    name: str
    version: int
    document: Mapping[str, Any]

    @property
    def level(self) -> Level:
        level: Level = self.document.get("level", "info")
        return level

    @property
    def fields(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.document.get("properties", {})
        return found

    @cached_property
    def validator(self) -> Any:
        from jsonschema import Draft202012Validator

        return Draft202012Validator(dict(self.document))

    def problem(self, fields: Mapping[str, Any]) -> str | None:
        """What is wrong with the fields of an event, without their values; None if they are right."""
        error = next(iter(self.validator.iter_errors(dict(fields))), None)
        if error is None:
            return None
        where = ".".join(str(step) for step in error.absolute_path)
        match error.validator:
            case "required":
                missing = sorted(set(error.validator_value) - set(error.instance))
                return f"fields are missing: {', '.join(missing)}"
            case "additionalProperties":
                more = sorted(set(error.instance) - set(error.schema.get("properties", {})))
                return f"the schema has no fields {', '.join(more)}"
        return f"field {where or '(all)'} breaks the rule {error.validator!r} of the schema"


@define
class Catalogue:
    """The schemas by name and version: core's own, and what plugins have registered."""

    _schemas: dict[str, dict[int, Schema]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        for file in sorted(resources.files("ringbinder.events").joinpath("schemas").iterdir(), key=lambda f: f.name):
            if file.name.endswith(".json"):
                self._add_core(json.loads(file.read_text(encoding="utf-8")))

    def __iter__(self) -> Iterator[Schema]:
        """The newest version of each, by name."""
        for _, versions in sorted(self._schemas.items()):
            yield versions[max(versions)]

    def get(self, name: str, version: int | None = None) -> Schema | None:
        """That version, or the newest one; None if there is none."""
        versions = self._schemas.get(name, {})
        return versions.get(version or max(versions, default=0))

    def register(self, document: Mapping[str, Any]) -> Schema:
        """Takes in the schema of a plugin; the same one twice is no error. Raises SchemaError."""
        if message := _problems(document):
            raise SchemaError(f"schema {document.get('$id', '(without $id)')!r}: {'; '.join(message)}")
        name, version = document["$id"], document["version"]
        known = self.get(name, version)
        if known is not None:
            if known.document != document:
                raise SchemaError(
                    f"schema {name!r}: version {version} exists already and is not the same; "
                    "a change needs a new version"
                )
            return known
        return self._add(Schema(name, version, document))

    def _add(self, schema: Schema) -> Schema:
        self._schemas.setdefault(schema.name, {})[schema.version] = schema
        return schema

    def _add_core(self, document: Mapping[str, Any]) -> None:
        """A field's ``since`` is the version that brought it: from it, the older versions are made."""
        for version in range(1, document["version"] + 1):
            properties = {
                name: rule for name, rule in document["properties"].items() if rule.get("since", 1) <= version
            }
            required = [name for name in document["required"] if name in properties]
            older = {**document, "version": version, "properties": properties, "required": required}
            self._add(Schema(document["$id"], version, older))


def _problems(document: Mapping[str, Any]) -> list[str]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError as Malformed

    reported: list[str] = []
    for key, kind in (("$id", str), ("version", int), ("question", str)):
        if not isinstance(document.get(key), kind) or not document[key]:
            reported.append(f"{key} is missing or not of type {kind.__name__}")
    if document.get("type") != "object" or document.get("additionalProperties") is not False:
        reported.append("it must say type: object and additionalProperties: false")
    if document.get("level", "info") not in get_args(Level):
        reported.append(f"level must be one of {', '.join(get_args(Level))}")
    try:
        Draft202012Validator.check_schema(dict(document))
    except Malformed as error:
        return [*reported, f"it is no JSON Schema: {error.message}"]
    for name, rule in document.get("properties", {}).items():
        if name in RESERVED:
            reported.append(f"{name} is a key of the capsule")
        if not isinstance(rule, Mapping):
            continue
        if _PRIVATE_NAME.search(name) and rule.get("type") != "boolean" and rule.get("private") is not True:
            reported.append(f"{name} looks private: rename it, or say private: true if it must be emitted")
    return reported


def as_markdown(catalogue: Catalogue) -> str:
    """The catalogue for the documentation."""
    return "\n".join(line for schema in catalogue for line in _section(schema))


def _section(schema: Schema) -> Iterator[str]:
    document = schema.document
    yield f"## `{schema.name}`, version {schema.version}\n"
    yield f"*{document['question']}*\n"
    yield f"{document.get('description', '')}\n"
    yield f"Level: {schema.level}.\n"
    yield "| Field | Type | Meaning |"
    yield "|---|---|---|"
    for name, rule in schema.fields.items():
        values = " or ".join(f"`{value}`" for value in rule.get("enum", ()))
        kind = values or rule.get("type", "any")
        notes = [rule.get("description", "")]
        if name not in document.get("required", ()):
            notes.append("May be missing.")
        if rule.get("since", 1) > 1:
            notes.append(f"Since version {rule['since']}.")
        yield f"| `{name}` | {kind} | {' '.join(notes)} |"
    yield ""
