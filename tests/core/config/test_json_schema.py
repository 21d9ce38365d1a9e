"""The JSON Schema of the configuration takes what the configuration takes, and flags what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from attrs import frozen, validators
from cattrs.errors import BaseValidationError
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ringbinder.config import json_schema as schema
from ringbinder.config.conversion import structure
from ringbinder.config.loading import load
from ringbinder.config.options import ByteSize, Duration, option
from ringbinder.plugins.discovery import installed
from ringbinder.secret import Secret

DOCUMENTED = sorted(Path(__file__).parents[2].glob("documented/*.yaml"))


@frozen
class Inner:
    needed: str
    more: int = 1


@frozen
class Options:
    name: str = option("x", help="A name.")
    count: int = option(3, help="", validator=[validators.ge(1), validators.lt(10)])
    maybe: int | None = option(None, help="", validator=validators.optional(validators.ge(0)))
    word: str = option("ab", help="", validator=validators.matches_re("[a-z]+"))
    token: Secret = option(factory=lambda: Secret("hunter2"), help="")
    wait: Duration = option(1.0, help="")
    size: ByteSize = option(1, help="")
    inner: tuple[Inner, ...] = option((), help="")
    pair: tuple[int, str] = option((1, "a"), help="")


KINDS = (
    bool, str, Secret, Path, Duration, ByteSize, Duration | None, int | str, tuple[str, ...], frozenset[str],
    tuple[bool, str], dict[str, bool], dict[str, dict[str, Any]], list[Inner], Literal["a", "b"], Any, Inner,
)  # fmt: skip
HOLDERS = {kind: frozen(type("Holder", (), {"__annotations__": {"value": kind}})) for kind in KINDS}
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-3.5, 3.5).filter(lambda x: x != int(x)),
    st.sampled_from(["", "a", "b", "12", "90s", "10 m", "1.5h", "2G", "512Mi", "3 kib", "1x", "-1s", "٣s"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["needed", "more", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def takes(rule: dict[str, Any], value: Any) -> bool:
    return bool(Draft202012Validator(rule).is_valid(value))


@given(st.sampled_from(KINDS), VALUES)
def test_a_schema_takes_what_structure_takes(kind: Any, value: Any) -> None:
    try:
        structure(HOLDERS[kind], {"value": value})
        right = True
    except BaseValidationError:
        right = False
    assert takes(schema.of_type(kind), value) is right


def test_an_option_has_its_meaning_default_and_bounds() -> None:
    rule = schema.of_class(Options)
    about = {"description": "A name.", "default": "x"}
    assert rule["properties"]["name"] == {"type": ["string", "null"], **about}
    assert rule["properties"]["pair"]["default"] == [1, "a"]
    assert "required" not in rule
    assert schema.of_class(Inner)["required"] == ["needed"]
    right: dict[str, Any]
    wrong: dict[str, Any]
    for right in ({"count": 1}, {"maybe": None}, {"maybe": 0}, {"word": "abc"}, {"inner": [{"needed": "x"}]}):
        assert takes(rule, right), right
    for wrong in (
        {"count": 0},
        {"count": 10},
        {"maybe": -1},
        {"word": "abc1"},
        {"inner": [{}]},
        {"nmae": "x"},
    ):
        assert not takes(rule, wrong), wrong


def test_no_default_shows_a_secret() -> None:
    assert "default" not in schema.of_class(Options)["properties"]["token"]


def test_a_type_that_is_unknown_takes_anything() -> None:
    assert schema.of_type(re.Match) == {}


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return schema.of_configuration([row.entry_point.load() for row in installed()])


def test_it_is_a_schema(whole: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(whole)


@pytest.mark.parametrize("file", DOCUMENTED, ids=lambda file: file.name)
def test_operators_files_are_taken(whole: dict[str, Any], file: Path) -> None:
    load([file], environ={})
    assert takes(whole, yaml.safe_load(file.read_text()))


def test_defaults_are_taken_where_they_stand(whole: dict[str, Any]) -> None:
    for name, section in whole["$defs"]["sections"]["properties"].items():
        given = {key: value["default"] for key, value in section["properties"].items() if "default" in value}
        assert takes(whole, {name: given}), name


@pytest.mark.parametrize(
    "wrong",
    [
        {"Ringbindr": {}},
        {"Ringbinder": {"bilder": "local"}},
        {"Ringbinder": {"keepalive": "soon"}},
        {"Ringbinder": []},
        {"EventLog": {"delivery": {"sqlite": {"mode": "never"}}}},
        {"GitHubRepoProvider": {"access_tokn": "x"}},
        {"config": {"GitHubRepoProvider": {"access_tokn": "x"}}},
        {"binderhub": {"config": {"BinderHub": {"image_prefix": 1, "google_analytics_code": "x"}}}},
    ],
    ids=str,
)
def test_what_the_configuration_refuses_is_flagged(whole: dict[str, Any], wrong: dict[str, Any]) -> None:
    assert not takes(whole, wrong)
