"""A stranger's builder of folder images, with the registry and the launcher `local`: `examples/plugins`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
import structlog
from ringbinder import Event, LaunchRequest, Secret, Server
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import Config, load
from ringbinder.plugins.discovery import EntryPoints
from ringbinder.testing.gitserver import GitServer
from ringbinder.testing.kernel import open_kernel

pytestmark = [pytest.mark.real("uv"), pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugins" / "ringbinder-builder-pip"


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> EntryPoints:
    """What is installed, and the example as if it were."""
    monkeypatch.syspath_prepend(str(EXAMPLE))

    def of_group(group: str) -> Iterable[EntryPoint]:
        own = EntryPoint("pip", "ringbinder_builder_pip:PipBuilder", "ringbinder.builders")
        return [*entry_points(group=group), *([own] if group == own.group else [])]

    return of_group


async def launched(app: Ringbinder, link: str, *, build_only: bool = False) -> list[Event]:
    found = app.link(link)
    session = app.launch(LaunchRequest(found.provider, found.spec, local=True, build_only=build_only))
    return [event async for batch in session.read() for _, event in batch]


def configuration(folder: Path, builder: str) -> Config:
    """Names a builder alone, and folders."""
    places = [f"Ringbinder.{place}_folder={folder / place}" for place in ("state", "cache")]
    return load(environ={}, sets=[f"Ringbinder.builder={builder}", *places])


async def test_notebook_runs_on_an_image_of_a_stranger(
    points: EntryPoints, git_server: GitServer, tmp_path: Path
) -> None:
    """`Ringbinder.builder` alone is named: registry and launcher follow from what it makes."""
    git_server.repository("strangers/lesson").commit({"requirements.txt": "packaging\n", "lesson.txt": "words"})
    link = git_server.url("strangers/lesson")
    async with running(configuration(tmp_path, "pip"), structlog.get_logger(), entry_points=points) as app:
        assert (app.plugins.registry, app.plugins.launcher) == ("local", "local")
        ready = (await launched(app, link))[-1]
        assert ready.phase == "ready", ready.json
        assert ready.data["image"].endswith("+pip")
        kernel = await open_kernel(Server("", ready.data["url"], Secret(ready.data["token"])))
        try:
            assert await kernel.run("import packaging; print(open('lesson.txt').read())") == "words\n"
            assert await kernel.run("import os; print(os.environ['BINDER_REPO_URL'])") == f"{ready.data['repo_url']}\n"
        finally:
            await kernel.close()
        again = await launched(app, link, build_only=True)
        assert "building" not in [event.phase for event in again]


async def test_what_a_stranger_declines_the_next_one_builds(
    points: EntryPoints, git_server: GitServer, tmp_path: Path
) -> None:
    git_server.repository("strangers/script").commit({"postBuild": "#!/bin/sh\ntouch made\n"})
    config = configuration(tmp_path, "[pip, local]")
    async with running(config, structlog.get_logger(), entry_points=points) as app:
        events = await launched(app, git_server.url("strangers/script"), build_only=True)
        assert events[-1].phase == "ready", events[-1].json
        assert events[-1].data["imageName"].endswith("+local")
        assert "postBuild: built with local\n" in [event.message for event in events]
    [image] = [path for path in (tmp_path / "state" / "images").iterdir() if path.is_dir()]
    assert (image / "box" / "repo" / "made").exists()
