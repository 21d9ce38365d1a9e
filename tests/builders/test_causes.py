"""What the log of a failed build is understood to mean.

The single lines are written in the form that the tools are known to use: most were not provoked here, those of
registries among them. The logs in `samples` are those of real builds.
"""

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
        ("ERROR: Failed to build 'mysqlclient' when getting requirements to build wheel",
         "package-build-failed", "mysqlclient"),
        ("      The 'sklearn' PyPI package is deprecated, use 'scikit-learn'", "package-not-found", "scikit-learn"),
        ("AttributeError: module 'pkgutil' has no attribute 'ImpImporter'. Did you mean: 'zipimporter'?",
         "wrong-python", "ImpImporter"),
        ("ERROR: failed to solve: docker.io/library/nosuch:latest: not found", "base-image-not-found",
         "docker.io/library/nosuch:latest"),
        ("ERROR: failed to calculate checksum of ref 1a::2b: \"/nosuch.txt\": not found", "missing-file",
         "/nosuch.txt"),
        ("fatal: repository 'https://git.example/a/b/' not found", "fetch-failed", "https://git.example/a/b/"),
        ("error: Failed to clone repository from https://git.example/a/b (ref main)", "fetch-failed",
         "https://git.example/a/b"),
        ("fatal: Authentication failed for 'https://git.example/a/b/'", "fetch-failed", "https://git.example/a/b/"),
        ("/bin/sh: 1: ./binder/postBuild: not found", "bad-file", "CRLF"),
        ("./postBuild: cannot execute: required file not found", "bad-file", "./postBuild"),
        ("/bin/sh: ./postBuild: /bin/bash^M: bad interpreter: No such file or directory", "bad-file", "./postBuild"),
        ("/usr/bin/env: 'bash\\r': No such file or directory", "bad-file", "CRLF"),
        ("/bin/sh: 1: kickstart: not found", "command-not-found", "kickstart"),
        ("denied: requested access to the resource is denied", "push-refused", "push"),
        ("unauthorized: authentication required", "push-refused", "push"),
        ("ERROR: failed to solve: failed to push r.example/x:1: server message: insufficient_scope: "
        "authorization failed",
         "push-refused", "push"),
        ("failed to push r.example/x:1: unexpected status from POST request to https://r.example/v2/x/blobs/uploads/: "
         "401 Unauthorized", "push-refused", "push"),
        ("Get \"https://r.example/v2/\": dial tcp 192.0.2.1:443: connect: connection refused", "registry-unreachable",
         "r.example"),
        ("ERROR: failed to solve: failed to push r.example:5000/x:1: failed to do request: Head "
         "\"https://r.example:5000/v2/x/blobs/sha256:0\": http: server gave HTTP response to HTTPS client",
         "registry-unreachable", "r.example:5000"),
        ("failed to resolve source metadata for docker.io/library/x:1: failed to do request: Head "
         "\"https://registry-1.docker.io/v2/library/x/manifests/1\": dial tcp: lookup registry-1.docker.io: no "
         "such host",
         "registry-unreachable", "registry-1.docker.io"),
        ("E: Failed to fetch http://deb.example/x  Temporary failure resolving 'deb.example'", "network", ""),
    ],
)  # fmt: skip
def test_a_cause_is_reported_in_words(line: str, code: str, word: str) -> None:
    found = causes.diagnose(["#8 1.0 fine\n", f"{line}\n", "#9 ERROR: process returned a non-zero code: 1\n"])
    assert found is not None
    assert found.code == code
    assert word in found.cause
    assert found.advice
    assert found.line
    assert not found.line.startswith(("#", "E: "))


PUSHED: Final = ["The push refers to repository [127.0.0.1:5000/r2d-req]\n", "e61003cadc7e: Preparing\n"]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (PUSHED, None),
        ([*PUSHED, "denied: requested access to the resource is denied\n"], "push-refused"),
        ([*PUSHED, 'Get "https://127.0.0.1:5000/v2/": dial tcp: connect: connection refused\n'],
         "registry-unreachable"),
    ],
)  # fmt: skip
def test_first_line_of_a_push_is_no_cause(lines: list[str], code: str | None) -> None:
    found = causes.diagnose([*lines, "repo2docker failed (exit code 1)"])
    assert (found and found.code) == code


@pytest.mark.parametrize("sample", sorted(SAMPLE.parent.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_log_without_a_known_reason_gets_none(sample: Path) -> None:
    """Logs of real builds, all fine but one, of which no line is a cause that is known."""
    records = [json.loads(line) for line in sample.read_text().splitlines() if line[:1] == "{"]
    assert causes.diagnose([record["message"] for record in records]) is None


def test_the_sample_of_a_failed_build_shows_why() -> None:
    messages = [json.loads(line)["message"] for line in SAMPLE.read_text().splitlines() if line[:1] == "{"]
    assert causes.telling_line(messages)
    assert "exit status" not in causes.telling_line(messages)


def test_line_with_the_failure_alone_is_no_reason() -> None:
    assert causes.telling_line(["executor failed running [/bin/sh -c exit 3]: exit code: 3\n"]) == ""


def test_colours_are_no_part_of_a_reason() -> None:
    # As docker's older builder prints what a command writes to its standard error.
    reported = ["\x1b[91m/tmp/x: line 30: /srv/mamba: No such file or directory\n\x1b[0m"]
    assert causes.telling_line(reported) == "/tmp/x: line 30: /srv/mamba: No such file or directory"


@given(st.lists(st.text()))
def test_any_text_can_be_read(lines: list[str]) -> None:
    causes.diagnose(lines)
    assert "\n" not in causes.telling_line(lines)
