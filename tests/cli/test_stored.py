"""`ringbinder images` and `ringbinder paths` over a store on disk, with other processes at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ringbinder.folder_image import FolderImage
from ringbinder_embedded.store import Store

if TYPE_CHECKING:
    from tests.cli.conftest import Program

USER = """
import asyncio, sys
from pathlib import Path
from ringbinder.folder_image import FolderImage
async def main():
    async with FolderImage(Path(sys.argv[1])).locked(shared=True):
        print("in use", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def image(state: Path, name: str, megabytes: int, launched: float | None) -> FolderImage:
    entry = Store(state / "images").entry(name)
    entry.python.parent.mkdir(parents=True)
    entry.python.symlink_to(sys.executable)
    entry.note_interpreter()
    entry.finish({"name": name, "size": megabytes * 1024**2, "built_at": 1_000_000.0})
    entry.publish()
    if launched is not None:
        lock = entry.folder.with_name(f"{entry.folder.name}.lock")
        lock.write_text("used\n")
        os.utime(lock, (launched, launched))
    return entry


@pytest.fixture
def state(ringbinder: Program) -> Path:
    state = ringbinder.folder / "state"
    image(state, "old:1", 10, 2_000_000.0)
    image(state, "never:1", 10, None)
    image(state, "new:1", 10, 3_000_000.0)
    return state


def names(ringbinder: Program) -> list[str]:
    done = ringbinder("images", "list", "--json")
    assert done.returncode == 0, done.stderr
    return [record["name"] for record in json.loads(done.stdout)]


def test_images_are_listed_by_their_last_launch(ringbinder: Program, state: Path) -> None:
    assert names(ringbinder) == ["new:1", "old:1", "never:1"]
    done = ringbinder("images", "list")
    assert "10.0 MiB" in done.stdout
    assert "3 images, 30.0 MiB" in done.stderr


def test_the_least_recently_launched_go_first(ringbinder: Program, state: Path) -> None:
    done = ringbinder("images", "prune", "--max-size", "20M", "--dry-run")
    assert done.stdout == "would remove   10.0 MiB  never:1\n"
    assert len(names(ringbinder)) == 3
    done = ringbinder("images", "prune", "--max-size", "15M")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["never:1", "old:1"]
    assert names(ringbinder) == ["new:1"]
    assert {path.name.split("-")[0] for path in (state / "images").iterdir()} == {"new"}, "their locks too"


def test_an_image_in_use_by_any_process_stays_until_that_ends(ringbinder: Program, state: Path) -> None:
    entry = Store(state / "images").entry("never:1")
    with subprocess.Popen([sys.executable, "-c", USER, str(entry.folder)], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "in use\n"
        assert "in use  never:1" in ringbinder("images", "list").stdout
        done = ringbinder("images", "prune", "--max-size", "0", "--json")
        assert [record["name"] for record in json.loads(done.stdout)["removed"]] == ["old:1", "new:1"]
        done = ringbinder("images", "prune", "--max-size", "0")
        assert "notebooks run on them" in done.stderr
        user.kill()
    assert names(ringbinder) == ["never:1"]
    assert ringbinder("images", "prune", "--max-size", "0").returncode == 0
    assert names(ringbinder) == []
    assert "There are no images" in ringbinder("images", "list").stderr


def test_a_size_that_is_none(ringbinder: Program) -> None:
    done = ringbinder("images", "prune", "--max-size", "much")
    assert done.returncode == 2
    assert "'much' is not a size in bytes" in done.stderr


def test_without_a_size_it_needs_a_builder_with_own_limits(ringbinder: Program) -> None:
    done = ringbinder("images", "prune")
    assert done.returncode == 2
    assert "--max-size" in done.stderr


def test_paths(ringbinder: Program, state: Path) -> None:
    done = ringbinder("paths", "--json")
    found = json.loads(done.stdout)
    assert found["state"]["path"] == str(state)
    assert found["cache"]["path"] == str(ringbinder.folder / "cache")
    assert found["state"]["parts"]["images"] > 0
    assert str(state) in ringbinder("paths").stdout
    elsewhere = ringbinder("paths", "--set", f"Ringbinder.state_folder={ringbinder.folder / 'else'}")
    assert f"{ringbinder.folder / 'else'}  (empty)" in elsewhere.stdout
