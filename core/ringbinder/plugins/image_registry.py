"""The chosen registry, as builders see it that assemble images themselves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import BinaryIO, Final

from attrs import field, frozen

from ..errors import DigestMismatch, PluginError
from ..image_reference import Reference
from ..model import BlobOutcome, Content, Descriptor, Manifest
from .caller import HookCaller, required

SMALL_BLOB: Final = 4 * 2**20
"""Bytes that `read_small_blob` takes into memory at most: the size of manifest that registries must take."""

_PIECE: Final = 2**20
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@frozen
class ImageRegistry:
    """Blobs, manifests and tags of the registry that the configuration chooses.

    A repository is the name of an image without its tag (of `Target.reference`, or another with the same beginning;
    `ringbinder.image_reference` takes names apart). A reference is a tag or a digest in it.

    All raise `TransientError` if the registry does not answer, after it was asked several times; `ConfigError` if it
    refuses our credentials or what we want to do; `PluginError` if the chosen registry takes no blobs; ValueError for
    what is no repository or reference.
    """

    _hooks: HookCaller | None = field(repr=False)
    _chosen: str

    @property
    def takes_blobs(self) -> bool:
        """Whether the chosen registry has the hooks that all this needs."""
        return self._hooks is not None and self._hooks.implements(self._chosen, "put_blob")

    async def find_blob(self, repository: str, digest: str) -> Descriptor | None:
        """The blob, if the repository has it."""
        check_digest(digest)
        return await self._asked("find_blob", repository).find_blob(self._chosen, repository=repository, digest=digest)

    async def put_blob(
        self, repository: str, blob: Descriptor, content: bytes | BinaryIO | Content, mount_from: str = ""
    ) -> BlobOutcome:
        """Sees to it that the repository has `blob`; returns how.

        `content` is read only if the blob has to be sent: bytes, an open file, which is read from its beginning in
        threads and stays open, or a function that gives an iterator over the bytes from an offset on, which is called
        again where a connection broke. `mount_from` is a repository of the same registry that may have the blob.

        Raises `DigestMismatch` if the content is not `blob`, and what `content` raises.
        """
        if mount_from:
            check_repository(mount_from)
        outcome = await self._asked("put_blob", repository).put_blob(
            self._chosen, repository=repository, blob=blob, content=_opening(content), mount_from=mount_from
        )
        return required(outcome, self._chosen, "put_blob")

    async def copy_blob(self, blob: Descriptor, source: str, target: str) -> BlobOutcome:
        """Sees to it that the repository `target` has `blob`, which `source` has: mounted if the registry can.

        Raises `MissingBlob` if `source` no longer has it.
        """
        return await self.put_blob(target, blob, partial(self.read_blob, source, blob), source)

    async def read_blob(self, repository: str, blob: Descriptor, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes of `blob` from `offset` on, verified at the end if `offset` is 0.

        Raises `MissingBlob` if the repository does not have it, `DigestMismatch` if it is not `blob`.
        """
        pieces = await self._asked("read_blob", repository).read_blob(
            self._chosen, repository=repository, blob=blob, offset=offset
        )
        async with aclosing(required(pieces, self._chosen, "read_blob")) as pieces:
            async for piece in pieces:
                yield piece

    async def read_small_blob(self, repository: str, blob: Descriptor) -> bytes:
        """All bytes of a `blob` of at most 4 MiB, such as an image's configuration, as `read_blob`.

        Raises `DigestMismatch` for one that is larger.
        """
        if blob.size > SMALL_BLOB:
            raise DigestMismatch(f"the blob {blob.digest} of {repository} has {blob.size} bytes, too many to be read")
        return b"".join([piece async for piece in self.read_blob(repository, blob)])

    async def read_manifest(self, repository: str, reference: str) -> Manifest | None:
        """A manifest of at most 4 MiB, verified by its digest; None if it is not there."""
        check_reference(reference)
        return await self._asked("read_manifest", repository).read_manifest(
            self._chosen, repository=repository, reference=reference
        )

    async def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> Descriptor:
        """Stores a manifest under a tag (or its own digest), all at once, in place of what was there.

        Raises `MissingBlob` if the registry does not have a blob that it names: it is to be put again.
        """
        check_reference(reference)
        descriptor = await self._asked("put_manifest", repository).put_manifest(
            self._chosen, repository=repository, reference=reference, manifest=manifest
        )
        return required(descriptor, self._chosen, "put_manifest")

    async def list_tags(self, repository: str) -> Sequence[str]:
        """All tags, in no order; none if there is no such repository."""
        tags = await self._asked("list_tags", repository).list_tags(self._chosen, repository=repository)
        return required(tags, self._chosen, "list_tags")

    async def delete_manifest(self, repository: str, reference: str) -> bool | None:
        """Removes a tag and no other tag, or a manifest by its digest with all of its tags.

        True if it was there; None if this registry does not delete.
        """
        check_reference(reference)
        return await self._asked("delete_manifest", repository).delete_manifest(
            self._chosen, repository=repository, reference=reference
        )

    async def delete_blob(self, repository: str, digest: str) -> bool | None:
        """Removes a blob that no manifest of the repository names, as `delete_manifest`."""
        check_digest(digest)
        return await self._asked("delete_blob", repository).delete_blob(
            self._chosen, repository=repository, digest=digest
        )

    async def delete_repository(self, repository: str) -> bool | None:
        """Removes a repository that has no tag left; True if it did, None if this registry cannot."""
        return await self._asked("delete_repository", repository).delete_repository(self._chosen, repository=repository)

    def _asked(self, hook: str, repository: str) -> HookCaller:
        """The hooks, if `hook` may be asked about `repository`."""
        check_repository(repository)
        if self._hooks is None or not self.takes_blobs:
            message = "this registry takes no images from a builder that assembles them itself; choose another builder"
            raise PluginError(self._chosen or "registry", message, hook)
        return self._hooks


def check_repository(name: str) -> None:
    """Raises ValueError if `name` is no name of an image without tag and digest."""
    if (reference := Reference.parse(name)).tag or reference.digest:
        raise ValueError(f"{name!r} is to be the name of a repository, without a tag or a digest")


def check_reference(text: str) -> None:
    """Raises ValueError if `text` is neither a tag nor a digest."""
    if not _TAG.fullmatch(text):
        check_digest(text)


def check_digest(text: str) -> None:
    """Raises ValueError if `text` is no digest."""
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"{text!r} is no digest: sha256: and 64 hexadecimal digits")


def _opening(content: bytes | BinaryIO | Content) -> Content:
    if isinstance(content, bytes):
        return partial(_of_bytes, content)
    return content if callable(content) else partial(_of_file, content)


async def _of_bytes(content: bytes, offset: int) -> AsyncIterator[bytes]:
    for start in range(offset, len(content), _PIECE):
        yield content[start : start + _PIECE]


async def _of_file(file: BinaryIO, offset: int) -> AsyncIterator[bytes]:
    await asyncio.to_thread(file.seek, offset)
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece
