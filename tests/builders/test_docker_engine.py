"""The engine of the `docker` builder: not there, gone in the middle, full; and a Ringbinder that was killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from realparts import baseimage
from realparts.fixtures import Repo2Docker
from realparts.parts import RealEngine, engine
from ringbinder.errors import ConfigError, TransientError, UserError
from ringbinder.plugins.context import Context
from ringbinder.testing import RecordingLog, make_context
from ringbinder_builders._docker_options import DockerBuilderOptions
from ringbinder_builders.docker import DockerBuilder

from .docker_parts import builder, plan, target

BUILDING = """
import asyncio, json, sys
from pathlib import Path
from ringbinder.testing import RecordingLog, folder_plan, make_context
from ringbinder_builders._docker_options import DockerBuilderOptions
from ringbinder_builders.docker import DockerBuilder
from ringbinder.model import Target

async def main(folder, options, dockerfile):
    paths = ("repo2docker_config", "docker_config_path")
    given = {name: Path(value) if name in paths else value for name, value in options.items()}
    builder = DockerBuilder(DockerBuilderOptions(**given), make_context(Path(folder), "docker"))
    plan = folder_plan(Path(folder) / "killed", {"Dockerfile": dockerfile})
    await builder.build(plan, Target("oci", plan.image), RecordingLog())

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "docker")
    yield made
    await made.services.close()


def make(context: Context, **options: Any) -> DockerBuilder:
    return DockerBuilder(DockerBuilderOptions(**options), context)


async def test_no_socket_is_reported_with_what_to_do(context: Context, tmp_path: Path) -> None:
    made = make(context, docker_host=f"unix://{tmp_path}/none.sock", repo2docker="/bin/true")
    nothing = plan(tmp_path / "x", "scratch")
    with pytest.raises(TransientError) as caught:
        await made.build(nothing, target(nothing), RecordingLog())
    assert f"{tmp_path}/none.sock" in str(caught.value)
    assert "systemctl start docker" in str(caught.value)
    health = await made.health()
    assert not health.ok
    assert f"{tmp_path}/none.sock" in health.detail["message"]
    finding = (await made.doctor())[0]
    assert finding.level == "error"
    assert f"{tmp_path}/none.sock" in finding.message
    assert "systemctl start docker" in finding.fix


async def test_a_socket_that_no_one_listens_at(context: Context, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "dead.sock"))
    health = await make(context, docker_host=f"unix://{tmp_path}/dead.sock").health()
    assert "systemctl restart docker" in health.detail["message"]


async def test_what_every_build_needs_is_checked_at_the_start(context: Context, tmp_path: Path) -> None:
    for options, reported in (
        ({"repo2docker": "no-such-program"}, "pip install jupyter-repo2docker"),
        ({"repo2docker": "/bin/true", "repo2docker_config": tmp_path / "none.py"}, "none.py"),
    ):
        with pytest.raises(ConfigError, match=reported):
            await anext(aiter(make(context, **options).lifespan()))


@pytest.mark.real("dockerd", "debootstrap")
async def test_the_doctor_finds_all_in_order(
    context: Context, docker_engine: RealEngine, repo2docker: Repo2Docker, repo2docker_2024: Repo2Docker
) -> None:
    new = await builder(context, repo2docker, docker_engine.address).doctor()
    assert [finding.level for finding in new] == ["ok", "ok", "ok"], new
    assert "buildx" in new[2].message
    old = await builder(context, repo2docker_2024, docker_engine.address).doctor()
    assert [finding.level for finding in old] == ["ok", "ok"], old
    assert "2024.07.0" in old[1].message


@pytest.mark.real("dockerd", "debootstrap")
async def test_without_buildx_the_doctor_shows_what_to_install(
    context: Context, docker_engine: RealEngine, repo2docker: Repo2Docker, tmp_path: Path
) -> None:
    made = make(
        context, docker_host=docker_engine.address, repo2docker=str(repo2docker.program),
        docker_config_path=tmp_path / "none" / "config.json",
    )  # fmt: skip
    finding = (await made.doctor())[2]
    if finding.level == "ok":
        pytest.skip("this machine has a buildx of its own")
    assert "docker-buildx-plugin" in finding.fix


