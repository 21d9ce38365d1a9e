"""Builds with the real repo2docker and a real engine: what fails, what is limited, what stays secret, what is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from realparts.parts import RealEngine
from ringbinder.errors import BuildError
from ringbinder.model import Failure, GitSource, Plan, Repo, Target
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog, make_context
from ringbinder.testing.gitserver import GitServer
from ringbinder_builders.docker import DockerBuilder

from .docker_parts import builder, plan, target

pytestmark = pytest.mark.real("dockerd", "debootstrap", "git")

VERSIONS = pytest.mark.parametrize("version", ["repo2docker", "repo2docker_2024"])
PASSWORD = "private-word-8151"
Make = Callable[..., DockerBuilder]


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "docker")
    yield made
    await made.services.close()


@pytest.fixture
def make(context: Context, docker_engine: RealEngine, request: pytest.FixtureRequest) -> Make:
    """Makes the builder, with the options given; `version` names the fixture of its repo2docker."""

    def make(version: str = "repo2docker_2024", **options: object) -> DockerBuilder:
        return builder(context, request.getfixturevalue(version), docker_engine.address, **options)

    return make


@VERSIONS
async def test_a_private_repository_and_no_one_learns_its_password(
    make: Make,
    version: str,
    git_server: GitServer,
    docker_engine: RealEngine,
    base_image: str,
    tmp_path: Path,
) -> None:
    repository = git_server.repository("group/private")
    ref = repository.commit(
        {"Dockerfile": f"FROM {base_image}\nCOPY . /repo\nRUN sleep 2 && env && echo done-{version}\n"}
    )
    git_server.user, git_server.password = "robot", PASSWORD
    url = git_server.url("group/private.git")
    login = Secret(json.dumps({"registry": "127.0.0.1:1", "username": "builder", "password": "push-word-8152"}))
    repo = Repo(
        url, GitSource(url, ref), ref, f"{url}/{ref}", url, "private",
        credentials=Secret(f"username=robot\npassword={PASSWORD}"),
    )  # fmt: skip
    private, log, seen = (
        Plan(repo, f"test-private-{version}:{ref}", "build-private"),
        RecordingLog(),
        set[str](),
    )
    builds = make(version)
    task = asyncio.ensure_future(builds.build(private, Target("oci", private.image, credentials=login), log))
    while not task.done():
        seen |= await asyncio.to_thread(_shown_by_processes)
        await asyncio.wait({task}, timeout=0.05)
    image = task.result()
    assert image.name == private.image
    assert image.size
    assert any("git" in text for text in seen), "the look at the processes saw git"
    history = json.dumps(docker_engine.ask(f"/images/{private.image}/history"))
    inspected = json.dumps(docker_engine.ask(f"/images/{private.image}/json"))
    for secret in (PASSWORD, "push-word-8152"):
        assert secret not in log.text
        assert secret not in history + inspected
        assert not any(secret in text for text in seen)
    assert not list((tmp_path / "state" / "docker-builds").glob("*/")), "the build's folder is gone"


def _shown_by_processes() -> set[str]:
    """Command lines and environments of all that this process has started."""
    found: set[str] = set()
    for process in psutil.Process().children(recursive=True):
        try:
            found |= {" ".join(process.cmdline()), str(process.environ())}
        except psutil.Error:
            continue
    return found


@VERSIONS
async def test_a_package_that_does_not_exist(make: Make, version: str, base_image: str, tmp_path: Path) -> None:
    install = "RUN python3 -m pip install ringbinder-no-such-package-8153"
    failing = plan(tmp_path / "pip", base_image, install)
    builds, log = make(version), RecordingLog()
    with pytest.raises(BuildError) as caught:
        await builds.build(failing, target(failing), log)
    assert "ringbinder-no-such-package-8153" in caught.value.message
    failure = Failure("build", caught.value, tuple(text for _, text in log.lines), failing)
    found = await builds.diagnose(failure)
    assert found is not None
    assert found.code == "package-not-found"
    assert "ringbinder-no-such-package-8153" in found.cause


@VERSIONS
async def test_a_base_image_that_is_not_there(make: Make, version: str, base_image: str, tmp_path: Path) -> None:
    failing = plan(tmp_path / "base", "127.0.0.1:9/no-such-base:1")
    with pytest.raises(BuildError) as caught:
        await make(version).build(failing, target(failing), RecordingLog())
    assert "127.0.0.1:9" in caught.value.message


@VERSIONS
async def test_cancelled_it_leaves_no_container_and_no_process(
    make: Make, version: str, docker_engine: RealEngine, base_image: str, tmp_path: Path
) -> None:
    seconds = "86411" if version == "repo2docker" else "86412"
    endless = plan(tmp_path / "endless", base_image, f"RUN echo begun && sleep {seconds}")
    before, log = docker_engine.containers(), RecordingLog()
    task = asyncio.ensure_future(make(version).build(endless, target(endless), log))
    await asyncio.wait({task, asyncio.ensure_future(_until_runs(seconds))}, return_when="FIRST_COMPLETED")
    assert not task.done(), log.text
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(60):
        while await asyncio.to_thread(_runs, seconds) or docker_engine.containers() != before:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("option", "told"), [("build_timeout", "took longer than 6"), ("idle_timeout", "was silent for 6")]
)
async def test_a_limit_ends_it(make: Make, base_image: str, tmp_path: Path, option: str, told: str) -> None:
    seconds = "86413" if option == "build_timeout" else "86414"
    endless = plan(tmp_path / "endless", base_image, f"RUN sleep {seconds}")
    with pytest.raises(BuildError, match=told) as caught:
        await make(**{option: 6.0}).build(endless, target(endless), RecordingLog())
    assert caught.value.code == "build-limit"
    assert f"LocalRepo2dockerBuild.{option}" in caught.value.message
    async with asyncio.timeout(60):
        while await asyncio.to_thread(_runs, seconds):
            await asyncio.sleep(0.1)


async def test_git_credentials_go_to_their_own_host_only(make: Make, git_server: GitServer, base_image: str) -> None:
    part = git_server.repository("part")
    commit = part.commit({"a.txt": "a"})
    repository = git_server.repository("whole")
    whole = repository.commit({"Dockerfile": f"FROM {base_image}\n"})
    repository.submodule("part", git_server.url("part.git").replace("127.0.0.1", "localhost"), commit)
    with_part = repository.commit()
    git_server.user, git_server.password = "robot", PASSWORD
    url = git_server.url("whole.git")
    builds = make(git_credentials=Secret(f"username=robot\npassword={PASSWORD}"))
    plans = [
        Plan(Repo(url, GitSource(url, ref), ref, "s", url, "whole"), f"test-whole:{ref}", "build-whole")
        for ref in (whole, with_part)
    ]
    await builds.build(plans[0], target(plans[0]), RecordingLog())
    with pytest.raises(BuildError):
        await builds.build(plans[1], target(plans[1]), RecordingLog())


def _runs(word: str) -> bool:
    """Whether a process has `word` among its arguments, in a container or out of it."""
    return any(word in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))


async def _until_runs(word: str) -> None:
    while not await asyncio.to_thread(_runs, word):
        await asyncio.sleep(0.1)
