"""JSON, TOML and YAML of strangers: what is too much is refused before it is built, and no error shows a document."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.runtime.bounded import (
    MAX_DEPTH,
    MAX_VALUES,
    RECIPE_BYTES,
    MalformedError,
    TooLargeError,
    excerpt,
    parse_json,
    parse_toml,
    parse_yaml,
    read_json,
)

Parser = Callable[..., Any]
PARSERS: dict[str, Parser] = {"json": parse_json, "toml": parse_toml, "yaml": parse_yaml}
MEMORY = 64 * 1024**2
"""What a document of RECIPE_BYTES may take while it is read, Python's objects included."""


def alias_bomb() -> bytes:
    """Return less than 300 bytes that stand for three million values."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 5)}]" for n in range(1, 9)]
    return "\n".join(lines).encode()


BOMBS: dict[str, tuple[str, bytes, str]] = {
    "yaml aliases": ("yaml", alias_bomb(), "alias"),
    "yaml merge of an alias": ("yaml", b"a: &a {b: c}\nd: {<<: *a}", "alias"),
    "yaml flow depth": ("yaml", b"[" * 250_000, "nest"),
    "yaml block depth": ("yaml", b"- " * 120_000, "nest"),
    "yaml key depth": ("yaml", b"? " * 120_000, "nest"),
    "yaml values": ("yaml", b"- a\n" * 60_000, f"more than {MAX_VALUES} values"),
    "yaml tag": ("yaml", b"a: !!python/object/apply:os.system [x]", "tag"),
    "yaml number by its tag": ("yaml", b"a: !!int " + b"1:" * 100_000 + b"1", "tag"),
    "yaml documents": ("yaml", b"a\n---\nb", "another document"),
    "yaml key that is a list": ("yaml", b"[a]: b", "key"),
    "yaml bytes": ("yaml", b"a: \xff", "UTF-8"),
    "toml array depth": ("toml", b"a=" + b"[" * (MAX_DEPTH + 9) + b"]" * (MAX_DEPTH + 9), "levels deep"),
    "toml recursion": ("toml", b"a=" + b"[" * 19_000, "levels deep"),
    "toml dotted key": ("toml", b"a." * 100_000 + b"a=1", "too many parts"),
    "toml dotted keys": ("toml", (b"a." * 2_000 + b"a=1\n") * 60, "too many parts"),
    "toml long header": ("toml", b"[" + b"a." * 100 + b"a]\n" + b"b=1\n" * 900, "too many parts"),
    "toml digits": ("toml", b"a=" + b"9" * 200_000, "digits"),
    "toml values": ("toml", b"a=[" + b"{}," * 80_000 + b"]", f"more than {MAX_VALUES} values"),
    "toml bytes": ("toml", b"a='\xff'", "UTF-8"),
    "json depth": ("json", b"[" * 19_000, "levels deep"),
    "json closed depth": ("json", b"[" * 99 + b"]" * 99, "levels deep"),
    "json digits": ("json", b"9" * 200_000, "digits"),
    "json values": ("json", b"[" + b"[]," * 80_000 + b"1]", f"more than {MAX_VALUES} values"),
    "json bytes": ("json", b'"\xff"', "UTF-8"),
}


@pytest.mark.parametrize(("kind", "content", "reason"), BOMBS.values(), ids=BOMBS)
def test_bomb_of_a_recipes_size_is_refused(kind: str, content: bytes, reason: str) -> None:
    assert len(content) <= RECIPE_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError, match=reason) as caught:
            PARSERS[kind](content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("bomb", [alias_bomb(), b"- " * 120_000, b"- a\n" * 60_000])
def test_yaml_bomb_is_refused_before_it_is_loaded(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    events = 0
    parse = yaml.parse

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal events
        for event in parse(*arguments, **options):
            events += 1
            yield event

    monkeypatch.setattr(yaml, "parse", counted)
    monkeypatch.setattr(yaml, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(MalformedError):
        parse_yaml(bomb)
    assert events <= MAX_VALUES + 5


def test_long_numbers_of_yaml_are_text() -> None:
    assert parse_yaml(b"a: " + b"1:" * 100_000 + b"1")["a"].startswith("1:1:")
    assert parse_yaml(b"a: " + b"9" * 200_000)["a"] == "9" * 200_000
    assert parse_yaml(b"[1, 1.5, null, true, x]") == [1, 1.5, None, True, "x"]


@pytest.mark.parametrize(("kind", "content"), [
    ("json", b'{"a": [1, {"b": "c"}]}'),
    ("toml", b'a = [1, {b = "c"}]\n'),
    ("yaml", b"a: &unused\n- 1\n- b: !!str c\n"),
    ("yaml", b"\xef\xbb\xbfa: [1, {b: c}]"),
])  # fmt: skip
def test_ordinary_document_is_read(kind: str, content: bytes) -> None:
    assert PARSERS[kind](content) == {"a": [1, {"b": "c"}]}


def test_limits_are_the_callers() -> None:
    assert parse_json(b"[[1,2]]", values=5, depth=2) == [[1, 2]]
    for parse in (parse_json, parse_yaml):
        with pytest.raises(MalformedError, match="levels deep"):
            parse(b"[[[1,2]]]", depth=2)
        with pytest.raises(MalformedError, match="more than 4 values"):
            parse(b"[1,2,3,4,5,6]", values=4)


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@given(content=st.binary(max_size=200) | st.text("[]{}\"':,.=&*!?-#|> \n\t\x1ba1", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused_in_a_line(parse: Parser, content: bytes) -> None:
    message = ""
    try:
        parse(content)
    except MalformedError as error:
        message = str(error)
    assert len(message) < 200
    assert message.isprintable()


@given(value=st.text() | st.integers() | st.floats() | st.lists(st.text()) | st.none() | st.binary())
def test_excerpt_is_one_short_printable_line(value: object) -> None:
    assert len(excerpt(value)) <= 60
    assert excerpt(value).isprintable()


def test_excerpt_shows_that_it_is_cut() -> None:
    assert excerpt("a\nb\x1b]0;c") == "a b\N{REPLACEMENT CHARACTER}]0;c"
    assert excerpt("x" * 61) == "x" * 57 + "..."
    assert excerpt(" " * 1000 + "x") == "..."
    assert excerpt(10**5000) == "a large number"


async def test_body_beyond_its_limit_is_not_read_on() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"[" * 100

    with pytest.raises(TooLargeError, match="has more than 1000 bytes"):
        await read_json(endless(), 1000)
    assert taken == 11


async def test_body_in_pieces_is_one_document() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"a"', b"", b": [1]}"):
            yield piece

    assert await read_json(pieces(), 10) == {"a": [1]}
    with pytest.raises(MalformedError, match="has more than 1 values"):
        await read_json(pieces(), 11, values=1)
