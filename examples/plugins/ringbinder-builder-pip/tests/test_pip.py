"""The builder as installed: its contract, what it declines, and what its images have.

That a notebook runs on its images, with Ringbinder's own launcher, is tested in `tests/embedded`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("ringbinder_builder_pip", reason="pip install ./examples/plugins/ringbinder-builder-pip")

from ringbinder import BuildError, Context, Declined, Image, Plan, Target, process
from ringbinder.folder_image import FolderImage
from ringbinder.testing import BuilderCase, BuilderContract, RecordingLog, folder_plan
from ringbinder.testing.builder import SECRET_VARIABLES
from ringbinder_builder_pip import PipBuilder, PipOptions

pytest_plugins = "ringbinder.testing.pytest"

BACKEND = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "x"
version = "1"
"""


def package(code: str) -> dict[str, str | bytes]:
    """A repository whose package runs `code` when it is built."""
    hook = "\n    ".join(["def get_requires_for_build_wheel(settings=None):", *code.splitlines()])
    return {"requirements.txt": "./package\n", "package/pyproject.toml": BACKEND, "package/backend.py": f"{hook}\n"}


@pytest.fixture
def builder(plugin_context: Callable[..., Context]) -> PipBuilder:
    return PipBuilder(PipOptions(), plugin_context("pip"))


@pytest.fixture
def target(tmp_path: Path) -> Callable[[Plan], Target]:
    return lambda plan: Target("folder", plan.image, tmp_path / "images" / plan.build)


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    return lambda files, name="repo": folder_plan(tmp_path / name, files)


class TestPip(BuilderContract):
    @pytest.fixture
    async def case(
        self, builder: PipBuilder, target: Callable[[Plan], Target], plan: Callable[..., Plan]
    ) -> BuilderCase:
        async def place(plan: Plan) -> Target:
            return target(plan)

        return BuilderCase(
            builder=builder,
            target=place,
            good=plan({"requirements.txt": "", "a.txt": "a"}, "good"),
            broken=plan({"requirements.txt": "no requirement at all\n"}, "broken"),
            endless=plan(package("import time\ntime.sleep(3600)"), "endless"),
            endless_line="Getting requirements to build wheel",
            declines=plan({"environment.yml": ""}, "declined"),
        )


async def test_builder_is_found_by_being_installed() -> None:
    [found] = entry_points(group="ringbinder.builders", name="pip")
    assert found.load() is PipBuilder


async def test_image_has_the_layout_of_the_contract(
    builder: PipBuilder, target: Callable[[Plan], Target], plan: Callable[..., Plan]
) -> None:
    wanted = plan({"requirements.txt": "packaging\n", "lesson/a.txt": "a"})
    built = await builder.build(wanted, target(wanted), RecordingLog())
    assert isinstance(built, Image)
    assert built.path is not None
    image = FolderImage(built.path)
    facts = image.finished()
    assert facts is not None
    assert (facts["name"], facts["repo_url"], image.read()) == (wanted.image, wanted.repo.url, None)
    assert image.repo.read_text("lesson/a.txt", 10) == "a"
    assert image.home.is_folder(".")
    assert not image.box.is_folder("tmp")
    done = await process.run([str(image.python), "-c", "import ipykernel, packaging"], timeout=60)
    assert done.returncode == 0, done.errors


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"postBuild": "#!/bin/sh\n", "requirements.txt": ""}, "postBuild"),
        ({"binder/requirements.txt": ""}, "a folder binder"),
        ({"requirements.txt/a": ""}, "requirements.txt is no regular file"),
    ],
)
async def test_what_is_for_another_builder_is_declined(
    builder: PipBuilder,
    target: Callable[[Plan], Target],
    plan: Callable[..., Plan],
    files: dict[str, str],
    reason: str,
) -> None:
    wanted = plan(files)
    assert await builder.build(wanted, target(wanted), RecordingLog()) == Declined(reason)


async def test_link_out_of_the_repository_is_not_read(
    builder: PipBuilder, target: Callable[[Plan], Target], plan: Callable[..., Plan], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("my-secret-line\n")
    wanted = plan({"a.txt": ""})
    (tmp_path / "repo" / "requirements.txt").symlink_to(tmp_path / "secret")
    log = RecordingLog()
    assert isinstance(await builder.build(wanted, target(wanted), log), Declined)
    assert "my-secret-line" not in log.text


async def test_operators_environment_is_not_the_builds(
    builder: PipBuilder,
    target: Callable[[Plan], Target],
    plan: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in SECRET_VARIABLES.items():
        monkeypatch.setenv(name, value)
    wanted, log = plan(package("import os\nprint(os.environ)\nraise SystemExit(1)")), RecordingLog()
    with pytest.raises(BuildError):
        await builder.build(wanted, target(wanted), log)
    assert "'PATH'" in log.text
    assert not [value for value in SECRET_VARIABLES.values() if value in log.text]


async def test_build_that_takes_too_long_is_ended(
    target: Callable[[Plan], Target], plan: Callable[..., Plan], plugin_context: Callable[..., Context]
) -> None:
    wanted = plan(package("import time\ntime.sleep(3600)"))
    builder = PipBuilder(PipOptions(build_timeout=0.01), plugin_context("pip"))
    with pytest.raises(BuildError) as caught:
        await builder.build(wanted, target(wanted), RecordingLog())
    assert caught.value.code == "build-timeout"
    folder = target(wanted).folder
    assert folder is not None
    assert not await asyncio.to_thread(folder.exists)
