"""`WWW-Authenticate`, as registries write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder_registries._challenges import Challenge, challenges

TOKENS = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True)
PARAMETERS = st.dictionaries(TOKENS.map(str.lower), st.text(max_size=20), max_size=4)


def spelled(challenge: Challenge) -> str:
    values = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in challenge.parameters.items()}
    return f"{challenge.scheme} " + ",".join(f'{name}="{value}"' for name, value in values.items())


@given(st.lists(st.builds(Challenge, TOKENS.map(str.lower), PARAMETERS), max_size=3), st.booleans())
def test_round_trip(offers: list[Challenge], one_header: bool) -> None:
    headers = [spelled(offer) for offer in offers]
    assert challenges([", ".join(headers)] if one_header else headers) == offers


@given(st.lists(st.text(alphabet=st.sampled_from('ab ,="\\\t') | st.characters())))
def test_anything_is_read_without_an_error(headers: list[str]) -> None:
    challenges(headers)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://auth.docker.io/token", "service": "registry.docker.io",
                         "scope": "repository:a/b:pull,push"})],
        ),
        ('Bearer realm="https://a/t"', [("bearer", {"realm": "https://a/t"})]),
        ("Bearer realm=https://a/t,service=b", [("bearer", {"realm": "https://a/t", "service": "b"})]),
        ('BEARER Realm = "//a" , Service="b"', [("bearer", {"realm": "//a", "service": "b"})]),
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        ('Basic realm="a", Bearer realm="b"', [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        ('Basic realm="never closed', [("basic", {"realm": "never closed"})]),
        ("Negotiate", [("negotiate", {})]),
        ('"" ,, = Basic realm="x"', [("basic", {"realm": "x"})]),
        ("", []),
    ],
)  # fmt: skip
def test_as_registries_write_it(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert challenges([header]) == [Challenge(*offer) for offer in expected]


@pytest.mark.parametrize("text", [" ", "a ", 'a="\\', ",", 'a="b" ', "a=", '"', "="])
def test_long_nonsense_takes_no_time(text: str) -> None:
    challenges([text * 100_000])
