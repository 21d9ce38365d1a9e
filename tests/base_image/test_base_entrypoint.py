"""`images/base/run.py`: the first process of a container, which runs the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

RUN: Final = Path(__file__).parents[2] / "images" / "base" / "run.py"
LOG: Final = ".jupyter-server-log.txt"


@contextmanager
def running(folder: Path, *command: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The program, as the entrypoint starts it, for a repository's content in `folder`."""
    argv = [sys.executable, "-I", "-S", str(RUN), *command]
    own = {"PATH": os.environ["PATH"], "REPO_DIR": str(folder), **(env or {})}
    with subprocess.Popen(argv, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run(folder: Path, *command: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, output and the log file."""
    with running(folder, *command, env=env) as process:
        output, errors = process.communicate(timeout=60)
    file = folder / LOG
    return process.returncode, output + errors, file.read_text() if file.exists() else ""


def test_run_command_copies_output_and_exit_code(tmp_path: Path) -> None:
    code, output, log = run(tmp_path, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (code, output, log) == (3, "out\nerr\n", "out\nerr\n")


def test_run_twice_keeps_the_first_log(tmp_path: Path) -> None:
    run(tmp_path, "echo", "first")
    assert run(tmp_path, "echo", "second")[2] == "first\nsecond\n"


def test_run_large_output_arrives_whole(tmp_path: Path) -> None:
    code, output, log = run(tmp_path, sys.executable, "-c", "print('x' * 3_000_000)")
    assert code == 0
    assert len(output) == len(log) == 3_000_001


@pytest.mark.parametrize("head", ["#!/bin/sh\n", ""])
def test_run_start_script_gets_the_command(tmp_path: Path, head: str) -> None:
    start = tmp_path / "start"
    start.write_text(f'{head}export WORD=kept\nexec "$@"\n')
    start.chmod(0o755)
    env = {"R2D_ENTRYPOINT": str(start)}
    assert run(tmp_path, "sh", "-c", 'echo "$WORD $0"', "jupyter lab", env=env)[:2] == (0, "kept jupyter lab\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_run_signal_reaches_the_command(tmp_path: Path, number: signal.Signals) -> None:
    script = f"trap 'echo caught; exit 7' {number.name.removeprefix('SIG')}; echo ready; while :; do read line; done"
    # From a pipe that nobody closes: the shell waits without a process of its own.
    reader, writer = os.pipe()
    argv = [sys.executable, "-I", "-S", str(RUN), "sh", "-c", script]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=reader, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "caught\n"
        assert process.wait(60) == 7
    os.close(reader)
    os.close(writer)


def test_run_command_killed_gives_128_and_signal(tmp_path: Path) -> None:
    assert run(tmp_path, "sh", "-c", "kill -KILL $$")[0] == 128 + signal.SIGKILL


def test_run_unknown_command_is_named(tmp_path: Path) -> None:
    code, output, _ = run(tmp_path, "no-such-program-here")
    assert (code, output) == (127, "no-such-program-here cannot be run: No such file or directory\n")
    assert run(tmp_path)[:2] == (127, "no command was given\n")


def test_run_ends_though_a_daemon_holds_its_output(tmp_path: Path) -> None:
    with running(tmp_path, "sh", "-c", "sleep 600 & echo $!") as process:
        assert process.wait(60) == 0
        assert process.stdout is not None
        os.kill(int(process.stdout.readline()), signal.SIGKILL)


def test_run_full_log_disk_keeps_output(tmp_path: Path) -> None:
    (tmp_path / LOG).symlink_to("/dev/full")
    with running(tmp_path, "sh", "-c", "echo one; echo two") as process:
        assert process.communicate(timeout=60)[0] == "one\ntwo\n"
        assert process.returncode == 0


def test_run_command_has_usual_signals(tmp_path: Path) -> None:
    """What Python ignores for itself, such as SIGPIPE, would be ignored in every process of the container."""
    code, output, _ = run(tmp_path, "sh", "-c", "grep SigIgn /proc/self/status")
    assert code == 0
    assert int(output.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0
