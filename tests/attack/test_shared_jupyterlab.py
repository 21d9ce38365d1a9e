"""A shared JupyterLab of which something has gone is installed again, and a retry works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from realparts.embedded import PLAN, Embedded, request
from ringbinder.errors import UserError
from ringbinder.folder_image import FolderImage
from ringbinder.testing.kernel import api
from ringbinder_embedded import wholeness

pytestmark = pytest.mark.real("uv", "jupyterlab")


def packages(entry: FolderImage) -> Path:
    return next((entry.env.place / "lib").glob("python3.*/site-packages"))


def uninstall(entry: FolderImage) -> None:
    for path in packages(entry).glob("tornado*"):
        shutil.rmtree(path)


def empty(entry: FolderImage) -> None:
    file = packages(entry) / "traitlets" / "config" / "application.py"
    file.unlink()  # it may be the same file as in uv's cache
    file.touch()


DAMAGES: dict[str, Callable[[FolderImage], None]] = {
    "serverapp.py is missing": lambda entry: (packages(entry) / "jupyter_server" / "serverapp.py").unlink(),
    "is not installed": uninstall,
    "has 0 bytes instead of": empty,
}


async def test_damaged_jupyterlab_is_installed_again(apart: Embedded) -> None:
    image = await apart.build(apart.plan({"data.txt": "data\n"}))
    launcher = apart.launcher()
    async with launcher.lifespan():
        await launcher.stop(await launcher.launch(image, request(), PLAN, apart.log))
        shared = launcher._shared.entry
        assert await wholeness.damage(shared, (shared.read() or {})["packages"]) == ""
        for reported, damage in DAMAGES.items():
            damage(shared)
            server = await launcher.launch(image, request(), PLAN, apart.log)
            async with api(server) as client, client.get("/api/status") as answer:
                assert answer.status == 200
            await launcher.stop(server)
            [line] = [line for _, line in apart.log.lines if "is damaged" in line]
            assert reported in line
            apart.log.lines.clear()
        shared.python.unlink()
        await launcher.stop(await launcher.launch(image, request(), PLAN, apart.log))


async def test_whole_jupyterlab_is_not_blamed(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan({"start": "#!/bin/sh\nexit 3\n"}))
    launcher = embedded.launcher()
    async with launcher.lifespan():
        with pytest.raises(UserError, match="exit code 3"):
            await launcher.launch(image, request(), PLAN, embedded.log)
    assert "is damaged" not in embedded.log.text
