"""The registry `layout`: images of a container engine, kept in a folder as an OCI image layout."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, TypeVar

import aiodocker
import aiohttp
from attrs import frozen
from ringbinder import (
    Context,
    Image,
    ImageKind,
    Log,
    Plan,
    PluginError,
    Registry,
    Target,
    Ticket,
    TransientError,
    option,
    redact,
)

from .layout import Broken, Layout

_NO_ANSWER: Final = 900  # aiodocker's status, where nobody listens
_CHUNK: Final = 1 << 20

T = TypeVar("T")


@frozen
class LayoutOptions:
    """Section `LayoutRegistry`."""

    folder: Path | None = option(None, help="Where the layout is; not given: in Ringbinder's own folder.")
    docker_host: str = option("", help="Address of the container engine; empty: where docker finds it.")


class LayoutRegistry(Registry[LayoutOptions]):
    """An image is there once the index names it and all that it is made of has its size."""

    Config = LayoutOptions
    sections = ("LayoutRegistry",)
    holds: ClassVar[ImageKind] = "oci"
    plugin_api = 1

    def __init__(self, config: LayoutOptions, context: Context) -> None:
        super().__init__(config, context)
        self._layout = Layout(config.folder or context.paths.state / "oci-layout")

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        return await self._do(self._find, plan.image)

    async def target(self, plan: Plan) -> Target:
        return Target(self.holds, plan.image)

    async def push(self, image: Image, target: Target, log: Log) -> Image | None:
        """Raises TransientError if the engine does not answer, PluginError if it does not have the image."""
        with await self._do(self._room) as file:
            async with self._engine() as docker, docker.images.export_image(image.name) as content:
                while chunk := await content.read(_CHUNK):
                    await asyncio.to_thread(file.write, chunk)
            log.line(f"Keeping {image.name} in {self._layout.folder}\n", "pushing")
            await self._do(self._layout.add, image.name, file)
        return await self._do(self._find, image.name)

    async def admit(self, ticket: Ticket) -> AbstractAsyncContextManager[None] | None:
        """Before a launch: an image that the engine has lost is given back to it."""
        if ticket.stage != "launch" or ticket.plan is None:
            return None
        return self._given_back(ticket.plan.image, ticket)

    async def images(self) -> Sequence[Image]:
        names = await self._do(self._layout.names)
        found = [await self._do(self._find, name) for name in names]
        return [image for image in found if image]

    async def delete(self, image: Image) -> bool:
        return await self._do(self._layout.remove, image.name)

    def _find(self, name: str) -> Image | None:
        if (entry := self._layout.find(name)) is None:
            return None
        return Image(name, self.holds, entry.digest, pushed=True, size=entry.size, built_at=entry.added_at)

    async def _do(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.to_thread(work, *arguments)
        except Broken as error:
            raise PluginError(self.context.name, str(error)) from None

    def _room(self) -> BinaryIO:
        """A file without a name: a crash leaves nothing of it."""
        self._layout.folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self._layout.folder)

    @asynccontextmanager
    async def _given_back(self, name: str, ticket: Ticket) -> AsyncIterator[None]:
        if await self._do(self._layout.find, name) and not await self._known(name):
            ticket.notify(f"Bringing {name} back to the container engine\n")
            with await self._do(self._room) as file:
                await self._do(self._layout.archive, name, file)
                async with self._engine() as docker:
                    await docker.images.import_image(file)
        yield

    async def _known(self, name: str) -> bool:
        async with self._engine() as docker:
            try:
                await docker.images.inspect(name)
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                return False
            return True

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[Any]:
        where = self.config.docker_host or "its usual place"
        try:
            async with aiodocker.Docker(self.config.docker_host or None) as docker:
                yield docker
        except aiodocker.DockerError as error:
            if error.status == 404:
                message = f"the container engine at {where} has no such image"
                raise PluginError(self.context.name, message, "push") from None
            silent = error.status == _NO_ANSWER
            reason = "does not answer; LayoutRegistry.docker_host says where" if silent else "has failed"
            message = f"The container engine at {where} {reason}: {redact(error.message)}"
            raise TransientError(message) from None
        except (aiohttp.ClientError, ConnectionError, ValueError) as error:
            message = redact(str(error))
            raise TransientError(f"The container engine at {where} did not answer: {message}") from None
