"""The leash: real processes, real signals, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder import process
from ringbinder.process import _Lines

PATIENCE = 30.0

# Starts a grandchild that daemonises (two forks, a session of its own), then sleeps; both write their pids.
FAMILY = """
import os, sys, time
out = sys.argv[1]
def tell(name):
    with open(os.path.join(out, name + ".new"), "w") as file:
        file.write(str(os.getpid()))
    os.rename(os.path.join(out, name + ".new"), os.path.join(out, name))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        tell("daemon")
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists(os.path.join(out, "daemon")):
    time.sleep(0.01)
tell("command")
time.sleep(float(sys.argv[2]))
"""

HOLDER = """
import asyncio, sys
from pathlib import Path
from ringbinder import process
async def main():
    folder = Path(sys.argv[1])
    for number in (1, 2):
        (folder / str(number)).mkdir()
        argv = [sys.executable, "-c", sys.argv[2], str(folder / str(number)), "600"]
        await process.start(argv, cwd=folder, env=process.minimal_env())
    await asyncio.Event().wait()
asyncio.run(main())
"""


# Has not yet reported whether the command was started when it is asked to end.
SLOW_LEASH = """
import os, sys
with open("new", "w") as file:
    file.write(str(os.getpid()))
os.rename("new", "pid")
os.read(int(sys.argv[1]), 10)
"""

# What `measured_leash` has run in the leash's place: it sees none of the variables and packages that measure others.
MEASURED = """
import runpy, sys
sys.path += {path!r}
import coverage
measuring = coverage.Coverage(config_file={config!r}, messages=False)
measuring.set_option("run:patch", ["_exit", "execv"])
measuring.start()
try:
    runpy.run_path({leash!r}, run_name="__main__")
finally:
    measuring.save()
"""


@pytest.fixture(autouse=True)
def measured_leash(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `make coverage` see the leash, which runs without site-packages and in its command's environment."""
    if config := os.environ.get("COVERAGE_PROCESS_CONFIG"):
        script = tmp_path_factory.mktemp("leash") / "measured.py"
        script.write_text(MEASURED.format(path=sys.path, config=f":data:{config}", leash=process._LEASH))
        monkeypatch.setattr(process, "_LEASH", str(script))


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


async def pid_in(file: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} was not written"
        await asyncio.sleep(0.02)
    return int(file.read_text())


