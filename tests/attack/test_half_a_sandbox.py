"""A sandbox for notebooks without one for builds is said wherever somebody would look."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ringbinder.config.loading import load

if TYPE_CHECKING:
    from realparts.program import Program

HALF = ("--set", "LocalLauncher.sandbox=auto")
RISK = "code of repositories (postBuild, setup.py) runs outside of the sandbox"


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_sandbox_for_notebooks_alone_is_a_risk(mode: str) -> None:
    launcher = f"LocalLauncher.sandbox={mode}"
    [risk] = load((), environ={}, sets=[launcher]).risks
    assert RISK in risk
    assert load((), environ={}, sets=[launcher, "LocalBuilder.sandbox=off"]).risks == (risk,)
    for sets in (
        [],
        [launcher, "LocalBuilder.sandbox=auto"],
        [launcher, "LocalBuilder.sandbox=required"],
        [launcher, "Ringbinder.launcher=fake"],
    ):
        assert load((), environ={}, sets=sets).risks == ()


@pytest.mark.slow
def test_check_doctor_and_start_warn_of_half_a_sandbox(ringbinder: Program) -> None:
    check = ringbinder("config", "check", "--json", *HALF)
    assert RISK in json.loads(check.stdout)["warnings"][0]
    findings = json.loads(ringbinder("doctor", "--json", *HALF).stdout)
    assert [line["level"] for line in findings if RISK in line["message"]] == ["warning"]
    assert RISK in ringbinder("resolve", "no-link", *HALF).stderr
    with ringbinder.start("serve", "--port", 0, *HALF) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 0
        assert RISK in process.stderr.read()
