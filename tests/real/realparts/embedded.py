"""The embedded mode over folders that all tests share: an image is built once, JupyterLab installed once."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import psutil
import pytest
from attrs import define, field
from ringbinder.folder_image import FolderImage
from ringbinder.launches.builders import no_builder
from ringbinder.model import Declined, GitSource, Image, LaunchRequest, Plan, Repo
from ringbinder.plugins.context import Context
from ringbinder.runtime.paths import Paths
from ringbinder.testing import RecordingLog, folder_plan, make_context
from ringbinder.testing.context import left_over
from ringbinder_embedded.builder import LocalBuilder, LocalBuilderOptions
from ringbinder_embedded.launcher import LocalLauncher, LocalLauncherOptions
from ringbinder_embedded.registry import LocalRegistry, LocalRegistryOptions

from .turned import TurnedClock


@define
class Embedded:
    """Registry, builder and launcher over one store."""

    context: Context
    sources: Path
    log: RecordingLog = field(factory=RecordingLog)

    @property
    def state(self) -> Path:
        return self.context.paths.state

    @property
    def registry(self) -> LocalRegistry:
        return LocalRegistry(LocalRegistryOptions(), self.context)

    def builder(self, **options: Any) -> LocalBuilder:
        return LocalBuilder(LocalBuilderOptions(**options), self.context)

    def launcher(self, **options: Any) -> LocalLauncher:
        return LocalLauncher(LocalLauncherOptions(**options), self.context)

    def plan(self, files: Mapping[str, str | bytes], name: str = "repo") -> Plan:
        return folder_plan(self.sources / uuid4().hex / name, files)

    async def build(self, plan: Plan, **options: Any) -> Image:
        """Builds and publishes, as core does."""
        registry = LocalRegistry(LocalRegistryOptions(options.get("sandbox", "off")), self.context)
        if (image := await registry.check(plan, fresh=True)) is None:
            target = await registry.target(plan)
            built = await self.builder(**options).build(plan, target, self.log)
            if isinstance(built, Declined):
                raise no_builder({"local": built})
            if not built.pushed:
                await registry.push(built, target, self.log)
            image = await registry.check(plan, fresh=True)
        assert image is not None
        return image

    async def left_over(self, before: set[psutil.Process]) -> list[str]:
        """What runs now and did not in `before`, but for what the first launch of all compiles meanwhile."""
        compiling = {task for task in asyncio.all_tasks() if task.get_name().endswith("JupyterLab")}
        for task in compiling:
            task.cancel()
        if compiling:
            await asyncio.wait(compiling)
        return await left_over(before)


@pytest.fixture
async def embedded(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, clock: TurnedClock
) -> AsyncIterator[Embedded]:
    shared = tmp_path_factory.getbasetemp() / "embedded"
    context = make_context(shared, "local", clock=clock)
    yield Embedded(context, tmp_path)
    await context.services.close()


@pytest.fixture
async def apart(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Embedded]:
    """A store of this test's own, over the shared cache."""
    cache = tmp_path_factory.getbasetemp() / "embedded" / "cache"
    context = make_context(tmp_path, "local")
    services = attrs.evolve(context.services, paths=Paths(tmp_path / "state", cache))
    yield Embedded(attrs.evolve(context, services=services), tmp_path / "sources")
    await services.close()
    await context.services.close()


PLAN = Plan(Repo("u", GitSource("u", "abc"), "abc", "u/abc", "u", "u"), "u:abc", "build-u")
"""For `launch`, whose image says all that the launcher needs."""


def request() -> LaunchRequest:
    return LaunchRequest("git", "somewhere", launch_host="http://127.0.0.1:8585/")


def entry_of(image: Image) -> FolderImage:
    assert image.path is not None
    return FolderImage(image.path)


def place_of(image: Image, part: str) -> Path:
    """Where a part of the image's box is: ``repo``, ``home``, ``env``."""
    return entry_of(image).env.place if part == "env" else entry_of(image).box.place / part


def in_env(image: Image, code: str) -> str:
    done = subprocess.run([entry_of(image).python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
