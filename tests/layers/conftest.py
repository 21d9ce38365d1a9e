"""A registry in memory, and the plugin that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ringbinder.plugins.context import Context
from ringbinder.testing import make_context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries.oci import OciRegistry


@pytest.fixture
async def server() -> AsyncIterator[OciServer]:
    async with OciServer.running() as running:
        yield running


@pytest.fixture
async def context(tmp_path: Path, server: OciServer) -> AsyncIterator[Context]:
    """What the builder `layers` gets where images are pushed to `server`."""
    own = make_context(tmp_path, "oci")
    options = OciRegistry.Config(
        image_prefix=f"{server.host}/binder-", docker_config_path=tmp_path / "no-config.json", retry_delay=0.01
    )
    made = make_context(tmp_path, "layers", registry=OciRegistry(options, own))
    yield made
    await made.services.close()
    await own.services.close()
