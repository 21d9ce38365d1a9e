"""Registries in memory and real ones, and processes that share them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from realparts.package_index import PackageIndex
from realparts.parts import RealRegistry
from ringbinder import Clock
from ringbinder.plugins.context import Context
from ringbinder.testing import FakeClock, make_context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries.oci import OciRegistry

from .building import Site
from .gate import Gate
from .locking import frozen_index
from .places import Process, process_of
from .smallbase import publish

Start = Callable[..., Process]


@pytest.fixture
async def server() -> AsyncIterator[OciServer]:
    async with OciServer.running() as running:
        yield running


@asynccontextmanager
async def registry_context(folder: Path, server: OciServer) -> AsyncIterator[Context]:
    """What the builder `layers` gets where images are pushed to `server`."""
    own = make_context(folder, "oci")
    options = OciRegistry.Config(
        image_prefix=f"{server.host}/binder-", docker_config_path=folder / "no-config.json", retry_delay=0.01
    )
    made = make_context(folder, "layers", registry=OciRegistry(options, own))
    yield made
    await made.services.close()
    await own.services.close()


@pytest.fixture
async def context(tmp_path: Path, server: OciServer) -> AsyncIterator[Context]:
    async with registry_context(tmp_path, server) as made:
        yield made


@pytest.fixture
async def gate(open_registry: RealRegistry) -> AsyncIterator[Gate]:
    """The way to the registry of all tests."""
    async with Gate.open(open_registry.url) as gate:
        yield gate


@pytest.fixture
async def start(tmp_path: Path, gate: Gate, request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Starts processes with one image prefix, that of this test; they reach the registry through the gate."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]

    def start(clock: Clock | None = None, way: Gate = gate, **options: Any) -> Process:
        process = process_of(tmp_path / f"process-{next(numbers)}", f"{way.host}/builder/{name}-", clock, **options)
        processes.push_async_callback(process.close)
        return process

    numbers = itertools.count()
    async with AsyncExitStack() as processes:
        yield start


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """The package index that the operator has chosen."""
    with frozen_index().serving() as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        yield index


@pytest.fixture
def clock() -> FakeClock:
    """Of a day in 2026, whose hands move when someone sleeps."""
    return FakeClock(now=1_790_000_000.0, jumps=True)


@pytest.fixture
async def site(
    context: Context, server: OciServer, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    """A process with the builder. Packages have a layer each, also those of the tests, which are small."""
    monkeypatch.setattr("ringbinder_layers.grouping._LARGE_BYTES", 0)
    await publish(context.registry, f"{server.host}/base", "1")
    async with Site.open(context, f"{server.host}/binder-", base_image=f"{server.host}/base:1") as site:
        yield site
