"""Makes `docker` builders over the real parts, and plans for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from realparts.fixtures import Repo2Docker
from ringbinder.model import Plan, Target
from ringbinder.plugins.context import Context
from ringbinder.testing import folder_plan
from ringbinder_builders._docker_options import DockerBuilderOptions
from ringbinder_builders.docker import DockerBuilder


def builder(context: Context, installed: Repo2Docker, address: str, **options: Any) -> DockerBuilder:
    given = DockerBuilderOptions(
        repo2docker=str(installed.program),
        repo2docker_config=installed.config,
        docker_config_path=installed.docker_config / "config.json",
        docker_host=address,
        **options,
    )
    return DockerBuilder(given, context)


def plan(folder: Path, base: str, *instructions: str) -> Plan:
    """Of a repository with a Dockerfile that begins with `base`."""
    return folder_plan(folder, {"Dockerfile": "\n".join([f"FROM {base}", *instructions, ""])})


def target(plan: Plan) -> Target:
    return Target("oci", plan.image)
