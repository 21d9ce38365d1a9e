"""Readers of JSON, TOML and YAML that strangers have written: bounded in bytes, depth, values, aliases and steps.

What is too much is counted before anything is built of it. The messages say where a document is wrong, and hold at
most one short excerpt of it. Those that block do so for a second at worst: call them off the event loop.
"""

from __future__ import annotations

import asyncio
import json
import reprlib
import tomllib
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Final

from ..errors import RingbinderError

RECIPE_BYTES: Final = 256 * 1024
"""Files that people write: an exported environment.yml of 500 packages has 20 kB."""
LOCK_BYTES: Final = 4 * 1024**2
"""Lock files, which programs write: one of 1,000 packages has 2 MB."""
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 20_000
MAX_LOCK_VALUES: Final = 400_000

_SMALL: Final = 64 * 1024
_EXCERPT: Final = 60
_NUMBER: Final = 64
# tomllib looks at every beginning of a dotted key, and in each table at the whole key of its header.
_MAX_KEY_STEPS: Final = 5_000_000
_MAX_HEADER_DOTS: Final = 64
_TEXT_TAG: Final = "tag:yaml.org,2002:str"


class MalformedError(RingbinderError):
    """A document is wrong or too large; the message goes after the name of its file."""


class TooLargeError(MalformedError):
    """A document is beyond a limit, whether it is well-formed or not."""


def excerpt(value: object, limit: int = _EXCERPT) -> str:
    """Return the beginning of `value` in one line without control characters, for a message."""
    text = value if isinstance(value, str) else _short_repr(value)
    line = " ".join(text[: 4 * limit].split())
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[: limit - 3]}..."


def parse_json(content: bytes, *, values: int = MAX_VALUES, depth: int = MAX_DEPTH) -> Any:
    """Return what the JSON document `content` holds. Raises `MalformedError`."""
    # An upper bound, since commas in texts are counted too; no value is without one of these but the first.
    _require(sum(map(content.count, (b",", b"[", b"{", b":"))) < values, f"has more than {values} values")
    return _checked(lambda: json.loads(content.decode("utf-8-sig")), depth)


async def parse_json_aside(content: bytes, *, values: int = MAX_VALUES, depth: int = MAX_DEPTH) -> Any:
    """Return what `parse_json` does; a large document is parsed in a thread."""
    if len(content) <= _SMALL:
        return parse_json(content, values=values, depth=depth)
    return await asyncio.to_thread(parse_json, content, values=values, depth=depth)


async def read_bounded(pieces: AsyncIterable[bytes], limit: int) -> bytes:
    """Return a body that arrives in `pieces`. Raises `TooLargeError` beyond `limit` bytes."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        _require(len(body) <= limit, f"has more than {limit} bytes")
    return bytes(body)


async def read_json(pieces: AsyncIterable[bytes], limit: int, *, values: int = MAX_VALUES) -> Any:
    """Return what the JSON document holds that arrives in `pieces`. Raises `MalformedError`."""
    return await parse_json_aside(await read_bounded(pieces, limit), values=values)


def check_shape(value: object, shape: Any, place: str = "") -> None:
    """Raises `MalformedError` if `value`, as of `parse_json`, has another type than `shape`, somewhere.

    A shape is a type; a list with the shape of each item; or a dict with the shapes of its keys, of which the key
    ``str`` stands for every key, and a key with a question mark at its end may be missing or null.
    """
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise _mistyped(value, list, place)
        for item in value:
            check_shape(item, shape[0], f"{place}[]")
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _mistyped(value, dict, place)
        for key, inner in shape.items():
            if key is str:
                for item in value.values():
                    check_shape(item, inner, f"{place}.*")
                continue
            name = key.removesuffix("?")
            if (item := value.get(name)) is not None or name == key:
                check_shape(item, inner, f"{place}.{name}")
    elif not isinstance(value, shape):
        raise _mistyped(value, shape, place)


def _mistyped(value: object, kind: type, place: str) -> MalformedError:
    where = f" at {place.removeprefix('.')}" if place else ""
    return MalformedError(f"has the type {type(value).__name__}, not {kind.__name__}{where}")


def parse_toml(content: bytes, *, values: int = MAX_VALUES, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Return what the TOML document `content` holds. Raises `MalformedError`."""
    text = _text(content)
    _require(sum(map(text.count, ",[{=\n")) < values, f"has more than {values} values")
    steps = 0
    for line in text.split("\n"):
        if dots := line.count("."):
            steps += dots * dots
            header = line.lstrip(" \t").startswith("[")
            _require(steps <= _MAX_KEY_STEPS and not (header and dots > _MAX_HEADER_DOTS), "has keys of too many parts")
    found: dict[str, Any] = _checked(lambda: tomllib.loads(text), depth)
    return found


def parse_yaml(content: bytes, *, values: int = MAX_VALUES, depth: int = MAX_DEPTH) -> Any:
    """Return what the one YAML document `content` holds. Raises `MalformedError`, also for aliases and tags."""
    import yaml

    text = _text(content)

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # decided at run time
        def resolve(self, kind: type[yaml.Node], value: str, implicit: Any) -> Any:
            # The conversion of `1:1:1:...` is quadratic, and no number or date is so long.
            if kind is yaml.ScalarNode and len(value) > _NUMBER:
                return _TEXT_TAG
            return super().resolve(kind, value, implicit)

    def build() -> Any:
        _survey(yaml.parse(text, Loader=Loader), values, depth)
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a subclass of the safe loader

    try:
        return _checked(build, depth)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise MalformedError(f"is no valid YAML: {excerpt(error.problem or error.context or '')}{place}") from None
    except yaml.YAMLError as error:
        raise MalformedError(f"is no valid YAML: {excerpt(str(error))}") from None


def _survey(events: Iterable[Any], values: int, depth: int) -> None:
    """Refuses a document by its events, before a loader follows aliases or calls itself for each level."""
    import yaml

    count = level = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise TooLargeError(f"has the alias *{excerpt(event.anchor)}: write out what it stands for")
        if isinstance(event, yaml.NodeEvent):
            _require((count := count + 1) <= values, f"has more than {values} values")
            tag = getattr(event, "tag", None)
            _require(tag in (None, "!", _TEXT_TAG), f"has the tag {excerpt(tag)}, which is not read")
        if isinstance(event, yaml.CollectionStartEvent):
            _require((level := level + 1) <= depth, f"is nested more than {depth} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1


def _checked(build: Callable[[], Any], depth: int) -> Any:
    try:
        content = build()
    except RecursionError:
        raise TooLargeError(f"is nested more than {depth} levels deep") from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"is no valid JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except UnicodeDecodeError:
        raise MalformedError("is no text in UTF-8") from None
    except ValueError as error:  # of tomllib, and of numbers that have too many digits
        raise MalformedError(f"cannot be read: {excerpt(str(error), 120)}") from None
    level = [content]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    _require(not level, f"is nested more than {depth} levels deep")
    return content


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MalformedError("is no text in UTF-8") from None


def _require(fine: bool, otherwise: str) -> None:
    if not fine:
        raise TooLargeError(otherwise)


def _short_repr(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # more digits than Python converts
        return "a large number"
