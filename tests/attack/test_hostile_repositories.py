"""Hostile repositories, built for real: the canary stays, the error is clear, nothing is left, the next build works."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog
from realparts.strangers import points
from ringbinder.app import running
from ringbinder.config.loading import load
from ringbinder.model import LaunchRequest
from ringbinder.protocol import Event
from ringbinder.testing.context import descendants, left_over
from ringbinder.testing.gitserver import GitServer

from .hostile_repositories import BUILT, CANARY, FAILING, RECIPES, REFUSED, Hostile, files

pytestmark = pytest.mark.real("git", "uv", "bwrap")


class Ground:
    """A folder for Ringbinder and one for the canary, beside each other."""

    def __init__(self, folder: Path, cache: Path, server: GitServer) -> None:
        self.state = folder / "state"
        self.cache = cache
        self.server = server
        self.canary = folder / "outside" / "canary"
        self.canary.parent.mkdir()
        self.canary.write_text(CANARY)
        self.canary.chmod(0o640)
        self.before = self.canary.stat()

    async def build(self, name: str, hostile: Hostile, sandbox: str, provider: str = "git") -> tuple[Event, str]:
        """Build a repository; return the last event and the log."""
        repository = self.server.repository(f"hostile/{name}")
        hostile.make(repository, self.canary)
        link = f"{quote(self.server.url(f'hostile/{name}'), safe='')}/main"
        options = {"sandbox": f'"{sandbox}"', **hostile.options}
        settings = {
            "Ringbinder.state_folder": str(self.state),
            "Ringbinder.cache_folder": str(self.cache),
            **{f"LocalBuilder.{option}": value for option, value in options.items()},
        }
        config = load(environ={}, sets=[f"{option}={value}" for option, value in settings.items()])
        async with running(config, structlog.get_logger(), entry_points=points) as app:
            session = app.launch(LaunchRequest(provider, link, local=True, build_only=True))
            events = [event async for batch in session.read() for _, event in batch]
        return events[-1], "".join(event.message for event in events)

    def check_canary(self) -> None:
        after = self.canary.stat()
        assert self.canary.read_text() == CANARY
        assert (after.st_mode, after.st_mtime_ns, after.st_ino) == (
            self.before.st_mode, self.before.st_mtime_ns, self.before.st_ino,
        )  # fmt: skip
        assert [path.name for path in self.canary.parent.iterdir()] == ["canary"]

    def check_state(self) -> None:
        """Make sure that the canary's content was copied nowhere."""
        for folder in (self.state, self.cache):
            found = subprocess.run(["grep", "-rlF", CANARY, folder], capture_output=True, text=True)
            assert found.stdout == ""

    def images(self) -> list[str]:
        folder = self.state / "images"
        return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


@pytest.fixture
def ground(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, git_server: GitServer) -> Ground:
    return Ground(tmp_path, tmp_path_factory.getbasetemp() / "hostile-cache", git_server)


async def check(ground: Ground, name: str, hostile: Hostile, sandbox: str, provider: str = "git") -> None:
    before = descendants()
    folder = name.replace(" ", "-").replace(">", "").replace("/", "")
    end, log = await ground.build(folder, hostile, sandbox, provider)
    code = "" if end.phase == "ready" else str(end.data.get("code"))
    assert code in hostile.code.split("|"), (end, log[-2000:])
    assert CANARY not in log
    assert CANARY not in end.json.decode()
    assert len(end.message) < 2000
    assert await left_over(before) == []
    ground.check_canary()
    ground.check_state()
    if code:
        assert ground.images() == []


# Links in place of recipes are read by `test_recipe_links` too, without a build.
LINKS = [f"link {name}" for name in RECIPES[1:]]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LINKS else []) for name in REFUSED]
)
async def test_hostile_recipe_is_refused(ground: Ground, name: str) -> None:
    await check(ground, name, REFUSED[name], "off")


OF_GIT = [name for name in REFUSED if name.startswith(("submodule", "tree", "link requirements.txt"))]


@pytest.mark.parametrize("name", OF_GIT)
async def test_hostile_repository_of_a_strangers_provider_is_refused(ground: Ground, name: str) -> None:
    """Its provider has no `fetch`."""
    await check(ground, name, REFUSED[name], "off", "stranger")


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
async def test_hostile_content_is_built_and_harms_nothing(ground: Ground, name: str) -> None:
    await check(ground, name, BUILT[name], "required")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILING)
async def test_hostile_build_ends_and_leaves_nothing(ground: Ground, name: str) -> None:
    await check(ground, name, FAILING[name], "required")


UNBOXED = (
    "requirements over a link",
    ".gitattributes -> outside",
    ".python-version -> outside",
    "daemons",
    "pipes",
    "locked folders",
    "kills its parent",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNBOXED)
async def test_hostile_content_without_a_sandbox_harms_nothing(ground: Ground, name: str) -> None:
    await check(ground, name, {**BUILT, **FAILING}[name], "off")


@pytest.mark.slow
async def test_build_after_hostile_ones_works(ground: Ground) -> None:
    hostile: Mapping[str, Hostile] = {**REFUSED, **FAILING}
    for name in ("link runtime.txt", "alias bomb", "full disk", "links and fails"):
        await check(ground, name, hostile[name], "required")
    good = Hostile(files({"requirements.txt": "six\n", "postBuild": "#!/bin/sh\ncat requirements.txt\n"}))
    end, log = await ground.build("good", good, "required")
    assert end.phase == "ready", log
    assert len(ground.images()) == 1
    ground.check_canary()
