"""Registry `oci-layout`: repositories that are folders of this machine, each an OCI image layout."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, ParamSpec, TypeVar

from attrs import frozen
from ringbinder import (
    BlobOutcome,
    ConfigError,
    Content,
    Descriptor,
    DigestMismatch,
    Finding,
    Health,
    Image,
    Log,
    Manifest,
    Plan,
    PluginError,
    Target,
    TransientError,
    option,
)
from ringbinder.image_reference import Reference
from ringbinder.untrusted import MalformedError, UntrustedError, UntrustedTree

from ._layout import Draft, Layout
from ._options import DockerRegistryOptions
from .oci import OciRegistry

_PIECE: Final = 2**20
_BLOB: Final = "application/octet-stream"
_SLASH: Final = "+"
"""Stands for the slash of a repository's name in the name of its folder; no repository has it."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})

T = TypeVar("T")
P = ParamSpec("P")


@frozen
class OciLayoutOptions(DockerRegistryOptions):
    """Sections `DockerRegistry` and `OciLayoutRegistry`."""

    folder: Path | None = option(
        None, help="Where repositories are, a folder each; default: `oci-layouts` in `Ringbinder.state_folder`."
    )
    repositories: Mapping[str, Path] = option(
        factory=dict, help="Repositories that are elsewhere, with the folder of each, such as of a base image."
    )


