"""A stranger's builder of folder images, with the registry and the launcher `local`: `examples/plugins`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ringbinder import Secret, Server
from ringbinder.testing import memory_app
from ringbinder.testing.gitserver import GitServer
from ringbinder.testing.kernel import open_kernel

pytestmark = [pytest.mark.real("uv"), pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugins" / "ringbinder-builder-pip"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return {"builder:pip": import_module("ringbinder_builder_pip").PipBuilder}


async def test_notebook_runs_on_an_image_of_a_stranger(
    pip: dict[str, Any], git_server: GitServer, tmp_path: Path
) -> None:
    """`Ringbinder.builder` alone is named: registry and launcher follow from what it makes."""
    git_server.repository("strangers/lesson").commit({"requirements.txt": "packaging\n", "lesson.txt": "words"})
    place = {"state_folder": str(tmp_path / "state"), "cache_folder": str(tmp_path / "cache")}
    async with memory_app(
        tmp_path, pip, installed=True, Ringbinder={"registry": "local", "launcher": "local", **place}
    ) as memory:
        ready = (await memory.launch(git_server.url("strangers/lesson"), local=True))[-1]
        assert ready.phase == "ready", ready.json
        assert ready.data["image"].endswith("+pip")
        server = Server("", ready.data["url"], Secret(ready.data["token"]))
        kernel = await open_kernel(server)
        try:
            assert await kernel.run("import packaging; print(open('lesson.txt').read())") == "words\n"
            assert await kernel.run("import os; print(os.environ['BINDER_REPO_URL'])") == f"{ready.data['repo_url']}\n"
        finally:
            await kernel.close()
        # The image is found again, and only by who made it.
        again = await memory.launch(git_server.url("strangers/lesson"), local=True, build_only=True)
        assert "building" not in [event.phase for event in again]


async def test_what_a_stranger_declines_the_next_one_builds(
    pip: dict[str, Any], git_server: GitServer, tmp_path: Path
) -> None:
    git_server.repository("strangers/script").commit({"postBuild": "#!/bin/sh\ntouch made\n"})
    chosen = {"builder": ["pip", "local"], "registry": "local", "launcher": "local"}
    async with memory_app(tmp_path, pip, installed=True, Ringbinder=chosen) as memory:
        events = await memory.launch(git_server.url("strangers/script"), local=True, build_only=True)
        assert events[-1].phase == "ready", events[-1].json
        assert events[-1].data["imageName"].endswith("+local")
        assert "postBuild: built with local\n" in [event.message for event in events]
    [image] = [path for path in (tmp_path / "state" / "images").iterdir() if path.is_dir()]
    assert (image / "box" / "repo" / "made").exists()
