"""Temporary folders of a process that was killed with SIGKILL: gone with the next one's."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ringbinder.runtime.tempfolder import remove_abandoned, temporary_folder
from ringbinder.testing.gitserver import GitServer

FETCH = """
import asyncio, sys
from pathlib import Path
from ringbinder.model import GitSource, LaunchRequest
from ringbinder.testing import RecordingLog, make_context
from ringbinder_providers.git import GitOptions, GitProvider
from urllib.parse import quote

async def main(own, url, into):
    context = make_context(Path(own), "git")
    provider = GitProvider(GitOptions(), context)
    repo = await provider.resolve(LaunchRequest("git", f"{quote(url, safe='')}/" + "1" * 40))
    await provider.fetch(repo, Path(into), RecordingLog())

asyncio.run(main(*sys.argv[1:]))
"""


def folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()]


@pytest.mark.real("git")
async def test_folder_of_a_fetch_that_was_killed_is_swept(git_server: GitServer, tmp_path: Path) -> None:
    parent, into = tmp_path / "own/cache/tmp", tmp_path / "into"
    git_server.repository("r").commit({"a": "a"})
    into.mkdir()
    async with git_server.stalled():
        argv = [sys.executable, "-c", FETCH, str(tmp_path / "own"), git_server.url("r"), str(into)]
        fetching = await asyncio.create_subprocess_exec(*argv)
        while not git_server.requests:
            assert fetching.returncode is None
            await asyncio.sleep(0.02)
        [left] = folders(parent)
        assert (left / ".gitconfig").exists()

        async with temporary_folder(parent) as beside:
            assert folders(parent) != [beside]
        assert folders(parent) == [left], "the folder of a living process was taken away"

        fetching.kill()
        assert await fetching.wait() == -signal.SIGKILL
        assert folders(parent) == [left]
        async with temporary_folder(parent) as beside:
            assert folders(parent) == [beside]
    assert folders(parent) == []


async def test_sweep_leaves_folders_of_living_processes(tmp_path: Path) -> None:
    async with temporary_folder(tmp_path) as living:
        assert living.stat().st_mode & 0o777 == 0o700
        left = tmp_path / "left"
        (left / "deep").mkdir(parents=True)
        outside = tmp_path.parent / f"{tmp_path.name}-outside"
        outside.mkdir()
        (outside / "canary").touch()
        (left / "deep/link").symlink_to(outside)
        (tmp_path / "linked").symlink_to(outside)

        await asyncio.to_thread(remove_abandoned, tmp_path)

        assert living in folders(tmp_path)
        assert not left.exists()
        assert (outside / "canary").exists()


def test_killed_holder_keeps_no_lock(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from ringbinder.runtime.tempfolder import temporary_folder\n"
        "async def main():\n"
        "    async with temporary_folder(Path(sys.argv[1])):\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert len(folders(tmp_path)) == 1
    remove_abandoned(tmp_path)
    assert folders(tmp_path) == []
