"""Which regular expressions a browser takes."""

from __future__ import annotations

import pytest
from ringbinder.plugins.javascript import javascript_problem, named_groups

GOOD = [
    r"^(https?://git\.example/)?(?<repo>.*[^/])/?",
    r"(?:a)(?=b)(?!c)(?<=d)(?<!e)[A\Z+]+x+?\\A",
    r"(?<repo>a)\k<repo>",
    r"(?<=a+)b",
    r"[^]",
    r"\(\?P<x>",
    r"[(?P<]",
]
WRONG = {
    "(?P<repo>.+)": "(?<",
    "(?<a>.)(?P=a)": r"\k<",
    r"\Agit": "^",
    r"git\Z": "$",
    "(?i)git": "write it out",
    "(?s-m:git)": "write it out",
    "(?#git)": "write it out",
    "(?>git)": "write it out",
    "(a)?(?(1)b|c)": "write it out",
    "a++": "write it out",
    "a{2}+": "write it out",
    "(a": "no regular expression",
    "a)": "no regular expression",
    "*a": "no regular expression",
    "[a": "no regular expression",
}


@pytest.mark.parametrize("pattern", GOOD)
def test_pattern_of_javascript_has_no_problem(pattern: str) -> None:
    assert javascript_problem(pattern) == ""


@pytest.mark.parametrize("pattern", WRONG)
def test_pattern_of_python_has_a_problem(pattern: str) -> None:
    assert WRONG[pattern] in javascript_problem(pattern)


def test_named_groups_of_javascript_are_found() -> None:
    assert named_groups(r"(?<repo>.)(?<=x)(?<ref>.)\k<repo>[^]") == {"repo", "ref"}
