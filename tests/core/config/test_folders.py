"""A state or cache folder that cannot be used is found at the start, with its path and option."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from ringbinder.config.folders import sharing, tighten
from ringbinder.runtime.paths import Paths
from ringbinder_server.cli.exitcodes import ExitCode
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from tests.cli.conftest import Program

Sets = Callable[..., list[str]]
Start = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = [("serve", "--port", "0"), ("launch", "--yes", "fake/a/b/c"), ("build", "--yes", "fake/a/b/c")]


@pytest.fixture
def bound(ringbinder: Program) -> Start:
    """Runs the program as somebody whom permissions hold: also root, then."""
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []

    def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, *ringbinder.command(*arguments)], env=ringbinder.env | env, cwd=ringbinder.folder,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


UNUSABLE = ("file", "below a file", "link to nowhere", "not writable", "below not writable", "child")


@pytest.fixture(
    params=[
        pytest.param(how, marks=[] if how in ("below a file", "not writable") else pytest.mark.slow) for how in UNUSABLE
    ]
)
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    match request.param:
        case "file":
            folder.write_text("")
        case "below a file":
            folder.write_text("")
            folder /= "state"
        case "link to nowhere":
            folder.symlink_to("nowhere")
        case "not writable":
            folder.mkdir(mode=0o500)
        case "below not writable":
            folder.mkdir(mode=0o500)
            folder = folder / "more" / "state"
        case "child":
            (folder / "spool").mkdir(parents=True)
            (folder / "spool").chmod(0o500)
    return folder


def refused(done: subprocess.CompletedProcess[str], option: str, folder: Path) -> None:
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert f"Ringbinder.{option}: {folder}" in done.stderr
    assert f"RINGBINDER_{option.partition('_')[0].upper()}" in done.stderr
    assert "Traceback" not in done.stderr


def test_state_folder_unusable_ends_the_start(bound: Start, fakes: Sets, unusable: Path) -> None:
    done = bound("serve", "--port", "0", *fakes(), RINGBINDER_STATE=str(unusable))
    refused(done, "state_folder", unusable)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_folder_unusable_ends_each_command_that_writes(
    bound: Start, fakes: Sets, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    refused(bound(*command, *fakes(), RINGBINDER_STATE=str(tmp_path / "file")), "state_folder", tmp_path / "file")
    refused(bound(*command, RINGBINDER_CACHE=str(tmp_path / "file")), "cache_folder", tmp_path / "file")


@pytest.mark.slow
def test_state_folder_unusable_is_found_by_doctor(bound: Start, fakes: Sets, unusable: Path) -> None:
    done = bound("doctor", "--json", *fakes(), RINGBINDER_STATE=str(unusable))
    assert done.returncode == ExitCode.CONFIG
    found = [line for line in json.loads(done.stdout) if line["plugin"] == "folders"]
    assert [line["level"] for line in found] == ["error"]
    assert str(unusable) in found[0]["message"]
    done = bound("config", "check", *fakes(), "--set", f"Ringbinder.state_folder={unusable}")
    assert f"warning: Ringbinder.state_folder: {unusable}" in done.stdout
    assert done.returncode == 0, "another machine may be meant"


def test_cache_folder_that_nothing_uses_may_be_unusable(bound: Start, fakes: Sets, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = bound("build", "--yes", "fake/a/b/c", *fakes(), RINGBINDER_CACHE=str(tmp_path / "file"))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_state_folder_of_another_user_is_reported(bound: Start, fakes: Sets, tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    folder.chmod(mode)
    os.chown(folder, 65534, -1)
    done = bound("build", "--yes", "-v", "fake/a/b/c", *fakes(), RINGBINDER_STATE=str(folder))
    assert f"{folder} belongs to the user nobody" in done.stderr
    assert done.returncode == (ExitCode.CONFIG if mode == 0o755 else 0)
    assert folder.stat().st_mode & 0o777 == mode


@pytest.fixture
def mounted(tmp_path: Path, require_real: Callable[..., None]) -> Iterator[Path]:
    """A small file system of its own."""
    require_real("tmpfs")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.real("tmpfs")
@pytest.mark.parametrize("full", [pytest.param(False, marks=pytest.mark.slow), True])
def test_state_folder_without_room_ends_the_start(bound: Start, fakes: Sets, mounted: Path, full: bool) -> None:
    if full:
        (mounted / "filler").write_bytes(b"\0" * 90_000)
        expected = f"there is no room left for {mounted}/state"
    else:
        subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
        expected = f"{mounted}/state cannot be made: {mounted} is on a file system that is read-only"
    for command in COMMANDS:
        done = bound(*command, *fakes(), RINGBINDER_STATE=f"{mounted}/state")
        assert done.returncode == ExitCode.CONFIG
        assert f"Ringbinder.state_folder: {expected}" in done.stderr
    assert bound("images", "list", *fakes(), RINGBINDER_STATE=f"{mounted}/state").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_folder_of_a_user_without_a_name_is_reported(tmp_path: Path) -> None:
    os.chown(tmp_path, 4_000_000, -1)
    assert sharing(tmp_path).startswith(f"{tmp_path} belongs to the user 4000000, who can change it: chown it")


def test_folder_that_cannot_be_made_private_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setattr("ringbinder.config.folders.remove_access_of_others", refuse)
    with capture_logs() as logs:
        tighten(Paths(folder, tmp_path / "absent"), structlog.get_logger())
    assert [(entry["event"], entry["folder"], entry["reason"]) for entry in logs] == [
        ("a folder could not be made private", str(folder), "Read-only file system"),
        ("a folder could not be made private", str(tmp_path / "absent"), "Read-only file system"),
    ]
