"""Registries in memory and real ones, and plugins that ask them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from realparts.parts import PASSWORD
from ringbinder.model import GitSource, Plan, Repo
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import make_context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries.oci import OciRegistry

Make = Callable[..., Any]


def plan(image: str) -> Plan:
    repo = Repo("https://host.example/r", GitSource("https://host.example/r", "1" * 40), "1" * 40, "r", "u", "r")
    return Plan(repo, image, "build-r")


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "oci")
    yield made
    await made.services.close()


@pytest.fixture
def make(context: Context, tmp_path: Path) -> Make:
    """Makes a registry plugin: quick retries, no docker configuration of this machine."""

    def make(kind: type[OciRegistry[Any]] = OciRegistry, password: str = "", **options: Any) -> Any:
        given = {"docker_config_path": tmp_path / "no-config.json", "retry_delay": 0.01, **options}
        return kind(kind.Config(password=Secret(password), **given), context)

    return make


@pytest.fixture
async def server() -> AsyncIterator[OciServer]:
    async with OciServer.running() as running:
        yield running


@pytest.fixture
async def guarded() -> AsyncIterator[OciServer]:
    """One whose tokens are for ``builder`` with the password `PASSWORD`."""
    async with OciServer.running("token", {"builder": PASSWORD}) as running:
        yield running
