"""Environments that images share: when one is made, how long it is kept, what damage does. No installer runs."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field
from ringbinder.errors import BuildError
from ringbinder.folder_image import FolderImage
from ringbinder.testing import RecordingLog, make_context
from ringbinder_embedded.registry import LocalRegistry, LocalRegistryOptions
from ringbinder_embedded.sandbox import Sandbox
from ringbinder_embedded.shared import EnvironmentStore, damage, environments, settle
from ringbinder_embedded.store import images

KEY = "0123456789abcdef"
DAY = 86400.0


@define
class Builds:
    """Images of one state folder, and how often an environment was made for them."""

    state: Path
    made: int = 0
    complete: bool = True
    log: RecordingLog = field(factory=RecordingLog)

    @property
    def store(self) -> EnvironmentStore:
        return environments(self.state)

    def image(self, name: str) -> FolderImage:
        return images(self.state).entry(name)

    async def make(self, environment: FolderImage) -> bool:
        self.made += 1
        environment.python.parent.mkdir(parents=True)
        environment.python.symlink_to(sys.executable)
        (environment.env.place / "lib").mkdir()
        (environment.env.place / "lib" / "module.py").write_text("ANSWER = 42\n")
        (environment.scratch.place / "left").touch()
        environment.note_interpreter()
        return self.complete

    async def build(self, name: str, *, key: str = KEY, oldest: float = 0.0, now: float = DAY) -> FolderImage:
        """Returns the environment of the image `name`, which is built and published."""
        image = self.image(name)
        for tree in (image.repo, image.home):
            tree.place.mkdir(parents=True)
        size = await self.store.share(image, key, oldest, now, self.make, self.log)
        assert size > 0
        image.finish({"name": name, "size": 1, "built_at": now})
        image.publish()
        assert image.environment is not None
        return image.environment

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.store.root.iterdir())


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    return Builds(tmp_path / "state")


@contextmanager
def failing(builds: Builds, error: BaseException) -> Iterator[None]:
    async def make(environment: FolderImage) -> bool:
        environment.env.place.mkdir()
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Builds, "make", lambda _, environment: make(environment))
        yield


async def test_images_share_the_environment_of_a_key(builds: Builds) -> None:
    first, second = await builds.build("one"), await builds.build("two")
    other = await builds.build("three", key="f" * 16)
    assert (first, builds.made) == (second, 2)
    assert other != first
    image = builds.image("two")
    assert (image.env, image.python, image.interpreter()) == (first.env, first.python, first.interpreter())
    assert image.read() == {"name": "two", "size": 1, "built_at": DAY}
    assert sorted(path.name for path in first.box.place.iterdir()) == ["env"], "and nothing temporary"
    assert "Using an environment that is there already" in builds.log.text


async def test_builds_at_once_make_one_environment(builds: Builds) -> None:
    made = await asyncio.gather(*(builds.build(name) for name in "abcd"))
    assert (len(set(made)), builds.made) == (1, 1)
    assert builds.folders() == [f"{KEY}-1", f"{KEY}-1.lock"]


async def test_environment_too_old_is_made_again(builds: Builds) -> None:
    old = await builds.build("old", now=DAY)
    same = await builds.build("same", oldest=DAY, now=2 * DAY)
    new = await builds.build("new", oldest=1.5 * DAY, now=2 * DAY)
    newest = await builds.build("newest", oldest=3 * DAY, now=3 * DAY)
    assert same == old
    assert len({old, new, newest}) == 3
    assert await builds.build("any") == newest
    assert builds.image("old").read() is not None


async def test_what_was_left_out_is_tried_again_the_next_day(builds: Builds) -> None:
    builds.complete = False
    first = await builds.build("one", now=DAY)
    builds.complete = True
    assert await builds.build("two", now=1.9 * DAY) == first
    assert await builds.build("three", now=2.1 * DAY) != first


async def test_failure_leaves_nothing(builds: Builds) -> None:
    with failing(builds, BuildError("no wheel")), pytest.raises(BuildError, match="no wheel"):
        await builds.build("one")
    assert builds.folders() == []
    assert builds.image("one").environment is None


async def test_environment_without_python_is_refused(builds: Builds) -> None:
    async def make(environment: FolderImage) -> bool:
        (environment.env.place / "bin").mkdir(parents=True)
        return True

    with pytest.raises(BuildError, match="no Python"):
        await builds.store.share(builds.image("one"), KEY, 0, 0, make, builds.log)
    assert builds.folders() == []


@pytest.mark.parametrize("change", ["removed", "resized", "touched", "replaced", "list"])
async def test_damaged_environment_is_not_used_again(builds: Builds, change: str) -> None:
    first = await builds.build("one")
    module = first.env.place / "lib" / "module.py"
    if change == "removed":
        module.unlink()
    elif change == "resized":
        module.write_text("")
        os.utime(module, (0, 0))
    elif change == "touched":
        os.utime(module, (0, 0))
    elif change == "replaced":
        module.unlink()
        module.symlink_to(__file__)
    else:
        (first.folder / "files.json").write_text("{")
    async with builds.image("one").locked(shared=True):  # a notebook runs
        second = await builds.build("two")
        assert second != first
        assert first.read() is not None
        assert await builds.store.remove_damaged(first) == ""
    assert "A shared environment is damaged" in builds.log.text
    assert await builds.store.remove_damaged(first)
    assert builds.image("one").read() is None, "it is built again"
    assert await builds.store.remove_damaged(second) == ""


async def test_damaged_environment_that_no_one_uses_is_removed(builds: Builds) -> None:
    first = await builds.build("one")
    (first.env.place / "lib" / "module.py").unlink()
    second = await builds.build("two")
    assert builds.folders() == [f"{KEY}-2", f"{KEY}-2.lock"]
    assert second.read() is not None
    assert not builds.image("one").exists()


async def test_added_files_are_no_damage(builds: Builds) -> None:
    environment = await builds.build("one")
    lib = environment.env.place / "lib"
    (lib / "added.txt").touch()
    (lib / "__pycache__").mkdir()
    (lib / "__pycache__" / "module.pyc").touch()
    assert damage(environment) == ""


async def test_settled_environment_is_compiled_and_read_only(builds: Builds) -> None:
    environment = await builds.build("one")
    shared_file = environment.env.place / "lib" / "shared.py"
    shared_file.hardlink_to(environment.env.place.parent.parent / "interpreter.json")
    await settle(environment, Sandbox("off", make_context(builds.state, "local").paths, "option"))
    assert environment.is_settled()
    assert list((environment.env.place / "lib" / "__pycache__").glob("module.*.pyc"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o222 for path in environment.env.place.rglob("*.py")}
    assert (modes["module.py"], stat.S_IMODE(environment.env.place.stat().st_mode) & 0o222) == (0, 0)
    assert modes["shared.py"], "uv's cache has the same file"
    assert environment.clear()


class TestRegistry:
    @pytest.fixture
    def registry(self, tmp_path: Path) -> LocalRegistry:
        return LocalRegistry(LocalRegistryOptions(), make_context(tmp_path, "local"))

    @pytest.fixture
    def builds(self, registry: LocalRegistry) -> Builds:
        return Builds(registry.context.paths.state)

    async def test_environment_goes_with_its_last_image(self, registry: LocalRegistry, builds: Builds) -> None:
        for name in ("one", "two"):
            await builds.build(name)
        one, two = await registry.images()
        assert await registry.delete(one)
        assert builds.folders() == [f"{KEY}-1", f"{KEY}-1.lock"]
        assert await registry.delete(two)
        assert builds.folders() == []

    async def test_used_environment_stays(self, registry: LocalRegistry, builds: Builds) -> None:
        environment = await builds.build("one")
        async with builds.image("one").locked(shared=True):
            assert environment.in_use()
            await builds.store.remove_unused(environment)
            assert environment.read() is not None
        assert not environment.in_use()

    async def test_environment_counts_once(self, registry: LocalRegistry, builds: Builds) -> None:
        """With the image that is removed last."""
        size = (await builds.build("older")).box.size()
        for name, now in (("newest", 3 * DAY), ("newer", 2 * DAY)):
            await builds.build(name, now=now)
        found = {image.name: image.size or 0 for image in await registry.images()}
        assert (found["older"], found["newer"]) == (1, 1)
        assert 1 < found["newest"] <= size + 1

    async def test_start_removes_what_no_image_uses(self, registry: LocalRegistry, builds: Builds) -> None:
        used, unused = await builds.build("used"), await builds.build("unused", key="f" * 16)
        builds.image("unused").clear()
        half = FolderImage(builds.store.root / f"{'a' * 16}-1")
        half.env.place.mkdir(parents=True)
        await registry._sweep()
        assert builds.folders() == [used.folder.name, f"{used.folder.name}.lock"]
        assert not unused.folder.exists()

    async def test_image_without_its_environment_is_swept(self, registry: LocalRegistry, builds: Builds) -> None:
        (await builds.build("one")).clear()
        assert builds.image("one").read() is None
        await registry._sweep()
        assert not builds.image("one").folder.exists()
