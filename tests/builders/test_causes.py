"""What the log of a failed build is understood to mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder_builders import causes

SAMPLE: Final = Path(__file__).parent / "samples" / "2026-failed.jsonl"


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("#9 2.1 ERROR: Could not find a version that satisfies the requirement nosuch (from versions: none)",
         "package-not-found", "nosuch"),
        ("ERROR: No matching distribution found for six==99", "no-matching-version", "six==99"),
        ("ERROR: ResolutionImpossible: for help visit https://pip.example", "conflicting-requirements", ""),
        ("    - nothing provides requested nosuch 1.0", "package-not-found", "nosuch"),
        ("E: Unable to locate package nosuch", "package-not-found", "nosuch"),
        ("pull access denied for nosuch/image, repository does not exist", "base-image-not-found", "nosuch/image"),
        ("dockerfile parse error line 2: unknown instruction: RUNN", "bad-file", "RUNN"),
        ("COPY failed: file not found in build context: stat nosuch.txt: not found", "missing-file", "nosuch.txt"),
        ("/bin/sh: 1: nosuch: not found", "command-not-found", "nosuch"),
        ("OSError: [Errno 28] No space left on device", "disk-full", ""),
        ("ERROR: Could not open requirements file: [Errno 2] No such file or directory: 'more.txt'",
         "missing-file", "more.txt"),
        ("error: Failed building wheel for nosuch", "package-build-failed", "nosuch"),
    ],
)  # fmt: skip
def test_a_cause_is_told_in_words(line: str, code: str, word: str) -> None:
    found = causes.diagnose(["#8 1.0 fine\n", f"{line}\n", "#9 ERROR: process returned a non-zero code: 1\n"])
    assert found is not None
    assert found.code == code
    assert word in found.cause
    assert found.advice
    assert found.line
    assert not found.line.startswith(("#", "E: "))


def test_the_sample_of_a_failed_build_says_why() -> None:
    messages = [json.loads(line)["message"] for line in SAMPLE.read_text().splitlines() if line[:1] == "{"]
    assert causes.telling_line(messages)
    assert "exit status" not in causes.telling_line(messages)


def test_what_says_only_that_it_failed_is_no_reason() -> None:
    assert causes.telling_line(["executor failed running [/bin/sh -c exit 3]: exit code: 3\n"]) == ""


def test_colours_are_no_part_of_a_reason() -> None:
    # As docker's older builder prints what a command writes to its standard error.
    told = ["\x1b[91m/tmp/x: line 30: /srv/mamba: No such file or directory\n\x1b[0m"]
    assert causes.telling_line(told) == "/tmp/x: line 30: /srv/mamba: No such file or directory"


@given(st.lists(st.text()))
def test_any_text_can_be_read(lines: list[str]) -> None:
    causes.diagnose(lines)
    assert "\n" not in causes.telling_line(lines)