class OciLayoutRegistry(OciRegistry[OciLayoutOptions]):
    """For builders that assemble images. Repositories whose name begins with a host are read from that registry."""

    Config = OciLayoutOptions
    sections: ClassVar[tuple[str, ...]] = ("DockerRegistry", "OciLayoutRegistry")

    @property
    def folder(self) -> Path:
        """Where repositories are."""
        return self.config.folder or self.context.paths.state / "oci-layouts"

    def layout(self, repository: str) -> Layout | None:
        """The layout of a repository; None if it is one of another registry."""
        if self._reference(repository).domain:
            return None
        elsewhere = self.config.repositories.get(repository)
        return Layout(elsewhere) if elsewhere else Layout(self.folder, repository.replace("/", _SLASH))

    def own(self, repository: str) -> Layout:
        """The layout of a repository that is written to."""
        if (layout := self.layout(repository)) is None:
            raise ConfigError(
                [f"BinderHub.image_prefix: {repository} begins with a host, and registry {self.context.name} keeps "
                 "images in folders of this machine; leave the host out, or choose another registry"]
            )  # fmt: skip
        return layout

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        repository, tag = self._parts(plan.image)

        layout = self.own(repository)

        def look() -> Image | None:
            manifest = layout.manifest(tag)
            if manifest is None or not layout.whole(manifest.content)[1]:
                return None
            return Image(plan.image, self.holds, digest=manifest.descriptor.digest, pushed=True)

        return await _aside(layout, look)

    async def target(self, plan: Plan) -> Target:
        self.own(self._parts(plan.image)[0])
        return Target(self.holds, plan.image)

    async def push(self, image: Image, target: Target, log: Log) -> Image:
        message = "it keeps images of builders that assemble them, such as layers; choose that builder"
        raise PluginError(self.context.name, message, "push")

    async def find_blob(self, repository: str, digest: str) -> Descriptor | None:
        if (layout := self.layout(repository)) is None:
            return await super().find_blob(repository, digest)
        size = await _aside(layout, layout.find, digest)
        return None if size is None else Descriptor(_BLOB, digest, size)

    async def put_blob(self, repository: str, blob: Descriptor, content: Content, mount_from: str) -> BlobOutcome:
        layout, source = self.own(repository), self.layout(mount_from) if mount_from else None
        if await _aside(layout, layout.touch, blob):
            return "present"
        # A file that has another name in a folder of others' would be theirs to change.
        elsewhere = self.config.repositories.keys()
        linked = source and not {repository, mount_from} & elsewhere
        if source and linked and await _aside(layout, layout.link, blob, source):
            return "mounted"
        with ExitStack() as stack:
            draft = await _aside(layout, stack.enter_context, layout.draft())
            await _fill(layout, draft, blob, content(0))
            await _aside(layout, layout.keep, draft, blob)
        return "uploaded"

    async def read_blob(self, repository: str, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        if (layout := self.layout(repository)) is None:
            return await super().read_blob(repository, blob, offset)
        return self._read(layout, blob, offset)

    async def _read(self, layout: Layout, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        digest, left = hashlib.sha256(), blob.size - offset
        with await _aside(layout, layout.open, blob.digest) as file:
            file.seek(offset)
            while piece := await asyncio.to_thread(file.read, _PIECE):
                left -= len(piece)
                if left < 0:
                    break
                await asyncio.to_thread(digest.update, piece)
                yield piece
        if left or (offset == 0 and f"sha256:{digest.hexdigest()}" != blob.digest):
            raise DigestMismatch(f"the blob {blob.digest} in {layout.title} is not what its digest and size say")

    async def read_manifest(self, repository: str, reference: str) -> Manifest | None:
        if (layout := self.layout(repository)) is None:
            return await super().read_manifest(repository, reference)
        return await _aside(layout, layout.manifest, reference)

    async def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> Descriptor:
        layout = self.own(repository)
        await _aside(layout, layout.put_manifest, reference, manifest)
        return manifest.descriptor

    async def list_tags(self, repository: str) -> Sequence[str]:
        if (layout := self.layout(repository)) is None:
            return await super().list_tags(repository)
        return await _aside(layout, layout.tags)

    async def delete_manifest(self, repository: str, reference: str) -> bool:
        layout = self.own(repository)
        return await _aside(layout, layout.delete_manifest, reference)

    async def delete_blob(self, repository: str, digest: str) -> bool:
        layout = self.own(repository)
        return await _aside(layout, layout.delete_blob, digest)

    async def delete_repository(self, repository: str) -> bool:
        layout = self.own(repository)
        return await _aside(layout, layout.delete)

    async def images(self) -> Sequence[Image]:
        images: list[Image] = []
        for repository in await asyncio.to_thread(self._repositories):
            layout = self.own(repository)
            images += [
                Image(f"{repository}:{tag}", self.holds, digest=digest, pushed=True, size=size, built_at=made)
                for tag, digest, size, made in await _aside(layout, layout.images)
            ]
        return images

    async def delete(self, image: Image) -> bool:
        repository, tag = self._parts(image.name)
        return repository not in self.config.repositories and await self.delete_manifest(repository, tag)

    async def health(self) -> Health:
        trouble = await asyncio.to_thread(self._trouble)
        return Health("Docker registry", ok=not trouble, detail={"message": trouble} if trouble else {})

    async def doctor(self) -> Sequence[Finding]:
        if trouble := await asyncio.to_thread(self._trouble):
            return [Finding("error", trouble, "set OciLayoutRegistry.folder, or let Ringbinder's user write there")]
        return [Finding("ok", f"images go into {self.folder}")]

    def _trouble(self) -> str:
        """Why images cannot be kept in the folder; empty if they can."""
        try:
            with _explained(str(self.folder)):
                self.folder.mkdir(parents=True, exist_ok=True)
                tree = UntrustedTree(self.folder.resolve())
                tree.write(".trial", b"")
                tree.remove(".trial")
        except (ConfigError, TransientError) as error:
            return str(error)
        return ""

    def _repositories(self) -> Sequence[str]:
        """Those in the folder: what is elsewhere belongs to others as well."""
        try:
            folders = UntrustedTree(self.folder.resolve()).names()
        except FileNotFoundError:
            return []
        names: list[str] = []
        for name in (folder.replace(_SLASH, "/") for folder in folders):
            with suppress(ValueError):
                if Reference.parse(name).path == name and name not in self.config.repositories:
                    names.append(name)
        return names

    def _parts(self, image: str) -> tuple[str, str]:
        reference = self._reference(image)
        return reference.name, reference.digest or reference.tag or "latest"


async def _fill(layout: Layout, draft: Draft, blob: Descriptor, pieces: AsyncIterator[bytes]) -> None:
    """Writes `pieces`, up to the first that is too much."""
    try:
        async for piece in pieces:
            await _aside(layout, draft.write, piece)
            if draft.size > blob.size:
                break
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def _aside(layout: Layout, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Does `work` on files of `layout` in a thread."""

    def explained() -> T:
        with _explained(layout.title):
            return work(*args, **kwargs)

    return await asyncio.to_thread(explained)


@contextmanager
def _explained(folder: str) -> Iterator[None]:
    """Errors of files as those of a registry."""
    try:
        yield
    except (UntrustedError, MalformedError) as error:
        raise ConfigError([f"{folder}: {error}"]) from None
    except OSError as error:
        message = f"{folder}: {error.strerror or error}"
        if error.errno in _FULL:
            raise TransientError(message) from None
        raise ConfigError([message]) from None
