"""What strangers' servers have written, in the hub's log and in what its spawner reports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import ringbinder_launchers

SPAWNER = Path(ringbinder_launchers.__file__).with_name("spawner.py")


@pytest.fixture(scope="module")
def pattern() -> re.Pattern[str]:
    """Of the spawner, which can be imported in a hub only."""
    for node in ast.parse(SPAWNER.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_NOT_PRINTED":
            assert isinstance(node.value, ast.Call)
            return re.compile(ast.literal_eval(node.value.args[0]))
    raise AssertionError("there is no such pattern")


@pytest.mark.parametrize(
    "sign",
    [
        "\x1b",
        "\r",
        "\x9b",
        "\x7f",
        "\u061c",
        "\u200e",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\u2069",
        "\udc80",
    ],
)
def test_sign_that_steers_a_terminal_is_replaced(pattern: re.Pattern[str], sign: str) -> None:
    assert pattern.sub("?", f"a{sign}b") == "a?b"


def test_text_of_every_script_is_kept(pattern: re.Pattern[str]) -> None:
    text = "a\tb\nümlaut 日本語 עברית العربية 👩\u200d🔬"
    assert pattern.sub("?", text) == text
