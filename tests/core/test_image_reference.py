"""Names of images: the grammar, and the round trip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.image_reference import Reference, split_domain

PARTS = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
LABELS = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?", fullmatch=True)
HOSTS = st.one_of(
    st.lists(LABELS, min_size=2, max_size=4).map(".".join),
    st.just("localhost"),
    st.sampled_from(["127.0.0.1", "[::1]", "[2001:db8::1]"]),
)
PORTS = st.integers(1, 65535)
DOMAINS = st.one_of(
    HOSTS.filter(lambda host: not host.startswith("[")),
    st.builds("{}:{}".format, HOSTS, PORTS),
    st.builds("{}:{}".format, LABELS, PORTS),
)
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
TAGS = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True))
DIGESTS = st.one_of(st.just(""), st.from_regex(r"(sha256|sha512|a\+b_c):[0-9a-f]{64}", fullmatch=True))
# Without a domain, what looks like one must not come first.
HUB_PATHS = PATHS.filter(lambda path: "." not in path.partition("/")[0] and not path.startswith("localhost/"))
REFERENCES = st.one_of(
    st.builds(Reference, DOMAINS, PATHS, TAGS, DIGESTS),
    st.builds(Reference, st.just(""), HUB_PATHS, TAGS, DIGESTS),
)


@given(REFERENCES)
def test_round_trip(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(st.text())
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        found = Reference.parse(text)
    except ValueError:
        return
    assert str(found) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", Reference("", "x")),
        ("x:1", Reference("", "x", "1")),
        ("user/x:1", Reference("", "user/x", "1")),
        ("registry/ns/x", Reference("", "registry/ns/x")),
        ("localhost/x", Reference("localhost", "x")),
        ("localhost:5000/x", Reference("localhost:5000", "x")),
        ("[::1]:5000/x:1", Reference("[::1]:5000", "x", "1")),
        ("gcr.io/project/x:1", Reference("gcr.io", "project/x", "1")),
        ("registry:5000/a/b/c/d/e:1", Reference("registry:5000", "a/b/c/d/e", "1")),
        ("quay.io/a/b@sha256:" + "0" * 64, Reference("quay.io", "a/b", "", "sha256:" + "0" * 64)),
        ("q.io/a:1@sha256:" + "0" * 64, Reference("q.io", "a", "1", "sha256:" + "0" * 64)),
        ("a/b--c__d.e", Reference("", "a/b--c__d.e")),
    ],
)
def test_understood(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "a/", "/a", "a//b", "A", "user/A", "a:", "a:" + "t" * 129, "a@", "a@sha256:12", "a b", "a\n",
        "a/-b", "a/b-", "a/b..c", "a/b___c", "gcr.io/", "-host.io/a", "host.io:/a", "host:port/a",
        "https://host.io/a", "a" * 256, "x.io/" + "a" * 251, "a:ü", "a:1:2", "user:pass@host.io/a",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("prefix", "domain"),
    [
        ("", ""), ("a-", ""), ("a/b-", ""), ("gcr.io/p/b-", "gcr.io"), ("localhost/b-", "localhost"),
        ("r:5000/", "r:5000"), ("MyHost/b-", "MyHost"),
    ],
)  # fmt: skip
def test_the_domain_of_a_prefix(prefix: str, domain: str) -> None:
    assert split_domain(prefix)[0] == domain
