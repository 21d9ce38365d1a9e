"""Images that are names in memory; blobs and manifests of builders that assemble images are kept there whole."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar, Final

import attrs
from attrs import frozen
from ringbinder import (
    BlobOutcome,
    BlobRegistry,
    ByteSize,
    Content,
    Context,
    Descriptor,
    DigestMismatch,
    Duration,
    Image,
    ImageKind,
    Log,
    Manifest,
    MissingBlob,
    Plan,
    Target,
    digest_of,
    option,
)

from .faults import FakeOptions, Faults

_PUSH_STEPS: Final = 10
_BLOB: Final = "application/octet-stream"
_DIGEST: Final = re.compile(rb'"digest": *"(sha256:[0-9a-f]{64})"')


@frozen
class FakeRegistryOptions(FakeOptions):
    cached: bool = option(False, help="Every image is there already.")
    check_seconds: Duration = option(0.0, help="How long it takes to look for an image.")
    target_seconds: Duration = option(0.0, help="How long it takes to say where to build.")
    push_seconds: Duration = option(0.0, help="How long a push takes.")
    push_layers: int = option(3, help="Number of layers that a push tells of.")
    push_layer_bytes: ByteSize = option(10 * 1024**2, help="Size of each of these layers.")


class FakeRegistry(BlobRegistry[FakeRegistryOptions]):
    """Remembers the names of what was pushed, and all blobs and manifests, until the process ends."""

    Config = FakeRegistryOptions
    sections = ("Fake", "FakeRegistry")
    holds: ClassVar[ImageKind] = "oci"

    def __init__(self, config: FakeRegistryOptions, context: Context) -> None:
        super().__init__(config, context)
        self._faults = Faults(config)
        self._images: dict[str, Image] = {}
        self._blobs: dict[tuple[str, str], bytes] = {}
        self._manifests: dict[tuple[str, str], Manifest] = {}

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

    async def find_blob(self, repository: str, digest: str) -> Descriptor | None:
        content = self._blobs.get((repository, digest))
        return None if content is None else Descriptor(_BLOB, digest, len(content))

    async def put_blob(self, repository: str, blob: Descriptor, content: Content, mount_from: str) -> BlobOutcome:
        if (repository, blob.digest) in self._blobs:
            return "present"
        if known := self._blobs.get((mount_from, blob.digest)):
            self._blobs[repository, blob.digest] = known
            return "mounted"
        whole = bytearray()
        async for piece in content(0):
            whole += piece
        if len(whole) != blob.size or digest_of(whole) != blob.digest:
            raise DigestMismatch(f"the content for {blob.digest} is not what its digest says")
        self._blobs[repository, blob.digest] = bytes(whole)
        return "uploaded"

    async def read_blob(self, repository: str, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        return self._read(repository, blob, offset)

    async def _read(self, repository: str, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        content = self._blobs.get((repository, blob.digest))
        if content is None:
            raise MissingBlob(f"{repository} has no blob {blob.digest}", blob.digest)
        yield content[offset : blob.size]
        if len(content) != blob.size:
            raise DigestMismatch(f"the blob {blob.digest} has {len(content)} bytes, not {blob.size}")

    async def read_manifest(self, repository: str, reference: str) -> Manifest | None:
        return self._manifests.get((repository, reference))

    async def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> Descriptor:
        for digest in _DIGEST.findall(manifest.content):
            known = (repository, digest.decode())
            if known not in self._blobs and known not in self._manifests:
                raise MissingBlob(f"{repository} has no blob {digest.decode()}", digest.decode())
        descriptor = manifest.descriptor
        self._manifests[repository, reference] = self._manifests[repository, descriptor.digest] = manifest
        if reference != descriptor.digest:
            name = f"{repository}:{reference}"
            now = self.context.clock.time()
            self._images[name] = Image(name, self.holds, digest=descriptor.digest, pushed=True, built_at=now)
        return descriptor

    async def list_tags(self, repository: str) -> Sequence[str]:
        return [tag for name, tag in self._manifests if name == repository and ":" not in tag]

    async def delete_manifest(self, repository: str, reference: str) -> bool:
        manifest = self._manifests.pop((repository, reference), None)
        if manifest is None:
            return False
        self._images.pop(f"{repository}:{reference}", None)
        if ":" in reference:
            for tag in await self.list_tags(repository):
                if self._manifests[repository, tag] == manifest:
                    await self.delete_manifest(repository, tag)
        return True

    async def delete_blob(self, repository: str, digest: str) -> bool:
        return self._blobs.pop((repository, digest), None) is not None

    async def delete_repository(self, repository: str) -> bool:
        kept = {*self._blobs, *self._manifests}
        if await self.list_tags(repository) or not any(name == repository for name, _ in kept):
            return False
        for whole in (self._blobs, self._manifests):
            for key in [key for key in whole if key[0] == repository]:
                del whole[key]
        return True

    async def images(self) -> Sequence[Image]:
        return tuple(self._images.values())

    async def delete(self, image: Image) -> bool:
        return self._images.pop(image.name, None) is not None


def _digest(text: str) -> str:
    return digest_of(text.encode())
