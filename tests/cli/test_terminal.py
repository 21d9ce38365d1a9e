"""The live display and interrupts, in a real pseudo-terminal."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from ringbinder_server.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Program

Sets = Callable[..., list[str]]
FOREVER = {"FakeBuilder__build_seconds": 600}


def test_live_display(ringbinder: Program, fakes: Sets) -> None:
    options = fakes(
        FakeBuilder__lines=400, FakeBuilder__lines_per_second=200,
        FakeRegistry__push_seconds=1, FakeLauncher__launch_seconds=0.5,
    )  # fmt: skip
    terminal = ringbinder.terminal("launch", "fake/a/b/c", *options)
    terminal.expect("fake/a/b/c", r"Building +\S*\d\.\d s", "Fake build: line 3", "Pushing the image [1-9]0%")
    terminal.expect("Starting the notebook")
    address = terminal.expect(r"ready after \d+\.\d s:\s+(http://127\.0\.0\.1:1/fake/\S+/lab\?token=\w+)\r\n")
    terminal.expect("Press Ctrl-C to stop it")
    terminal.ctrl_c()
    assert terminal.end() == 0
    assert "Stopping the notebook" in terminal.seen
    last_frame = terminal.seen.rpartition("fake/a/b/c")[2]
    for step in ("Resolved the link", "Built", "Pushed the image", "Started the notebook"):
        assert step in last_frame
    assert "line 400" not in last_frame, "the tail of the log stays on the screen"
    assert terminal.seen.count(address.rpartition("=")[2]) == 1, "the token is shown more than once"


def test_a_failure_brings_the_whole_log_and_its_cause(ringbinder: Program, fakes: Sets) -> None:
    terminal = ringbinder.terminal("build", "fake/a/b/c", *fakes(FakeBuilder__lines=300, Fake__fail_at="build"))
    assert terminal.end() == ExitCode.BUILD
    log, _, cause = terminal.seen.rpartition("Failed: ")
    for number in (1, 150, 300):
        assert f"line {number} of 300" in log
    assert cause.splitlines()[0].startswith("Fake failure: `fail_at` is 'build'")
    assert "Building" in log
    assert "✗" in log


def test_colours_and_cursor_are_for_terminals_that_have_them(ringbinder: Program, fakes: Sets) -> None:
    terminal = ringbinder.terminal("build", "fake/a/b/c", *fakes(), TERM="dumb")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.seen
    assert "building  Fake build: line 20 of 20" in terminal.seen


def test_a_bug_is_logged_above_the_display(ringbinder: Program, fakes: Sets) -> None:
    options = fakes(Fake__fail_at="build", Fake__fail_with="bug")
    terminal = ringbinder.terminal("build", "fake/a/b/c", *options)
    assert terminal.end() == ExitCode.INTERNAL
    error_id = terminal.seen.partition("error_id")[2].partition("RuntimeError")[0]
    assert error_id
    assert "Internal error, id" in terminal.seen


def test_ctrl_c_while_building(ringbinder: Program, fakes: Sets) -> None:
    terminal = ringbinder.terminal("launch", "fake/a/b/c", *fakes(**FOREVER))
    terminal.expect("nothing is built")
    started = time.monotonic()
    terminal.ctrl_c()
    assert terminal.end() == ExitCode.INTERRUPTED
    assert time.monotonic() - started < 20
    assert "Stopped by an interrupt" in terminal.seen
    assert "Failed" not in terminal.seen
    assert terminal.seen.rstrip().endswith("Stopped by an interrupt.")
    assert "\x1b[?25h" in terminal.seen.rpartition("\x1b[?25l")[2], "the cursor stays hidden"


@pytest.mark.parametrize("stage", ["resolve", "check", "launch"])
def test_ctrl_c_in_any_other_stage(ringbinder: Program, fakes: Sets, stage: str) -> None:
    terminal = ringbinder.terminal("launch", "fake/a/b/c", *fakes(Fake__fail_at=stage, Fake__fail_with="hang"))
    terminal.expect("Starting the notebook" if stage == "launch" else "Resolving the link")
    terminal.ctrl_c()
    assert terminal.end() == ExitCode.INTERRUPTED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_build_with_one_last_event(ringbinder: Program, fakes: Sets, number: signal.Signals) -> None:
    with ringbinder.start("build", "fake/a/b/c", "--json", *fakes(**FOREVER)) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("nothing is built" in line for line in lines)
        process.send_signal(number)
        rest = [json.loads(line) for line in lines]
        assert process.wait(60) == 128 + number
    assert [event["phase"] for event in rest] == ["failed"]


def test_sigterm_after_ready_is_the_ordinary_end(ringbinder: Program, fakes: Sets) -> None:
    with ringbinder.start("launch", "fake/a/b/c", *fakes()) as process:
        assert process.stdout is not None
        assert "token=" in process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 0


def test_a_terminal_that_closes_ends_everything(ringbinder: Program, fakes: Sets) -> None:
    """The file that the plugin writes at its end shows that the end was an orderly one."""
    env = ringbinder.plugin(
        "witness",
        "import contextlib, pathlib\n"
        "class Plugin:\n"
        "    def __init__(self, config, context): ...\n"
        "    @contextlib.asynccontextmanager\n"
        "    async def lifespan(self):\n"
        "        yield\n"
        "        pathlib.Path('ended').touch()\n",
    )
    terminal = ringbinder.terminal("launch", "fake/a/b/c", *fakes(), **env)
    terminal.expect("Press Ctrl-C to stop it")
    assert terminal.hang_up() == 0
    assert (ringbinder.folder / "ended").exists()


def test_a_second_ctrl_c_ends_at_once(ringbinder: Program, fakes: Sets) -> None:
    env = ringbinder.plugin(
        "slow",
        "import asyncio\n"
        "class Plugin:\n"
        "    def __init__(self, config, context): ...\n"
        "    async def stop(self, server): await asyncio.sleep(600)\n",
    )
    terminal = ringbinder.terminal("launch", "fake/a/b/c", *fakes(), **env)
    terminal.expect("Press Ctrl-C to stop it")
    terminal.ctrl_c()
    terminal.expect("Stopping the notebook")
    started = time.monotonic()
    terminal.ctrl_c()
    assert terminal.end() == ExitCode.INTERRUPTED
    assert time.monotonic() - started < 10
