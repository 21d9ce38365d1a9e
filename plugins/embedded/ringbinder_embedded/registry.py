"""The `local` registry: images that are folders of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from attrs import evolve, frozen
from ringbinder import Context, Image, ImageKind, Log, Plan, PluginError, Registry, Target, UserError, option
from ringbinder.folder_image import FolderImage

from .sandbox import Mode, Sandbox, was_sandboxed
from .shared import environments
from .store import images


@frozen
class LocalRegistryOptions:
    sandbox: Mode = option(
        "off",
        also="LocalBuilder.sandbox",
        help="`auto`, where bubblewrap works, and `required`: an image that was built without a sandbox is built "
        "again. As `LocalBuilder.sandbox` if not given.",
    )


class LocalRegistry(Registry[LocalRegistryOptions]):
    """Says an image is there only when all of it is: a marker, written last, makes it exist."""

    Config = LocalRegistryOptions
    sections = ("LocalRegistry",)
    holds: ClassVar[ImageKind] = "folder"

    def __init__(self, config: LocalRegistryOptions, context: Context) -> None:
        super().__init__(config, context)
        self._store = images(context.paths.state)
        self._environments = environments(context.paths.state)
        self._sandbox = Sandbox(config.sandbox, context.paths, "LocalRegistry.sandbox")

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        entry = self._store.entry(plan.image)
        facts = entry.read()
        if facts is None or not (was_sandboxed(facts) or await self._sandbox.lack()):
            return None
        return _named(entry, plan.image, facts)

    async def target(self, plan: Plan) -> Target:
        return Target(self.holds, plan.image, self._store.entry(plan.image).folder)

    async def push(self, image: Image, target: Target, log: Log) -> Image | None:
        entry = self._store.entry(image.name)
        async with entry.locked(on_wait=lambda: None):
            facts = entry.finished()
            if facts is not None and not (was_sandboxed(facts) or await self._sandbox.lack()):
                raise PluginError(
                    self.context.name,
                    f"the builder has made {image.name} without the sandbox that LocalRegistry.sandbox asks for; no "
                    "notebook would run on it",
                    "push",
                )
            await asyncio.to_thread(entry.publish)
        self.context.tasks.start(asyncio.to_thread(entry.settle), f"bring {image.name} to the disk")
        facts = entry.read()
        return None if facts is None else _named(entry, image.name, facts)

    async def images(self) -> Sequence[Image]:
        """All of them. An environment that several share counts in the size of the one that was used last."""

        def look() -> list[Image]:
            found = [(entry, facts) for entry, facts in self._store.whole() if "name" in facts]
            images = [(entry.environment, _image(entry, facts["name"], facts)) for entry, facts in found]
            last = {environment: image.name for environment, image in sorted(images, key=lambda of: _last_use(of[1]))}
            return [_with_environment(image, of) if last[of] == image.name else image for of, image in images]

        return await asyncio.to_thread(look)

    async def delete(self, image: Image) -> bool:
        """Raises `UserError` (``image-in-use``) while a notebook runs on it or it is being built."""
        entry = self._store.entry(image.name)
        try:
            async with entry.locked():
                environment = entry.environment
                gone = await asyncio.to_thread(entry.clear)
            if environment is not None:
                await self._environments.remove_unused(environment)
        except BlockingIOError:
            raise UserError(
                "image-in-use", f"{image.name} is in use by a running notebook or a build; stop that first."
            ) from None
        return gone

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.context.tasks.start(self._sweep(), "remove what killed builds have left")
        yield

    async def _sweep(self) -> None:
        await self._store.sweep()
        await self._environments.sweep()


def _named(entry: FolderImage, name: str, facts: dict[str, object]) -> Image | None:
    # The name is compared, so that a folder that was copied by hand is not taken for another image.
    if facts.get("name") != name:
        return None
    return _with_environment(_image(entry, name, facts), entry.environment)


def _with_environment(image: Image, environment: FolderImage | None) -> Image:
    """`image` with the bytes of the environment that it shares."""
    size = (environment.read() or {}).get("size") if environment else 0
    return image if image.size is None or not isinstance(size, int) else evolve(image, size=image.size + size)


def _last_use(image: Image) -> tuple[bool, float]:
    return image.in_use, image.launched_at or image.built_at or 0.0


def _image(entry: FolderImage, name: str, facts: dict[str, object]) -> Image:
    size, built_at = facts.get("size"), facts.get("built_at")
    return Image(
        name, LocalRegistry.holds, path=entry.folder,
        size=size if isinstance(size, int) else None,
        built_at=built_at if isinstance(built_at, float) else None,
        launched_at=entry.used_at,
        in_use=entry.in_use(),
    )  # fmt: skip
