"""`ringbinder` asks before code of others runs on this computer."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from ringbinder.runtime.store import Store
from ringbinder.testing.gitserver import GitServer
from ringbinder_server.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Program

QUESTION = r"Run code from it on this computer\? \[y/N\] "


@pytest.mark.parametrize("command", ["launch", "build"])
def test_without_a_terminal_it_refuses(ringbinder: Program, command: str) -> None:
    done = ringbinder(command, "gh/a/b/HEAD")
    assert (done.returncode, done.stdout) == (ExitCode.TRY_AGAIN, "")
    assert "gh/a/b (GitHub) would run its code on this computer" in done.stderr
    assert "--yes" in done.stderr
    as_json = ringbinder(command, "gh/a/b/HEAD", "--json")
    assert as_json.returncode == ExitCode.TRY_AGAIN
    assert [json.loads(line)["code"] for line in as_json.stdout.splitlines()] == ["refused"]


@pytest.mark.parametrize("answer", ["n", "", "x"])
def test_anything_but_yes_is_no(ringbinder: Program, answer: str) -> None:
    terminal = ringbinder.terminal("launch", "gh/a/b/HEAD")
    terminal.expect(QUESTION)
    terminal.child.sendline(answer)
    terminal.expect("Nothing of gh/a/b was run")
    assert terminal.end() == ExitCode.TRY_AGAIN
    assert json.loads(ringbinder("consent", "list", "--json").stdout) == []


def test_an_interrupt_is_no(ringbinder: Program) -> None:
    terminal = ringbinder.terminal("launch", "gh/a/b/HEAD")
    terminal.expect(QUESTION)
    terminal.ctrl_c()
    assert terminal.end() == ExitCode.INTERRUPTED
    hung_up = ringbinder.terminal("launch", "gh/a/b/HEAD")
    hung_up.expect(QUESTION)
    assert hung_up.hang_up() == 129
    assert json.loads(ringbinder("consent", "list", "--json").stdout) == []


def test_where_code_runs_elsewhere_no_one_is_asked(ringbinder: Program, fakes: object) -> None:
    assert callable(fakes)
    assert ringbinder("build", "fake/a/b/c", *fakes()).returncode == 0


@pytest.mark.parametrize("known", [False, True])
def test_other_repository_of_the_path_is_asked_for(ringbinder: Program, known: bool) -> None:
    """Each time: the answer for the link's own repository is none for it."""
    if known:
        store = Store(ringbinder.folder / "state" / "ringbinder.sqlite")
        store.give_consent("gh/a/b", 1.0)
    other = quote("https://user:planted@x.example/\x1b[2Jr", safe="")
    link = f"https://hub.example/v2/gh/a/b/HEAD?urlpath={quote(f'git-pull?repo={other}&branch=main', safe='')}"
    named = "brings the files of https://x.example/r."
    refused = ringbinder("launch", link)
    assert refused.returncode == ExitCode.TRY_AGAIN
    assert named in refused.stderr
    assert "planted" not in refused.stderr
    terminal = ringbinder.terminal("launch", link)
    terminal.expect(re.escape(named), QUESTION)
    assert ("is not known here" not in terminal.seen) == known
    terminal.child.sendline("n")
    assert terminal.end() == ExitCode.TRY_AGAIN


@pytest.mark.real("git", "uv")
async def test_yes_is_remembered_until_forgotten(ringbinder: Program, git_server: GitServer) -> None:
    git_server.repository("one").commit({"a.txt": "a"})
    link = f"git/{quote(git_server.url('one'), safe='')}/HEAD"
    asked = ringbinder.terminal("build", link)

    def answer() -> int:
        asked.child.timeout = 600
        asked.expect(QUESTION)
        asked.child.sendline("yes")
        asked.expect("is remembered")
        return asked.end()

    assert await asyncio.to_thread(answer) == 0, asked.seen
    [known] = json.loads((await asyncio.to_thread(ringbinder, "consent", "list", "--json")).stdout)
    assert known["repository"] == f"git/{git_server.url('one')}"
    again = await asyncio.to_thread(ringbinder, "build", link)
    assert again.returncode == 0, again.stderr

    forgotten = await asyncio.to_thread(ringbinder, "consent", "forget", link)
    assert forgotten.stdout == f"Forgotten: {known['repository']}\n"
    assert (await asyncio.to_thread(ringbinder, "build", link)).returncode == ExitCode.TRY_AGAIN
    once = await asyncio.to_thread(ringbinder, "build", "--yes", link)
    assert once.returncode == 0, once.stderr
    assert json.loads((await asyncio.to_thread(ringbinder, "consent", "list", "--json")).stdout) == []
    assert (await asyncio.to_thread(ringbinder, "consent", "forget", link)).returncode == ExitCode.LINK
    assert (await asyncio.to_thread(ringbinder, "consent", "forget")).returncode == ExitCode.USAGE