def runs(pid: int) -> bool:
    """Whether it has not ended; who must collect an orphan, and when, is no matter of ours."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def gone(*pids: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while left := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        await asyncio.sleep(0.02)


async def test_run_gives_output_errors_and_exit_code() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = await process.run(python(code), timeout=PATIENCE)
    assert done == process.Completed(3, "out\n", "err\n")


async def test_run_returns_the_signal_as_a_negative_code() -> None:
    done = await process.run(python("import os; os.kill(os.getpid(), 9)"), timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL


async def test_run_writes_input_and_reads_it_back() -> None:
    text = "ä\n" * 200_000
    done = await process.run(["cat"], input=text, timeout=PATIENCE)
    assert done.output == text


async def test_input_that_no_one_reads_is_no_error() -> None:
    done = await process.run(["true"], input="x" * 5_000_000, timeout=PATIENCE)
    assert done.returncode == 0


async def test_input_is_empty_unless_it_is_given() -> None:
    done = await process.run(["cat"], timeout=PATIENCE)
    assert (done.returncode, done.output) == (0, "")


async def test_run_drops_output_beyond_its_limit_and_still_ends() -> None:
    code = "import sys; sys.stdout.write('a' * 1_000_000); sys.stderr.write('b' * 1_000_000)"
    done = await process.run(python(code), output_limit=1000, timeout=PATIENCE)
    assert (done.output, done.errors, done.returncode) == ("a" * 1000, "b" * 1000, 0)


async def test_bad_bytes_are_replaced() -> None:
    code = r"import sys; sys.stdout.buffer.write(b'a\xffb')"
    assert (await process.run(python(code), timeout=PATIENCE)).output == "a\ufffdb"


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await process.run(["no-such-program"], timeout=PATIENCE)
    with pytest.raises(FileNotFoundError):
        await process.start(["true"], cwd=tmp_path / "absent", env={})


async def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x")
    with pytest.raises(PermissionError):
        await process.run([str(tmp_path / "text")], timeout=PATIENCE)


async def test_null_characters_are_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        await process.run(["echo", "a\0b"], timeout=PATIENCE)


async def test_the_environment_is_exactly_what_was_given(tmp_path: Path) -> None:
    lines: list[str] = []
    command = await process.start(["/usr/bin/env"], cwd=tmp_path, env={"ONLY": "this"}, on_line=lines.append)
    assert await command.wait() == 0
    assert lines == ["ONLY=this"]


async def test_the_default_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACCESS_TOKEN", "planted")
    monkeypatch.setenv("HOME", "/planted")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    done = await process.run(["/usr/bin/env"], timeout=PATIENCE)
    assert "planted" not in done.output
    assert {"LC_ALL=C.UTF-8", "https_proxy=http://proxy.example:3128"} <= set(done.output.splitlines())


def test_addresses_with_passwords_are_left_out_on_request() -> None:
    env = {"http_proxy": "http://user:word@proxy:1/", "HTTPS_PROXY": "http://proxy:1/a@b", "PATH": "/bin"}
    assert process.without_credentials(env) == {"HTTPS_PROXY": "http://proxy:1/a@b", "PATH": "/bin"}


async def test_the_environment_never_stands_on_a_command_line(tmp_path: Path) -> None:
    command = await process.start(["sleep", "60"], cwd=tmp_path, env={"TOKEN": "planted", "PATH": os.environ["PATH"]})
    family = psutil.Process(command.pid).children(recursive=True)
    words = [word for one in (psutil.Process(command.pid), *family) for word in one.cmdline()]
    await command.stop()
    assert words
    assert not any("planted" in word for word in words)


async def test_a_time_limit_ends_the_whole_tree(tmp_path: Path) -> None:
    waiting = asyncio.create_task(process.run(python(FAMILY, str(tmp_path), "600"), timeout=3))
    daemon, command = await pid_in(tmp_path / "daemon"), await pid_in(tmp_path / "command")
    with pytest.raises(TimeoutError, match="3 seconds"):
        await waiting
    assert not psutil.pid_exists(daemon)
    assert not psutil.pid_exists(command)


async def test_cancelling_ends_the_whole_tree_before_it_returns(tmp_path: Path) -> None:
    running = asyncio.create_task(process.run(python(FAMILY, str(tmp_path), "600"), timeout=PATIENCE))
    daemon, command = await pid_in(tmp_path / "daemon"), await pid_in(tmp_path / "command")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not psutil.pid_exists(daemon)
    assert not psutil.pid_exists(command)


async def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    done = await process.run(python(FAMILY, str(tmp_path), "0"), timeout=PATIENCE)
    assert done.returncode == 0
    assert not psutil.pid_exists(int((tmp_path / "daemon").read_text()))


async def test_a_killed_ringbinder_takes_everything_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), FAMILY]) as holder:
        try:
            pids = [await pid_in(tmp_path / one / who) for one in "12" for who in ("command", "daemon")]
            leashes = [child.pid for child in psutil.Process(holder.pid).children()]
        finally:
            holder.kill()
    assert len(leashes) == 2
    await gone(*pids, *leashes)


async def test_a_killed_leash_takes_its_command_with_it(tmp_path: Path) -> None:
    command = await process.start(["sleep", "600"], cwd=tmp_path, env=process.minimal_env())
    os.kill(command.pid, signal.SIGKILL)
    assert await command.wait() == -signal.SIGKILL
    await gone(command.command_pid)


async def test_stop_asks_first(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "def bye(*_): os.write(1, b'bye\\n'); sys.exit(7)\n"
        "signal.signal(signal.SIGTERM, bye); print('ready', flush=True); time.sleep(600)"
    )
    lines: asyncio.Queue[str] = asyncio.Queue()
    command = await process.start(python(code), cwd=tmp_path, env={}, on_line=lines.put_nowait)
    assert await lines.get() == "ready"
    assert await command.stop(grace=PATIENCE) == 7
    assert await lines.get() == "bye"
    assert await command.stop() == 7


async def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    )
    lines: asyncio.Queue[str] = asyncio.Queue()
    command = await process.start(python(code), cwd=tmp_path, env={}, on_line=lines.put_nowait)
    await lines.get()
    patient = asyncio.create_task(command.stop(grace=600))
    await asyncio.sleep(0)
    assert await command.stop(grace=0.2) == -signal.SIGKILL, "a shorter grace overrules a longer one"
    assert await patient == -signal.SIGKILL


async def test_a_stopped_process_can_be_ended(tmp_path: Path) -> None:
    command = await process.start(["sleep", "600"], cwd=tmp_path, env=process.minimal_env())
    os.kill(command.command_pid, signal.SIGSTOP)
    assert await command.stop(grace=PATIENCE) == -signal.SIGTERM


async def test_cancelling_a_wait_ends_nothing(tmp_path: Path) -> None:
    command = await process.start(["sleep", "600"], cwd=tmp_path, env=process.minimal_env())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(command.wait(), 0.05)
    assert psutil.pid_exists(command.command_pid)
    assert command.running
    await command.stop()
    assert not command.running


async def test_a_cancelled_stop_still_ends_the_tree_first(tmp_path: Path) -> None:
    command = await process.start(["sleep", "600"], cwd=tmp_path, env=process.minimal_env())
    stopping = asyncio.create_task(command.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not psutil.pid_exists(command.command_pid)


async def test_the_terminals_interrupt_does_not_reach_the_command(tmp_path: Path) -> None:
    command = await process.start(["sleep", "600"], cwd=tmp_path, env=process.minimal_env())
    assert os.getpgid(command.pid) != os.getpgid(0)
    assert os.getsid(command.command_pid) not in (os.getsid(0), os.getsid(command.pid))
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(command.pid, number)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(command.wait(), 0.3)
    assert await command.stop() == -signal.SIGTERM


async def test_a_command_has_the_usual_signals(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    # Python itself ignores SIGPIPE and SIGXFSZ, so a program that does not is asked.
    done = await process.run(["grep", "SigIgn", "/proc/self/status"], timeout=PATIENCE)
    ignored = int(done.output.split()[1], 16)
    # The C library keeps two numbers for itself, which Python does not count as valid.
    assert [number for number in signal.valid_signals() if ignored >> (number - 1) & 1] == []


async def test_output_goes_line_by_line_and_merged(tmp_path: Path) -> None:
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr); print('a\\rb', end='')"
    lines: list[str] = []
    command = await process.start(python(code), cwd=tmp_path, env={}, on_line=lines.append)
    await command.wait()
    assert sorted(lines) == ["a", "b", "one", "two"]


async def test_an_error_in_on_line_ends_the_command(tmp_path: Path) -> None:
    def refuse(line: str) -> None:
        raise LookupError(line)

    command = await process.start(["yes"], cwd=tmp_path, env=process.minimal_env(), on_line=refuse)
    with pytest.raises(LookupError):
        await command.wait()
    await gone(command.command_pid)


async def test_nice(tmp_path: Path) -> None:
    command = await process.start(["sleep", "60"], cwd=tmp_path, env=process.minimal_env(), nice=3)
    # The other side of exec: the status file is about whatever runs there now.
    niceness = psutil.Process(command.command_pid).nice()
    group = Path(f"/proc/{command.command_pid}/autogroup")
    sessions = group.read_text() if group.exists() else "nice 3\n"  # a kernel without
    await command.stop()
    assert niceness == psutil.Process().nice() + 3
    assert sessions.endswith("nice 3\n")


AUTOGROUPS = """
import asyncio, pathlib
from ringbinder import process

