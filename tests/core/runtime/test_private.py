"""What Ringbinder keeps is for its own user: nobody else of the machine reads it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from ringbinder.runtime.private import make_private, private, remove_access_of_others

if TYPE_CHECKING:
    from tests.cli.conftest import Program

Sets = Callable[..., list[str]]


def open_to_others(folder: Path) -> dict[str, str]:
    """Everything in `folder`, itself too, that group or others have a permission on."""
    modes = {str(path.relative_to(folder)): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {
        name: oct(facts.st_mode)
        for name, facts in modes.items()
        if facts.st_mode & 0o077 and not stat.S_ISLNK(facts.st_mode)
    }


def serve_once(ringbinder: Program, *options: str, umask: int = 0) -> None:
    """Runs the server for one launch, which fills stores, spools and sinks."""
    before = os.umask(umask)
    try:
        process = ringbinder.start("serve", "--port", 0, *options)
    finally:
        os.umask(before)
    with process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        # The server holds a stream open after its last event: until the client leaves.
        with httpx.stream("GET", f"{address}build/fake/owner/name/main", timeout=60, trust_env=False) as response:
            assert any('"ready"' in line for line in response.iter_lines())
        process.terminate()
        assert process.wait(60) == 0


SINKS = {
    "Ringbinder__sinks": "[jsonlines, sqlite]",
    "EventLog__delivery": "{jsonlines: {mode: at_least_once}}",
}


def test_state_folder_new_is_private(ringbinder: Program, fakes: Sets) -> None:
    serve_once(ringbinder, *fakes(**SINKS))
    state = ringbinder.folder / "state"
    names = {path.name for path in state.rglob("*")}
    assert {"ringbinder.sqlite", "events.jsonl", "events.sqlite", "spool", "lock", "mark"} <= names
    assert open_to_others(state) == {}
    assert open_to_others(ringbinder.folder / "cache") == {}


def test_state_folder_of_earlier_version_is_tightened(ringbinder: Program, fakes: Sets) -> None:
    state, elsewhere = ringbinder.folder / "state", ringbinder.folder / "elsewhere"
    serve_once(ringbinder, *fakes(**SINKS))
    elsewhere.write_text("not ours")
    (state / "sessions" / "one").mkdir(parents=True)
    (state / "sessions" / "one" / "session.json").write_text("{}")
    (state / "sessions" / "one" / "link").symlink_to(elsewhere)
    (state / "link").symlink_to(elsewhere)
    os.mkfifo(state / "fifo")
    for path in [state, *state.rglob("*"), elsewhere]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert ringbinder("sessions", "list", *fakes()).returncode == 0
    left = open_to_others(state)
    assert {name for name in left if name.count("/") < 2} == {".", "fifo"} - {"."}
    assert elsewhere.stat().st_mode & 0o777 == 0o644, "followed a link"


def test_folder_that_others_need_is_left_as_it_is(ringbinder: Program, fakes: Sets) -> None:
    shared = ringbinder.folder / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    done = ringbinder("images", "list", "-v", *fakes(), RINGBINDER_STATE=str(shared))
    assert done.returncode == 0
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert f"other programs need {shared} as well" in done.stderr
    home = ringbinder("images", "list", "-v", *fakes(), RINGBINDER_STATE=str(ringbinder.folder))
    assert f"other programs need {ringbinder.folder} as well" in home.stderr


def test_make_private_makes_parents_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
        make_private(tmp_path / "a" / "b")
        with open(tmp_path / "a" / "file", "w", opener=private):
            pass
    finally:
        os.umask(before)
    assert open_to_others(tmp_path / "a") == {}
    with pytest.raises(NotADirectoryError):
        make_private(tmp_path / "a" / "file")
    with pytest.raises(NotADirectoryError):
        make_private(tmp_path / "a" / "file" / "b")


def test_remove_access_of_others_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o666)
    (tmp_path / "file").chmod(0o666)
    (tmp_path / "link").symlink_to("file")
    remove_access_of_others(str(tmp_path / "link"))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666
    remove_access_of_others(str(tmp_path / "file"))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
