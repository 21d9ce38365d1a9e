"""The `local` registry: images that are folders of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from attrs import frozen
from ringbinder import Context, Image, ImageKind, Log, Plan, PluginError, Registry, Target, UserError, option
from ringbinder.folder_image import FolderImage

from .sandbox import Mode, Sandbox, was_sandboxed
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
        def look() -> list[Image]:
            whole = self._store.whole()
            return [_image(entry, facts["name"], facts) for entry, facts in whole if "name" in facts]

        return await asyncio.to_thread(look)

    async def delete(self, image: Image) -> bool:
        """Raises `UserError` (``image-in-use``) while a notebook runs on it or it is being built."""
        entry = self._store.entry(image.name)
        try:
            async with entry.locked():
                return await asyncio.to_thread(entry.clear)
        except BlockingIOError:
            raise UserError(
                "image-in-use", f"{image.name} is in use by a running notebook or a build; stop that first."
            ) from None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.context.tasks.start(self._store.sweep(), "remove what killed builds have left")
        yield


def _named(entry: FolderImage, name: str, facts: dict[str, object]) -> Image | None:
    # The name is compared, so that a folder that was copied by hand is not taken for another image.
    return _image(entry, name, facts) if facts.get("name") == name else None


def _image(entry: FolderImage, name: str, facts: dict[str, object]) -> Image:
    size, built_at = facts.get("size"), facts.get("built_at")
    return Image(
        name, LocalRegistry.holds, path=entry.folder,
        size=size if isinstance(size, int) else None,
        built_at=built_at if isinstance(built_at, float) else None,
        launched_at=entry.used_at,
        in_use=entry.in_use(),
    )  # fmt: skip
