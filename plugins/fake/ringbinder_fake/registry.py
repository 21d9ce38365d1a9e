"""Images that are names in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import attrs
from attrs import frozen
from ringbinder import ByteSize, Context, Duration, Image, ImageKind, Log, Plan, Registry, Target, option

from .faults import FakeOptions, Faults

_PUSH_STEPS: Final = 10


@frozen
class FakeRegistryOptions(FakeOptions):
    cached: bool = option(False, help="Every image is there already.")
    check_seconds: Duration = option(0.0, help="How long it takes to look for an image.")
    target_seconds: Duration = option(0.0, help="How long it takes to say where to build.")
    push_seconds: Duration = option(0.0, help="How long a push takes.")
    push_layers: int = option(3, help="Number of layers that a push tells of.")
    push_layer_bytes: ByteSize = option(10 * 1024**2, help="Size of each of these layers.")


class FakeRegistry(Registry[FakeRegistryOptions]):
    """Remembers the names of what was pushed, until the process ends."""

    Config = FakeRegistryOptions
    sections = ("Fake", "FakeRegistry")
    holds: ClassVar[ImageKind] = "oci"

    def __init__(self, config: FakeRegistryOptions, context: Context) -> None:
        super().__init__(config, context)
        self._faults = Faults(config)
        self._images: dict[str, Image] = {}

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        await self.context.clock.sleep(self.config.check_seconds)
        await self._faults.at("check")
        if self.config.cached:
            return Image(plan.image, self.holds, digest=_digest(plan.image), pushed=True)
        return self._images.get(plan.image)

    async def target(self, plan: Plan) -> Target:
        await self.context.clock.sleep(self.config.target_seconds)
        await self._faults.at("target")
        return Target(self.holds, reference=plan.image)

    async def push(self, image: Image, target: Target, log: Log) -> Image:
        size = self.config.push_layer_bytes
        layers = [_digest(f"{image.name} layer {number}")[7:19] for number in range(self.config.push_layers)]
        for step in range(1, _PUSH_STEPS + 1):
            await self.context.clock.sleep(self.config.push_seconds / _PUSH_STEPS)
            state: dict[str, Any] = {"current": size * step // _PUSH_STEPS, "total": size}
            log.progress(dict.fromkeys(layers, state), "Pushing fake image\n")
        await self._faults.at("push")
        pushed = attrs.evolve(image, digest=_digest(image.name), pushed=True, built_at=self.context.clock.time())
        self._images[image.name] = pushed
        log.progress(dict.fromkeys(layers, "Pushed"), "Pushing fake image\n")
        log.line(f"Successfully pushed {image.name}: a fake, only its name is kept\n")
        return pushed

    async def images(self) -> Sequence[Image]:
        return tuple(self._images.values())

    async def delete(self, image: Image) -> bool:
        return self._images.pop(image.name, None) is not None


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