async def group():
    command = ["cat", "/proc/self/autogroup"]
    done = await process.start(command, cwd=pathlib.Path(), env=process.minimal_env(), on_line=print, nice=4)
    await done.wait()

async def main():
    await asyncio.gather(*(group() for _ in range(3)))

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups")
async def test_nice_of_several_at_once_reaches_their_sessions() -> None:
    """Only root may write autogroups at any time."""
    plain = ["setpriv", "--bounding-set=-sys_admin"] if os.geteuid() == 0 else []
    done = await process.run([*plain, sys.executable, "-c", AUTOGROUPS], timeout=60)
    assert [line.rpartition(" ")[2] for line in done.output.splitlines()] == ["4"] * 3, done.errors


async def test_leash_that_is_asked_to_end_ends_its_command(tmp_path: Path) -> None:
    command = await process.start(["sleep", "600"], cwd=tmp_path, env=process.minimal_env())
    os.kill(command.pid, signal.SIGTERM)
    assert await command.wait() == -signal.SIGTERM
    await gone(command.command_pid)


async def test_leash_that_breaks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(process, "_LEASH", str(tmp_path / "broken.py"))
    with pytest.raises(RuntimeError, match="the process that should start true ended with exit code 3"):
        await process.run(["true"], timeout=PATIENCE)


async def test_start_that_is_cancelled_leaves_no_leash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text(SLOW_LEASH)
    monkeypatch.setattr(process, "_LEASH", str(tmp_path / "slow.py"))
    starting = asyncio.create_task(process.run(["true"], cwd=tmp_path, timeout=PATIENCE))
    leash = await pid_in(tmp_path / "pid")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not psutil.pid_exists(leash)


async def test_many_at_once() -> None:
    done = await asyncio.gather(*(process.run(["echo", str(n)], timeout=60) for n in range(40)))
    assert [one.output for one in done] == [f"{n}\n" for n in range(40)]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    lines: list[str] = []
    reader = _Lines(lines.append)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for begin, end in pairwise(edges):
        reader.feed(data[begin:end])
    reader.feed(b"")
    *whole, rest = re.split("\r\n|\n|\r", data.decode(errors="replace"))
    assert lines == whole + [rest] * bool(rest)


def test_over_long_lines_are_divided() -> None:
    lines: list[str] = []
    reader = _Lines(lines.append)
    reader.feed(b"x" * 200_000)
    reader.feed(b"")
    assert "".join(lines) == "x" * 200_000
    assert max(map(len, lines)) <= 65536
