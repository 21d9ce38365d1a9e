"""The contract of builders, kept by the `docker` one with a real engine and both kinds of repo2docker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from realparts.fixtures import Repo2Docker
from realparts.parts import RealEngine
from ringbinder.model import Plan, Target
from ringbinder.testing import BuilderCase, BuilderContract, folder_plan, make_context
from ringbinder_builders._docker_options import DockerBuilderOptions
from ringbinder_builders.docker import DockerBuilder

pytestmark = pytest.mark.real("dockerd", "debootstrap")


def dockerfile(folder: Path, base: str, *instructions: str) -> Plan:
    return folder_plan(folder, {"Dockerfile": "\n".join([f"FROM {base}", *instructions, ""])})


@pytest.mark.parametrize("version", ["repo2docker", "repo2docker_2024"])
class TestDockerBuilder(BuilderContract):
    @pytest.fixture
    async def case(
        self,
        tmp_path: Path,
        docker_engine: RealEngine,
        base_image: str,
        version: str,
        request: pytest.FixtureRequest,
    ) -> AsyncIterator[BuilderCase]:
        installed: Repo2Docker = request.getfixturevalue(version)
        context = make_context(tmp_path, "docker")
        options = DockerBuilderOptions(
            repo2docker=str(installed.program),
            repo2docker_config=installed.config,
            docker_config_path=installed.docker_config / "config.json",
            docker_host=docker_engine.address,
        )

        async def target(plan: Plan) -> Target:
            return Target("oci", plan.image)

        forever = "RUN echo now it takes for ever && sleep 600 & sleep 600"
        yield BuilderCase(
            builder=DockerBuilder(options, context),
            target=target,
            good=dockerfile(tmp_path / "good", base_image, "RUN echo built > /built"),
            broken=dockerfile(tmp_path / "broken", base_image, "RUN exit 3"),
            endless=dockerfile(tmp_path / "endless", base_image, forever),
            reveals=dockerfile(tmp_path / "reveals", base_image, f"RUN echo {tmp_path.name}; env"),
        )
        await context.services.close()
