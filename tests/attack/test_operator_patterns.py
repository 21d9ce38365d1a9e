"""Regular expressions of the configuration: linear in time, and what BinderHub documents goes on working."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.config.loading import load
from ringbinder.config.settings import BinderHubSettings
from ringbinder.errors import ConfigError
from ringbinder.runtime.patterns import Pattern
from ringbinder_providers.github import GitHubOptions, GitHubProvider
from ringbinder_server.security.bans import Bans

_PYTHONS = (
    r"^(?!myorg\/.*).*", r"^(?!a|b/)(?=.*x).*|^b", r"\w+é", r"[\w-]+/\d{,3}", r"[]a]+", r"[^]a]+", r"\u00e9",
    r"a\Z", r"(?i)^(?!A)b", r"\é", r"\s+x", r"\Sq", r"[\b\d]q", r"a|(b|c)d", r"(?P<n>a)b", r"x{2,}", r"\.\*\\", "",
    r"\Wa", r"\Da", r"[\D]a", r"a||b", r"\A(?!b)[(|)]?a",
)  # fmt: skip
"""What differs between the two syntaxes, or what we take apart."""


@pytest.mark.parametrize("source", _PYTHONS)
@given(text=st.text(alphabet="aAbBxé1٣_ /.\\*q](|\xa0\ud800", max_size=7))
def test_a_pattern_means_what_it_means_in_python(source: str, text: str) -> None:
    pattern = Pattern(source)
    text = text.encode("utf-8", "replace").decode() if "\ud800" in text else text
    for method in ("search", "match", "fullmatch"):
        for ours, flags in ((pattern, 0), (pattern.ignoring_case, re.IGNORECASE)):
            assert getattr(ours, method)(text) is bool(getattr(re.compile(source, flags), method)(text))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("GitHubRepoProvider.banned_specs", r"(?<!good)/evil"),
        ("RepoProvider.allowed_specs", r"(a+)\1"),
        ("RepoProvider.high_quota_specs", "^a(?!b)"),
        ("GitHubRepoProvider.spec_config", "(?>a)"),
        ("BinderHub.block_build_user_agents", "(?<!good)bot"),
    ],
)
def test_a_pattern_that_backtracks_is_refused_at_start(tmp_path: Path, option: str, value: str) -> None:
    section, _, name = option.partition(".")
    item = f"{{pattern: '{value}'}}" if name == "spec_config" else f"'{value}'"
    file = tmp_path / "config.yaml"
    file.write_text(f"{section}: {{{name}: [{item}]}}\n")
    with pytest.raises(ConfigError) as caught:
        load([file], environ={}).sections.fill(GitHubOptions, GitHubProvider.sections)
    message = str(caught.value)
    assert f"{option}[0]" in message
    assert "as in ^(?!my-group/).*" in message


def test_pattern_with_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        Pattern("a\ud800")


def test_half_a_surrogate_pair_matches_any_character() -> None:
    assert Pattern("^evil.*/x$").match("evil\ud800/x")


@pytest.mark.parametrize(
    ("agent", "starts"),
    [
        ("Googlebot/2.1", False), ("bot", False), ("ubot/1", False), ("Inderbot 1", False), ("SomethingerBot", False),
        ("BinderBot/1.0", True), ("binderbot", True), ("Mozilla/5.0 (Linux; Cubot X30)", True), ("robots", True),
        ("a web spider", False), ("Mozilla/5.0", True), ("Cubot; Yandexbot", False),
    ],
)  # fmt: skip
def test_crawlers_of_the_default_start_nothing(agent: str, starts: bool) -> None:
    bans = Bans.of(BinderHubSettings())
    assert (bans.of_builder(agent) == "") is starts
