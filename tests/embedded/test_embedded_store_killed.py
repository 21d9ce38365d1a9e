"""kill -9 in the middle of builds, two processes at one image, a full disk: nothing half made is ever trusted.

``RINGBINDER_KILLS=200`` kills so many times; the figures are in docs/reference/embedded.md.
"""

from __future__ import annotations

import asyncio
import collections
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ringbinder.errors import UserError
from ringbinder.folder_image import FolderImage
from ringbinder.model import Image
from ringbinder.testing import RecordingLog, folder_plan, make_context
from ringbinder_embedded.builder import LocalBuilder, LocalBuilderOptions
from ringbinder_embedded.registry import LocalRegistry, LocalRegistryOptions

from .store_killed import context, faults, plan_of

pytestmark = [pytest.mark.real("uv", "jupyterlab"), pytest.mark.timeout(1800)]
KILLS = int(os.environ.get("RINGBINDER_KILLS", "20"))
ROOT = Path(__file__).parents[2]


_ENDLESS = """
import asyncio, sys
from pathlib import Path
from tests.embedded import store_killed
store_killed.SOURCE.pop("requirements.txt")
store_killed.SOURCE["postBuild"] = "#!/bin/sh\\nsh -c 'trap \\"\\" TERM; sleep 987 & wait'\\n"
asyncio.run(store_killed.main(*map(Path, sys.argv[1:])))
"""


_SHARED = """
import asyncio, sys
from pathlib import Path
from tests.embedded import store_killed
store_killed.SOURCE.pop("postBuild")
store_killed.SOURCE["text"] = sys.argv.pop()
asyncio.run(store_killed.main(*map(Path, sys.argv[1:])))
"""


