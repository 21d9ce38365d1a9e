"""What is diagnosed is cut before any plugin or pattern sees it, however much strangers' programs have written."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import pytest
import structlog
from ringbinder.causes import EXCERPT_BYTES, EXCERPT_LINES, LINE_BYTES, Cause, first_known, log_excerpt
from ringbinder.errors import BuildError
from ringbinder.git.errors import explained, no_such_ref
from ringbinder.launches.failures import Explainer
from ringbinder.model import Diagnosis, Failure
from ringbinder.plugins.caller import HookCaller
from ringbinder.runtime.metrics import Metrics
from ringbinder_builders import causes as of_repo2docker
from ringbinder_embedded import causes as of_embedded
from ringbinder_recipe import causes as of_uv

_BASE64 = base64.b64encode(bytes(range(256)) * 180).decode()
_CAUSE = Cause(r"no (?P<name>\w+)$", "x", "There is no {name}.", "Add it.")


class _Doctor:
    def __init__(self) -> None:
        self.failures: list[Failure] = []

    async def diagnose(self, failure: Failure) -> Diagnosis | None:
        self.failures.append(failure)
        return None


async def _diagnosed(*tail: str) -> tuple[str, ...]:
    doctor, hooks = _Doctor(), HookCaller(structlog.get_logger())
    hooks.register(doctor, "plugin:doctor", general=True)
    await Explainer(hooks, structlog.get_logger(), Metrics()).event("build", BuildError("x"), None, tail)
    return doctor.failures[0].tail


async def test_a_plugin_that_diagnoses_gets_cut_lines() -> None:
    tail = await _diagnosed(f"{_BASE64}\n", "the end\n")
    assert tail == (_BASE64[:LINE_BYTES], "the end\n")


async def test_a_plugin_that_diagnoses_gets_64_kilobytes() -> None:
    tail = await _diagnosed(*[f"{number} {_BASE64}\n" for number in range(200)])
    assert sum(map(len, tail)) <= EXCERPT_BYTES
    assert len(tail) == EXCERPT_BYTES // LINE_BYTES
    assert tail[-1].startswith("199 ")


def test_an_excerpt_of_many_lines_in_one_message_is_bounded() -> None:
    lines = log_excerpt(["\n".join(map(str, range(100_000)))])
    assert (len(lines), lines[-1]) == (EXCERPT_LINES, "99999")
    assert log_excerpt(["x", "\n" * 10_000_000, "\r \n"]) == ()
    assert log_excerpt(["é" * 5000]) == ("é" * (LINE_BYTES // 2),)
    assert log_excerpt(["half \ud800 a pair"]) == ("half ? a pair",)


def test_a_cause_is_looked_for_in_what_is_left() -> None:
    found = first_known((_CAUSE,), ["no first\n", f"{_BASE64} no third\n", "no second\r\nlast"])
    assert found is not None
    assert (found.cause, found.line) == ("There is no second.", "no second")
    assert first_known((_CAUSE,), ["no\nlines", "no "]) is None


def test_the_line_that_names_the_reason_is_cut() -> None:
    for telling_line in (of_repo2docker.telling_line, of_uv.telling_line):
        assert len(telling_line([f"Error: {_BASE64}"])) <= LINE_BYTES
    for causes in (of_repo2docker, of_embedded):
        assert causes.diagnose(["x" * 4000, _BASE64]) is None
        found = causes.diagnose([f"No space left on device {_BASE64}"])
        assert found is not None
        assert len(found.line) <= LINE_BYTES


def test_few_names_of_refs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may list 100,000 refs that are all like the one that is asked for."""
    compared: list[str] = []

    def close(word: str, names: Iterable[str], **_: object) -> list[str]:
        compared.extend((word, *names))
        return []

    monkeypatch.setattr("difflib.get_close_matches", close)
    no_such_ref("https://git.example/x", "a" * 2000, (f"{number:0200}" for number in range(100_000)))
    no_such_ref("https://git.example/x", "a" * 2000, (f"refs/heads/{number}" for number in range(100_000)))
    assert len(compared) <= 2 * 501
    assert max(map(len, compared)) <= 60


def test_the_errors_of_git_are_cut() -> None:
    error = explained("https://git.example/x", f"fatal: {'x' * 10_000_000}")
    assert len(str(error)) <= LINE_BYTES + 100
