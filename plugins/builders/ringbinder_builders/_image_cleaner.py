"""Makes room where the engine keeps its images, by the thresholds of the Helm chart's image cleaner.

Source of the thresholds: docker-image-cleaner, which the chart runs (protocol reference, section 7). Unlike that,
this one also removes the cache of the builds, which else keeps the room that an image took.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import frozen
from ringbinder import Clock, Image, PruneResult, TransientError, UserError

from ._docker_engine import BuiltImage, DockerEngine
from ._docker_options import ImageCleanerOptions

_MADE_BY = frozenset({"repo2docker.version", "org.ringbinder.builder"})
"""Labels of images: of all that repo2docker has made, and of those that other builders here have."""


@frozen
class ImageCleaner:
    engine: DockerEngine
    options: ImageCleanerOptions
    clock: Clock

    async def images(self) -> Sequence[Image]:
        """The images that it looks after, by each of their names."""
        used = await self.engine.used()
        return [_as_image(image, name, used) for image in await self._ours() for name in image.names]

    async def delete(self, image: Image) -> bool:
        """Raises UserError (``image-in-use``)."""
        for built in await self._ours():
            if image.name in built.names:
                if built.id not in await self.engine.used() and await self.engine.remove(built):
                    return True
                raise UserError("image-in-use", f"A container was made from {image.name}; it cannot be removed.")
        return False

    async def prune_images(self, *, dry_run: bool) -> PruneResult:
        """If more is taken than the high threshold, removes what nothing uses until it is less than the low one.

        The nameless first, then the oldest. With `dry_run` it says what would go first, and removes nothing.
        """
        before = taken = await self._taken()
        removed: list[Image] = []
        if before <= self.options.threshold_high:
            return PruneResult((), f"{self._said(before)}: nothing is to be done")
        used, latest = await self.engine.used(), self.clock.time() - self.options.min_age
        unused = [image for image in await self._ours() if image.id not in used and image.created <= latest]
        for image in sorted(unused, key=lambda image: (bool(image.names), image.created)):
            if not dry_run:
                if taken < self.options.threshold_low:
                    break
                if not await self.engine.remove(image):
                    continue
                await self.engine.drop_build_cache()
                taken = await self._taken()
            removed.append(_as_image(image, (*image.names, image.id)[0], used))
        after = self._said(before) if dry_run else f"{self._said(before)} before, {self._said(taken)} now"
        return PruneResult(tuple(removed), after)

    async def _ours(self) -> Sequence[BuiltImage]:
        images = await self.engine.images()
        if self.options.all_images:
            return images
        return [image for image in images if not image.names or not _MADE_BY.isdisjoint(image.labels)]

    async def _taken(self) -> float:
        """Per cent of the engine's disk, or bytes."""
        if self.options.threshold_type == "absolute":
            return await self.engine.bytes_of_images()
        folder = str((await self.engine.info())["DockerRootDir"])
        try:
            disk = os.statvfs(folder)
        except OSError as error:
            message = f"{folder}, where the engine at {self.engine.address} keeps its images, cannot be looked at"
            raise TransientError(
                f"{message} ({error.strerror}); from another machine use ImageCleaner.threshold_type: absolute"
            ) from None
        blocks = (disk.f_blocks - disk.f_bavail) / disk.f_blocks if disk.f_blocks else 0.0
        inodes = (disk.f_files - disk.f_favail) / disk.f_files if disk.f_files else 0.0
        return 100 * max(blocks, inodes)

    def _said(self, taken: float) -> str:
        if self.options.threshold_type == "absolute":
            return f"the engine's images take {taken:.0f} bytes"
        return f"the engine's disk is {taken:.0f} % full"


def _as_image(image: BuiltImage, name: str, used: frozenset[str]) -> Image:
    return Image(name, "oci", size=image.size, built_at=image.created or None, in_use=image.id in used)
