"""What was typed, or pasted with the command, before the question is no consent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ringbinder_server.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from realparts.program import Program


def test_yes_typed_before_the_question_is_no_consent(ringbinder: Program) -> None:
    terminal = ringbinder.terminal("launch", "gh/a/b/HEAD")
    terminal.child.sendline("yes")
    terminal.expect(r"Run code from it on this computer\? \[y/N\] ")
    terminal.child.sendline("")
    terminal.expect("Nothing of gh/a/b was run")
    assert terminal.end() == ExitCode.TRY_AGAIN
    assert json.loads(ringbinder("consent", "list", "--json").stdout) == []
