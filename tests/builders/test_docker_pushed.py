"""Core, builder `docker` and registry `oci` together: built, pushed and found again, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog
from realparts.fixtures import Repo2Docker
from realparts.parts import PASSWORD, RealEngine, RealRegistry, registry
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import Config, load
from ringbinder.model import LaunchRequest
from ringbinder.protocol import Event
from ringbinder.testing.gitserver import GitServer

pytestmark = pytest.mark.real("dockerd", "docker-registry", "debootstrap", "git")

# A layer of its own for each test, on nothing: the base image of the tests would be long on its way.
SMALL = 'FROM scratch\nCOPY a.txt /a.txt\nCMD ["/none"]\n'


def configuration(
    folder: Path, engine: RealEngine, installed: Repo2Docker, registry: RealRegistry, password: str = ""
) -> Config:
    given = {
        "Ringbinder.builder": "docker", "Ringbinder.registry": "oci", "Ringbinder.launcher": "fake",
        "Ringbinder.state_folder": folder / "state", "Ringbinder.cache_folder": folder / "cache",
        "BinderHub.image_prefix": f"{registry.host}/binder-",
        "LocalRepo2dockerBuild.docker_host": engine.address,
        "LocalRepo2dockerBuild.repo2docker": installed.program,
        "LocalRepo2dockerBuild.repo2docker_config": installed.config,
        "LocalRepo2dockerBuild.docker_config_path": installed.docker_config / "config.json",
        "DockerRegistry.docker_config_path": folder / "none.json",
        "DockerRegistry.retry_delay": 0.01,
    }  # fmt: skip
    if password:
        given |= {"DockerRegistry.username": "builder", "DockerRegistry.password": password}
    return load(environ={}, sets=[f"{name}={value}" for name, value in given.items()])


async def build(app: Ringbinder, server: GitServer, name: str) -> list[Event]:
    spec = f"{quote(server.url(f'{name}.git'), safe='')}/HEAD"
    session = app.launch(LaunchRequest("git", spec, build_only=True))
    return [event async for batch in session.read() for _, event in batch]


@pytest.mark.parametrize("version", ["repo2docker", "repo2docker_2024"])
async def test_an_image_is_built_pushed_and_found_again(
    password_registry: RealRegistry,
    docker_engine: RealEngine,
    git_server: GitServer,
    version: str,
    request: pytest.FixtureRequest,
    docker: Callable[..., str],
    tmp_path: Path,
) -> None:
    git_server.repository("small").commit({"Dockerfile": SMALL, "a.txt": version})
    installed = request.getfixturevalue(version)
    config = configuration(tmp_path, docker_engine, installed, password_registry, PASSWORD)
    async with running(config, structlog.get_logger()) as app:
        reported = await build(app, git_server, "small")
        assert reported[-1].phase == "ready", reported[-1].message
        phases = {event.phase for event in reported}
        assert {"fetching", "building", "pushing", "ready"} <= phases
        assert [event for event in reported if event.phase == "pushing" and "progress" in event.data]
        assert PASSWORD not in "".join(event.message for event in reported)
        labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", reported[-1].data["imageName"]))
        own = {name: value for name, value in labels.items() if name.startswith("org.ringbinder.")}
        assert own == {
            "org.ringbinder.builder": "docker",
            "org.ringbinder.builder.version": distribution("ringbinder").version,
        }
        again = await build(app, git_server, "small")
        assert again[-1].phase == "ready"
        assert not {"building", "pushing"} & {event.phase for event in again}
        unwell = [line for line in await app.health() if not line.ok]
        assert unwell == []


async def test_registry_taking_nothing_is_reported_and_distrusted(
    docker_engine: RealEngine, git_server: GitServer, repo2docker_2024: Repo2Docker, tmp_path: Path
) -> None:
    git_server.repository("small").commit({"Dockerfile": SMALL, "a.txt": "refused"})
    with registry(tmp_path / "registry", read_only=True) as refusing:
        config = configuration(tmp_path, docker_engine, repo2docker_2024, refusing)
        async with running(config, structlog.get_logger()) as app:
            for _ in range(2):  # the engine has the image by then, and the registry still has not
                reported = await build(app, git_server, "small")
                assert reported[-1].phase == "failed"
                assert refusing.host in reported[-1].message
                assert "ushing" in reported[-1].message
                assert "building" in {event.phase for event in reported}
