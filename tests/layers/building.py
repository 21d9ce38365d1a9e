"""Builders `layers` as Ringbinder runs them, each a process of its own, over one registry and one package index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from ringbinder.image_reference import Reference
from ringbinder.model import Declined, Image, Plan, Target
from ringbinder.plugins.context import Context
from ringbinder.testing import RecordingLog, folder_plan
from ringbinder_layers.builder import LayersBuilder
from ringbinder_layers.options import LayersBuilderOptions

from .images import ReadImage, read_image


@define(eq=False)
class Site:
    """One process with the builder."""

    context: Context
    builder: LayersBuilder
    prefix: str
    log: RecordingLog = field(factory=RecordingLog)

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context, prefix: str, **options: Any) -> AsyncIterator[Site]:
        """Starts the builder, and ends it."""
        builder = LayersBuilder(LayersBuilderOptions(image_prefix=prefix, **options), context)
        life = builder.lifespan()
        await anext(life)
        try:
            yield cls(context, builder, prefix)
        finally:
            await anext(life, None)

    def plan(self, folder: Path, files: Mapping[str, str | bytes], name: str = "r") -> Plan:
        """The plan for `files`, put into `folder`."""
        folder.mkdir(exist_ok=True, parents=True)
        plan = folder_plan(folder, files)
        return evolve(plan, image=f"{self.prefix}{name}:{plan.repo.ref}")

    def target(self, plan: Plan) -> Target:
        """Where its image belongs."""
        return Target("oci", plan.image)

    async def answer(self, plan: Plan) -> Image | Declined:
        """What the builder gives."""
        return await self.builder.build(plan, self.target(plan), self.log)

    async def build(self, plan: Plan) -> ReadImage:
        """The image, as its registry has it."""
        image = await self.answer(plan)
        assert isinstance(image, Image), image
        return await self.read(plan, image)

    async def read(self, plan: Plan, image: Image) -> ReadImage:
        reference = Reference.parse(plan.image)
        assert image.pushed
        manifest = await self.context.registry.read_manifest(reference.name, reference.tag)
        assert manifest is not None
        assert manifest.descriptor.digest == image.digest
        return await read_image(self.context.registry, reference.name, reference.tag)

    @property
    def left(self) -> list[Path]:
        """Temporary folders that are there."""
        return self.left_in(self.context)

    async def until_nothing_is_left(self) -> None:
        """Waits for what makes layers: a build that has failed does not, since others may wait for the same layer."""
        while self.left:
            await asyncio.sleep(0.01)

    @staticmethod
    def left_in(context: Context) -> list[Path]:
        """Temporary folders that a builder with this context has left."""
        folder = context.paths.state / "layers-builds"
        return [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []
