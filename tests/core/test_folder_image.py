"""Images of kind folder, made by a builder of an author."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ringbinder.errors import BuildError
from ringbinder.folder_image import FolderImage, make_folder_image
from ringbinder.model import Target
from ringbinder.testing import RecordingLog, folder_plan


async def test_fill_cannot_rename_its_image(tmp_path: Path) -> None:
    plan = folder_plan(tmp_path / "repo", {"a.txt": "a"})
    target = Target("folder", folder=tmp_path / "image")

    async def fill(image: FolderImage) -> Mapping[str, Any]:
        (image.env.place / "bin").mkdir(parents=True)
        image.python.symlink_to(sys.executable)
        return {"name": "of/another:builder", "persistent_request": "v2/gh/of/another", "start": "start"}

    await make_folder_image(plan, target, RecordingLog(), fill)
    facts = FolderImage(tmp_path / "image").finished() or {}
    assert (facts["name"], facts["start"]) == (plan.image, "start")
    assert facts["persistent_request"].startswith(f"v2/{plan.repo.provider}/")


@pytest.mark.parametrize("replaced", ["box", "box/env", "box/home"])
async def test_replaced_folder_is_a_bad_image(replaced: str, tmp_path: Path) -> None:
    plan = folder_plan(tmp_path / "repo", {"a.txt": "a"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    async def fill(image: FolderImage) -> Mapping[str, Any]:
        place = image.folder / replaced
        if place.exists():
            shutil.rmtree(place)
        place.symlink_to(elsewhere)
        return {}

    with pytest.raises(BuildError, match=f"its folder {replaced.rpartition('/')[2]}") as caught:
        await make_folder_image(plan, Target("folder", folder=tmp_path / "image"), RecordingLog(), fill)
    assert caught.value.code == "bad-image"
    assert elsewhere.exists()
    assert not (tmp_path / "image").exists()


def test_folder_plan_leaves_equal_files_alone(tmp_path: Path) -> None:
    """Several processes plan one build from one folder, while one of them copies it already."""
    files = {"same.txt": "a", "other.txt": "b"}
    plan = folder_plan(tmp_path, files)
    for name in files:
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "other.txt").write_text("c")
    assert folder_plan(tmp_path, files) == plan
    assert (tmp_path / "same.txt").stat().st_mtime == 0
    assert (tmp_path / "other.txt").read_text() == "b"


def made(folder: Path) -> FolderImage:
    image = FolderImage(folder)
    image.python.parent.mkdir(parents=True)
    image.python.symlink_to(sys.executable)
    image.note_interpreter()
    image.finish({"name": folder.name})
    image.publish()
    return image


async def test_shared_environment_is_that_of_another_folder(tmp_path: Path) -> None:
    environment = made(tmp_path / "environment")
    plan = folder_plan(tmp_path / "repo", {"a.txt": "a"})

    async def fill(image: FolderImage) -> Mapping[str, Any]:
        image.use_environment(environment)
        return {}

    await make_folder_image(plan, Target("folder", folder=tmp_path / "image"), RecordingLog(), fill)
    image = FolderImage(tmp_path / "image")
    image.publish()
    assert image.environment == environment
    assert (image.python, image.interpreter(), image.is_conda) == (environment.python, environment.interpreter(), False)
    assert sorted(image.box.names()) == ["home", "repo"]
    async with image.locked(shared=True):
        with pytest.raises(BlockingIOError):
            async with environment.locked():
                pass
    async with environment.locked():
        pass
    (environment.folder / "image.json").unlink()
    assert (image.read(), image.exists()) == (None, True), "its environment is being made again, or was damaged"
    environment.clear()
    assert not image.exists()


@pytest.mark.parametrize("record", ["{", "[]", '{"folder": 5}'])
def test_damaged_record_of_the_environment_names_none(tmp_path: Path, record: str) -> None:
    image = FolderImage(tmp_path / "image")
    image.folder.mkdir()
    image.use_environment(made(tmp_path / "environment"))
    (image.folder / "environment.json").write_text(record)
    assert image.environment is None
    assert image.env == image.box.subtree("env")
