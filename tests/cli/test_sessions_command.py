"""Work that was done in a notebook is found again: real uv, real JupyterLab, a real terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from ringbinder_server.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Program, Terminal


TURNED = '''
"""Puts the program's time ahead by the modification time of a file, in seconds."""
import asyncio, os, time
from ringbinder.runtime.clock import SystemClock

now = time.time
time.time = lambda: now() + os.stat({ahead!r}).st_mtime

async def sleep(self, seconds):
    end = time.time() + seconds
    while (left := end - time.time()) > 0:
        await asyncio.sleep(min(left, 0.1))

SystemClock.sleep = sleep

class Plugin:
    def __init__(self, config, context):
        pass
'''


def opened(terminal: Terminal) -> httpx.Client:
    terminal.child.timeout = 600
    address = terminal.expect(r"ready after [^\r\n]+\s+(http://\S+)\r\n")
    base, token = re.fullmatch(r"(http://[^/]+/).*token=(\w[\w-]*)", address).groups()  # type: ignore[union-attr]
    return httpx.Client(base_url=base, headers={"Authorization": f"token {token}"}, timeout=60)


def test_nothing_to_list(ringbinder: Program) -> None:
    assert json.loads(ringbinder("sessions", "list", "--json").stdout) == []
    done = ringbinder("sessions", "list")
    assert (done.returncode, done.stdout) == (0, "")
    for command in (["keep", "abc"], ["open", "abc"], ["rm", "abc"], ["rm", ""]):
        unknown = ringbinder("sessions", *command)
        assert unknown.returncode == ExitCode.LINK
        assert "see `ringbinder sessions list`" in unknown.stderr


def test_session_with_a_damaged_record_is_listed(ringbinder: Program) -> None:
    state = Path(json.loads(ringbinder("paths", "--json").stdout)["state"]["path"])
    session = state / "sessions" / ("a" * 16)
    (session / "box" / "work").mkdir(parents=True)
    (session / "session.json").write_text("{")
    [first, second] = ringbinder("sessions", "list").stdout.splitlines()
    assert first.startswith(session.name)
    assert first.endswith(f"its record {session / 'session.json'} is damaged")
    assert second == f"    {session / 'box' / 'work'}"


@pytest.mark.real("git", "uv", "jupyterlab")
@pytest.mark.timeout(900)
def test_idle_kept_ended_saved_opened_removed(ringbinder: Program) -> None:
    repository = ringbinder.folder / "repository"
    repository.mkdir()
    (repository / "data.txt").write_text("data\n")
    ahead = ringbinder.folder / "ahead"
    ahead.touch()
    os.utime(ahead, (0, 0))
    env = ringbinder.plugin("turned", TURNED.format(ahead=str(ahead)))
    terminal = ringbinder.terminal("launch", "repository", "--set", "LocalLauncher.idle_timeout=4000", **env)
    body = {"type": "file", "format": "text", "content": "data\nmore\n"}
    with opened(terminal) as notebook:
        notebook.put("api/contents/data.txt", json=body).raise_for_status()
    os.utime(ahead, (3950, 3950))
    terminal.expect(r"is idle and will be stopped in \d+\.\d s\. Press Enter to keep it")
    terminal.child.sendline()
    terminal.expect("The notebook is kept")
    os.utime(ahead, (0, 0))
    [running] = json.loads(ringbinder("sessions", "list", "--json").stdout)
    assert running["ended"] is None
    assert ringbinder("sessions", "rm", running["id"]).returncode == ExitCode.LINK
    kept = ringbinder("sessions", "keep", running["id"][:6])
    assert kept.stdout == f"{running['id']} has its whole idle time again.\n"
    terminal.ctrl_c()
    assert terminal.end() == 0
    assert f"kept in {running['folder']}" in terminal.seen

    listed = ringbinder("sessions", "list").stdout
    assert running["id"] in listed
    assert "stopped, 1 file changed" in listed
    assert f" at {running['ref']}\n" in listed
    patch = ringbinder.folder / "work.patch"
    assert ringbinder("sessions", "keep", running["id"], patch).returncode == 0
    subprocess.run(["git", "apply", str(patch)], cwd=repository, check=True)
    assert (repository / "data.txt").read_text() == "data\nmore\n"

    again = ringbinder.terminal("sessions", "open", running["id"], "--no-browser")
    with opened(again) as notebook:
        assert notebook.get("api/contents/data.txt").json()["content"] == "data\nmore\n"
    again.ctrl_c()
    assert again.end() == 0

    assert ringbinder("sessions", "rm", running["id"]).stdout == f"Removed: {running['id']}\n"
    assert not Path(running["folder"]).exists()
    assert json.loads(ringbinder("sessions", "list", "--json").stdout) == []
