"""Removing what no image has used for long from the shared repository of layers."""

from __future__ import annotations

import random
from typing import Final

from attrs import define, field
from ringbinder import ConfigError, DigestMismatch
from ringbinder.image_reference import Reference, is_docker_hub
from ringbinder.untrusted import MalformedError

from .index import LayerIndex

_EVERY_SECONDS: Final = 86_400.0
_FIRST_SECONDS: Final = 600.0
"""After the start: what builds wait for comes first, and commands end before."""

_MOST_READS: Final = 20_000
"""Records that are read in one run. The others have their turn on another day."""

_MOST_READS_OF_DOCKER_HUB: Final = 50
"""Docker Hub counts each as a pull, of which an account may have 200 within six hours.

Source: https://docs.docker.com/docker-hub/usage/pulls/
"""


@define(eq=False)
class Retention:
    """Removes records that were not used for `LayerIndex.keep`: of layers, bases and locks.

    Images lose nothing: each has its layers in its own repository. The registry's own clean-up frees the space of the
    blobs, once no image has them either. Tags that are no records stay, so that a repository which holds something
    else too is not emptied.
    """

    index: LayerIndex
    _expires: dict[str, float] = field(factory=dict, init=False)
    """Tags whose records were read, and Unix seconds before which they need not be read again."""

    def start(self) -> None:
        """Begins the job, which runs once a day, unless layers are kept for ever."""
        if not self.index.keep:
            return
        self.index.context.tasks.every(
            _EVERY_SECONDS, self._run, "removal of unused layers", "layers that no image uses are kept"
        )

    async def _run(self) -> None:
        context = self.index.context
        await context.clock.sleep(_FIRST_SECONDS)
        try:
            await self.prune()
        except ConfigError as error:  # asked again before tomorrow, the registry would answer the same
            context.log.warning("layers that no image uses are kept", reason=str(error))

    async def prune(self) -> int:
        """Removes what has expired, then the repository if nothing is left in it; returns how many records went."""
        index = self.index
        registry, now = index.context.registry, index.context.clock.time()
        tags = await registry.list_tags(index.name)
        self._expires = {tag: self._expires[tag] for tag in tags if tag in self._expires}
        due = [tag for tag in tags if self._expires.get(tag, 0.0) <= now]
        removed = 0
        for tag in random.sample(due, min(len(due), self._most_reads)):
            removed += await self._remove_expired(tag, now)
        if removed:
            index.context.log.info("removed layers that no image uses", repository=index.name, removed=removed)
        if tags and removed == len(tags) and not await registry.list_tags(index.name):
            await registry.delete_repository(index.name)
        await index.forget_private()
        return removed

    @property
    def _most_reads(self) -> int:
        domain = Reference.parse(self.index.name).domain
        return _MOST_READS_OF_DOCKER_HUB if not domain or is_docker_hub(domain) else _MOST_READS

    async def _remove_expired(self, tag: str, now: float) -> bool:
        index = self.index
        try:
            record = await index.records.read(tag)
        except (MalformedError, DigestMismatch):
            self._expires[tag] = float("inf")
            return False
        if record is None:
            return False
        expires = index.records.expires(record)
        if expires > now:
            self._expires[tag] = expires
            return False
        return await self._remove(tag, record.digest)

    async def _remove(self, tag: str, digest: str) -> bool:
        """Removes a record by its digest, so that one which another process has just renewed stays."""
        registry, repository = self.index.context.registry, self.index.name
        try:
            removed = await registry.delete_manifest(repository, digest)
        except ConfigError:  # some registries remove no manifest that has a tag
            await registry.delete_manifest(repository, tag)
            removed = await registry.delete_manifest(repository, digest)
        return bool(removed)
