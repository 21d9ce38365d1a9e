"""Layers that are known: made once for all images, replicas and jobs that share a registry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import date
from typing import BinaryIO, Final

from attrs import define, field, frozen
from ringbinder import (
    BlobOutcome,
    Context,
    Descriptor,
    DigestMismatch,
    MissingBlob,
    StoreError,
)
from ringbinder.concurrency import Cache, SingleFlight
from ringbinder.untrusted import MalformedError

from .grouping import Group
from .model import Base, Layer
from .records import Record, Records

PARALLEL_REQUESTS: Final = 8
"""Layers that are asked for, mounted or uploaded at the same time, by all builds of this process."""

_MAKERS: Final = 2 * (os.cpu_count() or 1) + 4
"""Layers that are made at the same time: each waits for its download, for a processor or for the disk."""

_REMEMBERED: Final = 100_000
_DAY_SECONDS: Final = 86_400.0


@frozen
class NewLayer:
    """A layer that was just made, and the file with its bytes, open for reading."""

    layer: Layer
    file: BinaryIO


Make = Callable[[Group], AbstractAsyncContextManager[NewLayer]]
"""Makes the layer of a group, whose file is gone at the end.

It may go on after the build that has called it, since others wait for the same layer: what it uses is its own.
"""


@define(eq=False)
class LayerIndex:
    """The layers that the registry knows, in the shared repository `name`, or in an image's own where they are private.

    A record of the shared repository says what a key stands for. It is verified before this process uses it first:
    that it is of this key, and that its blob is there with this size. Records of private layers are in the state folder
    of this process and their blobs in the image's repository, so other images can neither find nor mount them.

    All raise what `ImageRegistry` does.
    """

    context: Context
    name: str
    keep: float
    """Seconds for which a layer is kept that no image uses; 0: for ever."""
    records: Records = field(init=False)
    _known: Cache[tuple[str, str], Layer] = field(init=False)
    _placed: Cache[tuple[str, str], bool] = field(init=False)
    _doubted: set[tuple[str, str]] = field(factory=set, init=False)
    """Keys whose layers could not be used: they are made again."""
    _flights: SingleFlight[tuple[str, str, Hashable], Layer] = field(factory=SingleFlight, init=False)
    _bases: SingleFlight[str, None] = field(factory=SingleFlight, init=False)
    _requests: asyncio.Semaphore = field(init=False)
    _makers: asyncio.Semaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        context = self.context
        self.records = Records(context.registry, self.name, self.keep, context.clock, context.log)
        self._known = context.cache(_REMEMBERED)
        self._placed = context.cache(_REMEMBERED)
        self._requests = asyncio.Semaphore(PARALLEL_REQUESTS)
        self._makers = asyncio.Semaphore(_MAKERS)

    async def find(self, key: str, of: str = "") -> Layer | None:
        """The layer with this key. `of` is the image's repository for a private layer, and empty for a shared one."""
        where = of or self.name, key
        if where in self._doubted:
            return None
        if known := self._known.get(where):
            return known
        async with self._requests:
            layer = await (self._find_private(key, of) if of else self._find_shared(key))
        if layer:
            self._known.put(where, layer, self._remember_seconds)
        return layer

    async def add(self, key: str, file: BinaryIO, layer: Layer, of: str = "") -> BlobOutcome:
        """Uploads a layer and records it under its key; of two who do so at once, either's record stays."""
        repository = of or self.name
        async with self._requests:
            outcome = await self._store(repository, layer.blob, file, replace=(repository, key) in self._doubted)
            if of:
                await self._record_private(key, layer, of)
            else:
                await self._record(key, layer, file)
        self._doubted.discard((repository, key))
        self._known.put((repository, key), layer, self._remember_seconds)
        return outcome

    async def find_or_make(
        self, key: str, of: str, make: Callable[[], Awaitable[Layer]], whence: Hashable = ()
    ) -> Layer:
        """The layer with this key; of those who want to make it at once one does, and the others wait for it.

        `whence` is what its files are to be fetched from: who has it from elsewhere makes it, too, since a lock file
        of a repository may name an address at which there is nothing.
        """

        async def work() -> Layer:
            if known := await self.find(key, of):
                return known
            async with self._makers:
                return await make()

        return await self._flights((of or self.name, key, whence), work)

    async def use(self, blob: Descriptor, repository: str, source: str = "") -> BlobOutcome:
        """Sees to it that `repository` has a blob of the shared repository, or of `source`: mounted, else copied.

        Raises `MissingBlob` if that no longer has it.
        """
        place = repository, blob.digest
        if self._placed.get(place):
            return "present"
        async with self._requests:
            outcome = await self.context.registry.copy_blob(blob, source or self.name, repository)
        self._placed.put(place, True, self._remember_seconds)
        return outcome

    async def add_base(self, base: Base, sent: Callable[[Descriptor, BlobOutcome], None], again: bool = False) -> None:
        """Sees to it that the shared repository has the layers of a base image, which may be of another registry.

        `sent` is called for each that had to be brought there. `again`: also of a base that is recorded.
        """
        tag = f"base-{base.digest.removeprefix('sha256:')}"

        async def work() -> None:
            record = await self._read(tag)
            if record and record.layers == base.layers and not again:
                await self.records.renew(record)
                return
            for layer in base.layers:
                self._placed.drop((self.name, layer.blob.digest))
                sent(layer.blob, await self.use(layer.blob, self.name, base.repository))
            await self.records.write(Record(tag, base.layers))

        await self._bases(tag, work)

    def doubt(self, key: str, of: str = "") -> None:
        """Has the layer with this key made again, since it could not be used."""
        where = of or self.name, key
        self._known.drop(where)
        self._doubted.add(where)

    def forget(self, repository: str, keys: Iterable[str], digests: Iterable[str]) -> None:
        """Has the records of `keys` read again, and `repository` asked again for the blobs `digests`."""
        for key in keys:
            self._known.drop((self.name, key))
            self._known.drop((repository, key))
        for digest in digests:
            self._placed.drop((repository, digest))

    @property
    def _remember_seconds(self) -> float:
        """Until a use is to be written down again."""
        return min(self.records.keep / 20, _DAY_SECONDS)

    async def _read(self, tag: str) -> Record | None:
        try:
            return await self.records.read(tag)
        except (MalformedError, DigestMismatch) as error:
            self.context.log.warning("layer is made again", reason=f"{self.name} {error}")
            return None

    async def _find_shared(self, key: str) -> Layer | None:
        record = await self._read(key)
        if record is None or len(record.layers) != 1:
            return None
        [layer] = record.layers
        if not await self._verified(self.name, layer):
            return None
        await self.records.renew(record)
        return layer

    async def _verified(self, repository: str, layer: Layer) -> bool:
        """Whether the repository has the blob of a recorded layer."""
        if problem := await self._problem(repository, layer.blob):
            self.context.log.warning("layer is made again", reason=problem)
        return not problem

    async def _problem(self, repository: str, blob: Descriptor) -> str:
        there = await self.context.registry.find_blob(repository, blob.digest)
        if there and there.size == blob.size:
            return ""
        found = f"has {there.size} bytes instead of {blob.size}" if there else "is not there any more"
        return f"the blob {blob.digest} of {repository} {found}"

    async def _store(self, repository: str, blob: Descriptor, file: BinaryIO, replace: bool = False) -> BlobOutcome:
        """Uploads a blob. One that is there and damaged has to go first; so has any, to be sure, with `replace`."""
        registry = self.context.registry
        outcome = await registry.put_blob(repository, blob, file)
        if outcome == "present" and (replace or await self._problem(repository, blob)):
            await registry.delete_blob(repository, blob.digest)
            outcome = await registry.put_blob(repository, blob, file)
            if problem := await self._problem(repository, blob):
                raise DigestMismatch(
                    f"{problem}, also after it was sent again; remove it from the registry's storage, as its clean-up "
                    "of unused blobs may not"
                )
        return outcome

    async def _record(self, key: str, layer: Layer, file: BinaryIO) -> None:
        record = Record(key, (layer,))
        try:
            await self.records.write(record)
        except MissingBlob:  # the registry's clean-up has taken it, since no record named it yet
            await self._store(self.name, layer.blob, file)
            await self.records.write(record)

    async def _find_private(self, key: str, repository: str) -> Layer | None:
        try:
            known = await self.context.store.get(_private(key, repository))
        except StoreError as error:
            self.context.log.warning("private layers are made again", reason=str(error))
            return None
        if known is None:
            return None
        media_type, digest, size, diff_id, _ = known
        layer = Layer(Descriptor(media_type, digest, size), diff_id)
        if not await self._verified(repository, layer):
            return None
        await self._record_private(key, layer, repository)
        return layer

    async def _record_private(self, key: str, layer: Layer, repository: str) -> None:
        blob = layer.blob
        fields = [blob.media_type, blob.digest, blob.size, layer.diff_id, self.records.today.isoformat()]
        try:
            await self.context.store.put(_private(key, repository), fields)
        except StoreError as error:
            self.context.log.warning("private layer will be made again", reason=str(error))

    async def forget_private(self) -> None:
        """Forgets private layers that no image has used for as long as layers are kept."""
        for name, (*_, used) in (await self.context.store.items(_PRIVATE)).items():
            if self.records.expires(Record(name, used=date.fromisoformat(used))) <= self.context.clock.time():
                await self.context.store.delete(name)


_PRIVATE: Final = "private "


def _private(key: str, repository: str) -> str:
    return f"{_PRIVATE}{repository} {key}"