@pytest.mark.real("dockerd", "debootstrap")
async def test_the_engine_is_killed_in_the_middle_of_a_build(
    context: Context,
    repo2docker_2024: Repo2Docker,
    base_archive: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # A short path: that of a socket has at most 107 characters.
    with engine(tmp_path_factory.mktemp("k") / "e") as dying:
        await asyncio.to_thread(baseimage.load, dying, base_archive)
        endless = plan(tmp_path / "x", baseimage.NAME, "RUN echo begun && sleep 600")
        log = RecordingLog()
        building = asyncio.ensure_future(
            builder(context, repo2docker_2024, dying.address).build(endless, target(endless), log)
        )
        begun = asyncio.ensure_future(log.until("\nbegun", seconds=240))
        await asyncio.wait({building, begun}, return_when="FIRST_COMPLETED")
        assert not building.done(), log.text
        await begun
        dying.kill()
        with pytest.raises(TransientError) as caught:
            await building
    assert dying.address in str(caught.value)
    assert "start the engine" in str(caught.value)


@pytest.mark.real("dockerd", "debootstrap")
async def test_a_ringbinder_that_is_killed_leaves_nothing(
    context: Context,
    docker_engine: RealEngine,
    repo2docker_2024: Repo2Docker,
    base_image: str,
    tmp_path: Path,
) -> None:
    before = docker_engine.containers()
    options = {
        "repo2docker": str(repo2docker_2024.program), "repo2docker_config": str(repo2docker_2024.config),
        "docker_config_path": str(repo2docker_2024.docker_config / "config.json"),
        "docker_host": docker_engine.address,
    }  # fmt: skip
    words = json.dumps([str(tmp_path), options, f"FROM {base_image}\nRUN sleep 86415\n"])
    with subprocess.Popen([sys.executable, "-c", BUILDING, words]) as killed:
        try:
            async with asyncio.timeout(240):
                while not await asyncio.to_thread(_runs, "86415"):
                    assert killed.poll() is None
                    await asyncio.sleep(0.1)
        finally:
            os.kill(killed.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while await asyncio.to_thread(_runs, "86415") or docker_engine.containers() != before:
            await asyncio.sleep(0.1)
    builds = tmp_path / "state" / "docker-builds"
    assert list(builds.glob("*/")), "the killed one had a folder"
    async with asyncio.timeout(30):
        while list(builds.glob("*/")):  # its leash may need a moment to let go of the folder
            async for _ in builder(context, repo2docker_2024, docker_engine.address).lifespan():
                break
            await asyncio.sleep(0.1)


@pytest.mark.real("dockerd")
async def test_room_is_made_and_what_is_used_stays(
    context: Context, docker_engine: RealEngine, base_image: str
) -> None:
    tag = "cleaner"
    labels_of = {"used": "repo2docker.version", "old": "repo2docker.version", "pulled": "org.ringbinder.builder"}
    for name in ("used", "old", "pulled", "other"):
        labels = ["--change", f'LABEL {labels_of[name]}="1"'] if name in labels_of else []
        _docker(docker_engine, "import", *labels, "--message", name, "-", f"{tag}/{name}:1", given=_tar(name))
    _docker(docker_engine, "create", "--name", "user", "--network", "none", f"{tag}/used:1", "true")
    options = {"docker_host": docker_engine.address, "threshold_type": "absolute", "threshold_low": 0.0}
    try:
        calm = make(context, threshold_high=1e15, **options)
        assert (await calm.prune_images(dry_run=False)).removed == ()
        young = make(context, threshold_high=1.0, **options)
        removed = [image.name for image in (await young.prune_images(dry_run=True)).removed]
        assert not [name for name in removed if name.startswith(tag)], "an image may be on its way to the registry"
        full = make(context, threshold_high=1.0, min_age=0.0, **options)
        would = [image.name for image in (await full.prune_images(dry_run=True)).removed]
        assert {f"{tag}/old:1", f"{tag}/pulled:1"} <= set(would)
        assert {f"{tag}/used:1", f"{tag}/other:1", base_image}.isdisjoint(would)
        used = {image.name: image.in_use for image in await full.images()}
        assert used[f"{tag}/used:1"]
        assert not used[f"{tag}/old:1"]
        image = next(image for image in await full.images() if image.name == f"{tag}/used:1")
        with pytest.raises(UserError) as caught:
            await full.delete(image)
        assert caught.value.code == "image-in-use"
        room = await full.prune_images(dry_run=False)
        assert {f"{tag}/old:1", f"{tag}/pulled:1"} <= {image.name for image in room.removed}
        assert {f"{tag}/used:1", f"{tag}/other:1"} <= docker_engine.tags()
        assert {f"{tag}/old:1", f"{tag}/pulled:1"}.isdisjoint(docker_engine.tags())
    finally:
        _docker(docker_engine, "rm", "user")
        _docker(docker_engine, "rmi", f"{tag}/used:1", f"{tag}/other:1")


@pytest.mark.real("dockerd")
async def test_how_full_the_disk_is_counts_by_default(context: Context, docker_engine: RealEngine) -> None:
    room = await make(context, docker_host=docker_engine.address, threshold_high=100.0).prune_images(dry_run=True)
    assert room.removed == ()
    assert "disk is" in room.summary


@pytest.mark.real("dockerd", "debootstrap")
async def test_command_line_shows_the_engines_images_and_makes_room(
    docker_engine: RealEngine, repo2docker_2024: Repo2Docker, tmp_path: Path
) -> None:
    given = {
        "Ringbinder.builder": "docker", "Ringbinder.registry": "oci", "Ringbinder.launcher": "fake",
        "BinderHub.image_prefix": "127.0.0.1:9/binder-", "LocalRepo2dockerBuild.docker_host": docker_engine.address,
        "LocalRepo2dockerBuild.repo2docker": repo2docker_2024.program, "ImageCleaner.threshold_high": 100,
    }  # fmt: skip
    sets = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    name = "cleaner/shown:1"
    _docker(docker_engine, "import", "--change", 'LABEL repo2docker.version="1"', "-", name, given=_tar("shown"))
    try:
        listed = await asyncio.to_thread(_ringbinder, tmp_path, "images", "list", *sets)
        assert name in listed
        pruned = await asyncio.to_thread(_ringbinder, tmp_path, "images", "prune", "--dry-run", *sets)
        assert "The engine's disk is" in pruned
        assert "nothing is to be done" in pruned
    finally:
        _docker(docker_engine, "rmi", name)


def _ringbinder(folder: Path, *words: str) -> str:
    """What the program says; it has to succeed."""
    env = {**os.environ, "RINGBINDER_STATE": str(folder / "state"), "RINGBINDER_CACHE": str(folder / "cache")}
    command: list[str | Path] = [Path(sys.executable).with_name("ringbinder"), *words]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def _docker(engine: RealEngine, *words: str, given: bytes = b"") -> None:
    command = ["docker", "--host", engine.address, *words]
    subprocess.run(command, input=given, check=True, stdout=subprocess.DEVNULL)


def _tar(content: str) -> bytes:
    import io
    import tarfile

    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        member = tarfile.TarInfo(content)
        member.size = 100_000
        tar.addfile(member, io.BytesIO(content.encode().ljust(100_000)))
    return made.getvalue()


def _runs(word: str) -> bool:
    return any(word in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
