"""One image on its way into its repository: which of its layers were known, and what had to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, BinaryIO, Final, Literal, TypeVar

from attrs import define, field, frozen
from ringbinder import (
    BlobOutcome,
    Content,
    Descriptor,
    DigestMismatch,
    Manifest,
    MissingBlob,
    TransientError,
)

from .grouping import Group, is_shared
from .index import LayerIndex, Make
from .model import Base, Layer, Place

T = TypeVar("T")

_BYTES_BUCKETS: Final = tuple(float(2**power) for power in range(16, 34, 2))
"""64 KiB to 4 GiB."""

_State = Literal["asked", "known", "making", "made"]
_How = Literal["pushed", "mounted", "reused"]
_HOW: Final[dict[BlobOutcome, _How]] = {"uploaded": "pushed", "mounted": "mounted", "present": "reused"}
_WORDS: Final[dict[_How, str]] = {"pushed": "Pushed", "mounted": "Mounted", "reused": "Layer already exists"}
"""In the words of docker's push, which clients know."""
_SHORT: Final = slice(7, 19)
"""Of a digest, as docker shows it."""


@frozen
class UploadSummary:
    """What an image's blobs took until now; sizes are compressed, in bytes.

    A blob is pushed if this build has sent it, else mounted from another repository, else reused: it was there.
    """

    groups: int = 0
    """Layers of packages."""
    known: int = 0
    """Of these, those that this build did not have to make, as far as that is known yet."""
    making: int = 0
    """Of these, those that it makes now."""
    made: int = 0
    """Of these, those that it has made."""
    pushed: int = 0
    mounted: int = 0
    reused: int = 0

    def __str__(self) -> str:
        sizes = {"pushed": self.pushed, "mounted": self.mounted, "there already": self.reused}
        return ", ".join(f"{megabytes(size)} {how}" for how, size in sizes.items())


def megabytes(size: int) -> str:
    """``12.3 MB``, and ``45 kB`` of what is smaller."""
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{(size + 999) // 1000} kB"


def _ignore(summary: UploadSummary) -> None:
    """Does nothing."""


@define(eq=False)
class ImageUpload:
    """The upload of one image into `repository`, its name without a tag.

    `base`, `packages` and `put` can be called in any order and at the same time. All raise what `ImageRegistry` does,
    and what `make` raises.
    """

    index: LayerIndex
    repository: str
    place: Place
    make: Make
    changed: Callable[[UploadSummary], None] = _ignore
    """Called whenever `summary` has changed."""
    _blobs: dict[str, tuple[int, int, _How]] = field(factory=dict, init=False)
    """By digest: size, bytes sent, and how it came here."""
    _groups: dict[str, _State] = field(factory=dict, init=False)
    """The layers of packages by their keys."""
    _again: bool = field(default=False, init=False)

    @property
    def summary(self) -> UploadSummary:
        """What it took until now."""
        blobs, states = self._blobs.values(), list(self._groups.values())
        return UploadSummary(
            groups=len(states),
            known=states.count("known"),
            making=states.count("making"),
            made=states.count("made"),
            pushed=sum(sent for _, sent, _ in blobs),
            mounted=sum(size for size, _, how in blobs if how == "mounted"),
            reused=sum(size for size, _, how in blobs if how == "reused"),
        )

    @property
    def states(self) -> dict[str, str]:
        """How each blob came into the repository, for `Log.progress`."""
        return {digest[_SHORT]: _WORDS[how] for digest, (_, _, how) in self._blobs.items()}

    async def base(self, base: Base) -> tuple[Layer, ...]:
        """The layers of a base image, once the image's repository has them."""
        for last in (False, True):
            await self.index.add_base(base, self._count_sent, again=last or self._again)
            try:
                await in_parallel(self._use(layer.blob) for layer in base.layers)
            except MissingBlob as error:
                if last:
                    raise _lossy(error) from error
            else:
                break
        return base.layers

    async def packages(self, groups: Sequence[Group]) -> list[Layer]:
        """The layers of groups of packages in their order, once the image's repository has them.

        Those that no process has made before are made.
        """
        keys = [self.place.key(group) for group in groups]
        for key in keys:
            self._groups.setdefault(key, "asked")
        return await in_parallel(map(self._layer, keys, groups))

    async def put(self, blob: Descriptor, content: bytes | BinaryIO | Content) -> None:
        """Sees to it that the image's repository has a blob of this image's own, such as its content."""
        self._count(blob, await self.index.context.registry.put_blob(self.repository, blob, content))

    async def publish(self, tag: str, assemble: Callable[[], Awaitable[Manifest]]) -> Descriptor:
        """Stores the manifest that `assemble` makes, which puts everything there that it names.

        Where the registry then lacks a blob all the same, all are asked for again, and `assemble` is called again.
        """
        registry = self.index.context.registry
        try:
            described = await registry.put_manifest(self.repository, tag, await assemble())
        except MissingBlob as error:
            self.index.context.log.warning("image is put together again", reason=str(error))
            self._again = True
            self.index.forget(self.repository, self._groups, self._blobs)
            try:
                described = await registry.put_manifest(self.repository, tag, await assemble())
            except MissingBlob as error:
                raise _lossy(error) from error
        self._observe()
        return described

    def _observe(self) -> None:
        """Counts what the image took in the metric ``layers_build_bytes``."""
        histogram = self.index.context.metrics.histogram(
            "layers_build_bytes",
            "Compressed bytes of each image's layers, by how they came into its repository.",
            ["how"],
            buckets=_BYTES_BUCKETS,
        )
        summary = self.summary
        for how, size in (("pushed", summary.pushed), ("mounted", summary.mounted), ("reused", summary.reused)):
            histogram.labels(how).observe(size)

    async def _layer(self, key: str, group: Group) -> Layer:
        of = "" if is_shared(group) else self.repository
        whence = tuple((package.url, package.size) for package in group)

        async def make() -> Layer:
            self._note(key, "making")
            async with self.make(group) as new:
                outcome = await self.index.add(key, new.file, new.layer, of)
            self._note(key, "made")
            self._count(new.layer.blob, outcome)
            return new.layer

        for last in (False, True):
            layer = await self.index.find_or_make(key, of, make, whence)
            if self._groups[key] == "asked":
                self._note(key, "known")
            if of:
                self._count(layer.blob, "present")
                return layer
            try:
                await self._use(layer.blob)
            except (MissingBlob, DigestMismatch) as error:
                if last:
                    raise _lossy(error) from error
                self.index.context.log.warning("layer is made again", reason=str(error))
                self.index.doubt(key)
            else:
                break
        return layer

    async def _use(self, blob: Descriptor) -> None:
        self._count(blob, await self.index.use(blob, self.repository))

    def _count_sent(self, blob: Descriptor, outcome: BlobOutcome) -> None:
        if outcome == "uploaded":
            self._count(blob, outcome)

    def _note(self, key: str, state: _State) -> None:
        self._groups[key] = state
        self.changed(self.summary)

    def _count(self, blob: Descriptor, outcome: BlobOutcome) -> None:
        _, sent, before = self._blobs.get(blob.digest, (blob.size, 0, "reused"))
        how = _HOW[outcome]
        if how == "pushed":
            sent += blob.size
        strongest: _How = "pushed" if sent else "mounted" if "mounted" in (how, before) else "reused"
        self._blobs[blob.digest] = blob.size, sent, strongest
        self.changed(self.summary)


def _lossy(error: Exception) -> TransientError:
    return TransientError(f"The registry does not keep what it is sent: {error}")


async def in_parallel(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each gives, in their order. The first error ends the others and is raised as it came."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