class Place:
    """A store that is built into by processes of their own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.state, self.cache, self.source = folder / "state", cache, folder / "source" / "repo"
        self.plan = plan_of(self.source)
        self.environments = self.state / "environments"
        self.context = context(self.state, cache, make_context(folder, "local"))
        self.registry = LocalRegistry(LocalRegistryOptions(), self.context)
        self.images = self.state / "images"

    def start(self) -> subprocess.Popen[str]:
        return self._start("-m", "tests.embedded.store_killed")

    def start_endless(self) -> subprocess.Popen[str]:
        """A build whose postBuild ignores to be asked to end."""
        return self._start("-c", _ENDLESS)

    def start_shared(self, text: str) -> subprocess.Popen[str]:
        """A build whose image uses an environment that others may use; `text` is what it alone has."""
        return self._start("-c", _SHARED, source=self.source.with_name(text), more=(text,))

    def _start(self, *program: str, source: Path | None = None, more: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [sys.executable, *program, *map(str, (self.state, self.cache, source or self.source)), *more]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    async def image(self) -> Image | None:
        return await self.registry.check(self.plan, fresh=True)


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path, tmp_path_factory.getbasetemp() / "embedded" / "cache")


def whole_output(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    return output


async def test_killed_at_any_point(place: Place) -> None:
    assert whole_output(place.start()).endswith("published\n"), "it fills the cache"
    image = await place.image()
    assert image is not None
    await place.registry.delete(image)
    began = time.monotonic()
    assert whole_output(place.start()).endswith("published\n")
    length = time.monotonic() - began
    chance = random.Random(os.environ.get("RINGBINDER_KILLS_SEED", "4711"))
    outcomes: collections.Counter[str] = collections.Counter()
    for _ in range(KILLS):
        if (image := await place.image()) is not None:
            await place.registry.delete(image)
        process = place.start()
        time.sleep(chance.uniform(0, length))
        process.kill()
        whole_output(process)
        image = await place.image()
        entry = place.registry._store.entry(place.plan.image)
        if image is None:
            outcomes["draft" if entry.finished() else "half" if entry.folder.exists() else "nothing"] += 1
        else:
            outcomes["whole"] += 1
            assert faults(image) == []
    print(f"{KILLS} kills within {length:.1f} s: {dict(outcomes)}")
    assert outcomes["half"] > KILLS // 4, outcomes
    assert whole_output(place.start()).endswith("published\n"), "and the next launch builds it"
    image = await place.image()
    assert image is not None
    assert faults(image) == []
    names = {path.name for path in place.images.iterdir()}
    assert names == {image.path.name, f"{image.path.name}.lock"} if image.path else None


async def test_two_processes_make_one_image(place: Place) -> None:
    first, second = place.start(), place.start()
    outputs = [await asyncio.to_thread(whole_output, process) for process in (first, second)]
    assert all(output.endswith("published\n") for output in outputs), outputs
    image = await place.image()
    assert image is not None
    assert faults(image) == []
    assert len(await place.registry.images()) == 1


@pytest.mark.slow
async def test_shared_environment_killed_at_any_point(place: Place) -> None:
    assert whole_output(place.start_shared("first")).endswith("published\n")
    (image,) = await place.registry.images()
    await place.registry.delete(image)
    assert list(place.environments.iterdir()) == []
    began = time.monotonic()
    assert whole_output(place.start_shared("first")).endswith("published\n")
    length = time.monotonic() - began
    chance = random.Random(os.environ.get("RINGBINDER_KILLS_SEED", "4711"))
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(KILLS // 4):
        for image in await place.registry.images():
            await place.registry.delete(image)
        process = place.start_shared("one" if number % 2 else "two")
        time.sleep(chance.uniform(0, length))
        process.kill()
        whole_output(process)
        images = await place.registry.images()
        assert [faults(image) for image in images] in ([], [[]])
        whole = [path for path in place.environments.iterdir() if path.is_dir() and FolderImage(path).read()]
        outcomes["whole" if images else "environment" if whole else "nothing"] += 1
        await place.registry._sweep()
        # A draft is kept, and what it uses: its maker might be about to publish it.
        used = {FolderImage(path).environment for path in place.images.iterdir() if path.is_dir()}
        assert {FolderImage(path) for path in place.environments.iterdir() if path.is_dir()} == used
    print(f"{KILLS // 4} kills within {length:.1f} s: {dict(outcomes)}")
    assert whole_output(place.start_shared("last")).endswith("published\n"), "and the next launch builds it"


async def test_two_processes_make_one_environment(place: Place) -> None:
    """Of two commits, which have an image each."""
    processes = [place.start_shared(text) for text in ("one", "two")]
    outputs = [await asyncio.to_thread(whole_output, process) for process in processes]
    assert all(output.endswith("published\n") for output in outputs), outputs
    images = await place.registry.images()
    assert [faults(image) for image in images] == [[], []]
    used = {FolderImage(image.path).environment for image in images if image.path}
    assert len(used) == 1
    (folder,) = [path for path in place.environments.iterdir() if path.is_dir()]
    assert used == {FolderImage(folder)}


async def _until_running(folder: Path, name: str) -> list[psutil.Process]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [p for p in psutil.process_iter() if _is(p, folder, name)]
        if found:
            return found
        await asyncio.sleep(0.02)
    raise TimeoutError(name)


def _is(process: psutil.Process, folder: Path, name: str) -> bool:
    try:
        return name in process.cmdline() and str(folder) in process.environ().get("HOME", "")
    except (psutil.Error, OSError):
        return False


async def test_processes_that_nothing_ends_are_ended_at_the_next_start(place: Place) -> None:
    """The instance and its leash are killed both, so that a script of the repository goes on alone."""
    instance = place.start_endless()
    (sleeper,) = await _until_running(place.images, "987")
    bystander = subprocess.Popen(["sleep", "988"], env=os.environ | {"HOME": str(place.state)})
    try:
        leashes = [p for p in psutil.process_iter(["cmdline"]) if _leash_of(p, place.images)]
        instance.send_signal(signal.SIGSTOP)
        for leash in leashes:
            leash.kill()
        instance.kill()
        whole_output(instance)
        assert sleeper.is_running()
        await place.registry._store.sweep()
        assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE
        assert list(place.images.iterdir()) == []
        assert bystander.poll() is None, "what does not live in a folder of the store is left alone"
    finally:
        bystander.kill()
        bystander.wait()


def _leash_of(process: psutil.Process, folder: Path) -> bool:
    try:
        words = process.info["cmdline"] or []
        return any(word.endswith("_leash.py") for word in words) and str(folder) in " ".join(words)
    except psutil.Error:
        return False


async def test_a_living_instance_is_left_alone(place: Place) -> None:
    instance = place.start_endless()
    try:
        (sleeper,) = await _until_running(place.images, "987")
        await place.registry._store.sweep()
        assert sleeper.is_running()
        assert instance.poll() is None
    finally:
        instance.kill()
        whole_output(instance)
    await place.registry._store.sweep()
    assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs: run the tests as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": "numpy\n"},
        {"big": "x" * 9_000_000},
        {"postBuild": "#!/bin/sh\nhead -c 9000000 /dev/zero > big\n"},
    ],
    ids=["packages", "content", "postBuild"],
)
async def test_a_full_disk_is_reported_and_leaves_nothing(
    place: Place, small_disk: Path, tmp_path: Path, files: dict[str, str]
) -> None:
    plan = folder_plan(tmp_path / "another" / "repo", files)
    local = context(small_disk, place.cache, place.context)
    registry = LocalRegistry(LocalRegistryOptions(), local)
    target = await registry.target(plan)
    with pytest.raises(UserError) as caught:
        await LocalBuilder(LocalBuilderOptions(), local).build(plan, target, RecordingLog())
    assert caught.value.code == "disk-full", caught.value.message
    assert str(small_disk) not in caught.value.message, "it is told to strangers too"
    assert "ringbinder images prune" in caught.value.message
    assert target.folder is not None
    assert not target.folder.exists()
    assert FolderImage(target.folder).read() is None
    assert not [path for path in small_disk.glob("environments/*") if path.is_dir()]
