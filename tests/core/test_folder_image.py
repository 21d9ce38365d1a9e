"""Images of kind folder, made by a builder of an author."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
