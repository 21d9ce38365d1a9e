"""The `layers` builder: images put together from layers that are made once for each package."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from ringbinder import (
    Builder,
    BuildError,
    ConfigError,
    Context,
    Declined,
    Diagnosis,
    Failure,
    Finding,
    Image,
    ImageKind,
    Log,
    Plan,
    PluginError,
    Target,
    UserError,
)
from ringbinder.files import remove_abandoned, temporary_folder
from ringbinder.image_reference import Reference
from ringbinder_recipe.causes import UNREACHABLE, UNSOLVABLE, diagnose

from . import doctor
from .base import BaseImages
from .image import repository_labels
from .options import LayersBuilderOptions

if TYPE_CHECKING:
    from .assembly import Workshop

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class LayersBuilder(Builder[LayersBuilderOptions]):
    """Runs no code of repositories, and needs no container engine and no rights."""

    Config = LayersBuilderOptions
    sections = ("LayersBuilder",)
    makes: ClassVar[ImageKind] = "oci"

    def __init__(self, config: LayersBuilderOptions, context: Context) -> None:
        super().__init__(config, context)
        self._bases = BaseImages(context, config.base_image, config.platform)
        self._folder = context.paths.state / "layers-builds"
        self._workshop: Workshop | None = None

    @property
    def builds_at_once(self) -> int:
        return self.config.builds_at_once

    async def lifespan(self) -> AsyncIterator[None]:
        """Raises ConfigError for a registry that takes no layers; the base image is read when one is needed."""
        from .assembly import Workshop

        if not self.context.registry.takes_blobs:
            raise ConfigError([f"Ringbinder.registry: {doctor.NO_BLOBS}; {doctor.CHOOSE}"])

        await asyncio.to_thread(remove_abandoned, self._folder)
        async with Workshop.open(self.context, self.config, self._bases, self._folder) as self._workshop:
            yield

    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined:
        from .assembly import Assembly

        labels = {**repository_labels(plan.repo), **self.image_labels}
        assembly = Assembly(self._running("build"), plan, Reference.parse(target.reference), labels, log)
        limit = self.config.build_timeout
        timer = asyncio.timeout(limit or None)
        try:
            async with timer, temporary_folder(self._folder) as folder:
                return await assembly.run(folder)
        except TimeoutError:
            if not timer.expired():
                raise
            message = f"The build took longer than {limit:g} seconds (LayersBuilder.build_timeout); it was ended."
            raise BuildError(message, "build-limit") from None
        except OSError as error:
            if error.errno not in _FULL:
                raise
            message = "There is no room left on the disk of the server, where layers are made; tell its operator."
            raise UserError("disk-full", message) from error

    async def rebase(self, image: Image) -> Image | Declined | None:
        from .rebase import rebase

        return await rebase(self._running("rebase").index, self.config.base_image, image)

    def _running(self, hook: str) -> Workshop:
        if self._workshop is None:
            raise PluginError(self.context.name, "it works only between its start and its end", hook)
        return self._workshop

    async def diagnose(self, failure: Failure) -> Diagnosis | None:
        if failure.stage != "build" or not isinstance(failure.error, BuildError):
            return None
        if failure.error.code != "build-failed":
            return None
        return diagnose((*UNSOLVABLE, *UNREACHABLE), [failure.error.message, *failure.tail])

    async def doctor(self) -> Sequence[Finding]:
        return await doctor.examine(self.context, self.config, self._bases)
