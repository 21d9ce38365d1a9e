"""One image on its way: fetched, resolved, put together from layers, and pushed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

from attrs import define, evolve, frozen
from ringbinder import BuildError, Context, Declined, Image, Log, Manifest, Plan, UserError
from ringbinder.concurrency import Stop, in_thread
from ringbinder.files import temporary_folder
from ringbinder.image_reference import Reference
from ringbinder.untrusted import UntrustedError, UntrustedTree
from ringbinder_recipe import recipe, request
from ringbinder_recipe.files import LFS_NOTICE, uses_lfs
from ringbinder_recipe.recipe import Recipe
from ringbinder_recipe.uv import Uv

from .base import BaseImages
from .conda import write_conda, write_conda_prefix
from .content import HISTORY, top, write_content, write_history
from .downloads import Downloads
from .grouping import Group, group, is_shared
from .image import ImageFacts, ImageLayer, compression, config_blob, image_config, image_manifest
from .index import LayerIndex, NewLayer
from .lock_store import LockStore
from .locking import Locks
from .model import Base, Compression, Layer, Lock, Package, Place
from .options import LayersBuilderOptions
from .records import layers_repository
from .retention import Retention
from .sources import Sources, sources
from .tar import EntryError, LayerWriter
from .upload import ImageUpload, UploadSummary, in_parallel
from .venv import write_kernelspec, write_venv
from .wheel import write_wheel
from .wheels import Target

_ENVIRONMENT: Final[Group] = ()
"""Stands for the layer with what makes an environment of the packages below it."""
_NAMED: Final = 3
_GONE: Final = frozenset({"download-failed", "hash-mismatch"})
"""Errors of a package that is no longer as it was when its version was chosen."""
_ADVICE: Final = (
    "The builder 'layers' runs no code of a repository and installs nothing into the system: what can be described in "
    "requirements.txt, environment.yml or a lock file, it builds. The builder 'docker' builds it as is."
)


@frozen
class Workshop:
    """What all builds of this process share."""

    context: Context
    options: LayersBuilderOptions
    bases: BaseImages
    index: LayerIndex
    uv: Uv
    sources: Sources
    store: LockStore
    downloads: Downloads
    folder: Path
    """For temporary folders."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, context: Context, options: LayersBuilderOptions, bases: BaseImages, folder: Path
    ) -> AsyncIterator[Self]:
        """Holds open what builds need, and removes unused layers meanwhile."""
        index = LayerIndex(context, layers_repository(options.image_prefix), options.keep)
        uv = Uv(context.paths.cache / "layers-uv", context.paths.state / "python")
        env, channels = uv.env(context.paths.state), options.conda_channels
        allowed = await asyncio.to_thread(sources, env, options.indexes, channels, options.conda_channel_alias)
        store = LockStore(context, index.records, options.keep)
        downloads = Downloads(context, allowed)
        async with downloads.lifespan():
            Retention(index).start()
            yield cls(context, options, bases, index, uv, allowed, store, downloads, folder)

    def locks(self, target: Target) -> Locks:
        """What finds the packages of environments for `target`."""
        return Locks(self.context, self.uv, self.sources, target, self.store, self.options.relock_after)


@frozen
class Materials:
    """What one image is made of."""

    tree: UntrustedTree
    """The repository's content."""
    base: Base
    lock: Lock
    start: str
    """The repository's start script; empty: it has none."""
    compression: Compression

    @property
    def place(self) -> Place:
        base, lock = self.base, self.lock
        interpreter = f"{base.prefix}/bin/python" if lock.conda else base.pythons[lock.python]
        return Place(base.prefix, lock.python, interpreter, self.compression, base.uid, base.gid)

    @property
    def facts(self) -> ImageFacts:
        return ImageFacts(self.lock.python, self.lock.conda, self.start)


@define(eq=False)
class Assembly:
    """One build. Its image is called `reference`, with `labels`."""

    workshop: Workshop
    plan: Plan
    reference: Reference
    labels: dict[str, str]
    log: Log

    async def run(self, folder: Path) -> Image | Declined:
        """Makes the image in `folder`, an empty one; returns it once it is pushed.

        Raises `UserError`, `BuildError`, `TransientError`, and `ConfigError` for a base that cannot be used.
        """
        workshop, log = self.workshop, self.log
        tree = UntrustedTree(folder / "repository")
        tree.root.mkdir()
        await workshop.context.fetch(self.plan.repo, tree.root, log)
        if await asyncio.to_thread(uses_lfs, tree):
            log.line(LFS_NOTICE, "fetching")
        found = await asyncio.to_thread(recipe.read, tree)
        if declined := _for_another_builder(found):
            return declined
        base = await workshop.bases.get()
        target = Target(tuple(base.versions.values()), base.platform, base.libc)
        asked = await asyncio.to_thread(request.read, tree, found, target.conda_platform)
        if isinstance(asked, Declined):
            return evolve(asked, advice=_ADVICE)
        log.line(f"Building from {asked.source}\n", "building")
        locks = workshop.locks(target)
        for attempt in folder / "made", folder / "made-again":
            attempt.mkdir()
            again = attempt.name == "made-again"
            lock = await locks.lock(asked, log, private=self.plan.repo.private, again=again)
            if isinstance(lock, Declined):
                return lock
            room = _Room(workshop.options.build_disk_limit, await asyncio.to_thread(self._size, tree, lock))
            materials = Materials(tree, base, lock, found.start, compression(workshop.options.compression, base))
            try:
                return await self._assemble(materials, attempt, room)
            except BuildError as error:
                if again or asked.pinned or error.code not in _GONE:
                    raise
                log.line(f"{error} The versions are found again.\n", "building")
        raise AssertionError("the last attempt returns or raises")

    async def _assemble(self, materials: Materials, folder: Path, room: _Room) -> Image:
        base, place, workshop = materials.base, materials.place, self.workshop
        groups = [*group(materials.lock.packages), _ENVIRONMENT]
        make = partial(_make, workshop, place, room, self.log)
        pushed_bytes = 0

        def show(summary: UploadSummary) -> None:
            nonlocal pushed_bytes
            if summary.pushed > pushed_bytes:
                pushed_bytes = summary.pushed
                self.log.progress(upload.states)

        upload = ImageUpload(workshop.index, self.reference.name, place, make, show)
        await self._announce(materials, groups)
        parts = await self._write_content(materials, folder)
        size = 0

        async def assemble() -> Manifest:
            nonlocal size
            _, packages, _ = await in_parallel((upload.base(base), upload.packages(groups), _put_files(upload, parts)))
            layers = [ImageLayer(layer, _named(of)) for of, layer in zip(groups, packages, strict=True)]
            layers += [ImageLayer(layer, file.name) for file, layer in parts.items()]
            config = image_config(base, materials.facts, layers, self.labels)
            await upload.put(config_blob(config), config)
            size = sum(layer.blob.size for layer in (*base.layers, *(each.layer for each in layers)))
            self.log.progress(upload.states, f"Pushing {self.reference}\n")
            return image_manifest(base, workshop.options.base_image, layers, config)

        pushed = await upload.publish(self.reference.tag, assemble)
        self.log.line(f"Pushed: {upload.summary}\n", "pushing")
        return Image(self.plan.image, "oci", digest=pushed.digest, pushed=True, size=size)

    async def _announce(self, materials: Materials, groups: list[Group]) -> None:
        """Logs how many of the layers are known."""
        index = self.workshop.index
        found = await in_parallel(
            index.find(materials.place.key(each), "" if is_shared(each) else self.reference.name) for each in groups
        )
        known = sum(layer is not None for layer in found)
        self.log.line(f"{known} of {len(groups)} layers are known\n", "building")

    async def _write_content(self, materials: Materials, folder: Path) -> dict[Path, Layer]:
        """The files of the layers that only this image has."""
        tree, base = materials.tree, materials.base
        start = await asyncio.to_thread(tree.resolve, materials.start) if materials.start else ""
        writers: dict[str, Callable[[LayerWriter], None]] = {
            "content": lambda writer: write_content(tree, base, writer, self.log, start)
        }
        if await asyncio.to_thread(tree.is_folder, HISTORY):
            writers["history"] = lambda writer: write_history(tree, base, writer, self.log)

        def write(name: str, stop: Stop) -> Layer:
            with LayerWriter(
                folder / name, materials.compression, top=top(base), uid=base.uid, gid=base.gid, check=stop.check
            ) as writer:
                writers[name](writer)
                return writer.finish()

        try:
            layers = await in_parallel(in_thread(partial(write, name)) for name in writers)
        except (EntryError, UntrustedError) as error:
            raise UserError("unsupported-content", f"This repository fits into no image: {error}.") from None
        return {folder / name: layer for name, layer in zip(writers, layers, strict=True)}

    def _size(self, tree: UntrustedTree, lock: Lock) -> int:
        """Return the bytes of content and packages, as far as the lock has sizes of these. Blocks."""
        try:
            return tree.size() + sum(package.size or 0 for package in lock.packages)
        except UntrustedError as error:
            raise BuildError(f"The repository cannot be measured: {error}.", "build-limit") from None


class _Room:
    """What a build may take of the disk. Raises BuildError for more."""

    def __init__(self, limit: int, size: int) -> None:
        self.limit = limit or sys.maxsize
        self._size = size
        self._arrived: dict[Package, int] = {}
        self._check()

    def arrived(self, package: Package, size: int) -> None:
        """Counts what there is of a package until now, whose size the lock may not have."""
        if package.size is None:
            self._arrived[package] = size
            self._check()

    def _check(self) -> None:
        if (size := self._size + sum(self._arrived.values())) > self.limit:
            message = f"The repository and its packages have {size} bytes, more than {self.limit}"
            raise BuildError(f"{message} (LayersBuilder.build_disk_limit).", "build-limit")


async def _put_files(upload: ImageUpload, parts: Mapping[Path, Layer]) -> list[Layer]:
    for path, layer in parts.items():
        with path.open("rb") as file:
            await upload.put(layer.blob, file)
    return list(parts.values())


@asynccontextmanager
async def _make(workshop: Workshop, place: Place, room: _Room, log: Log, packages: Group) -> AsyncIterator[NewLayer]:
    """Makes the layer with `packages`. Uses nothing of the build that has asked for it, which may have ended."""
    async with temporary_folder(workshop.folder) as folder:
        if packages:
            log.line(f"Making a layer of {_named(packages)}\n", "building")
        files = {package: folder / str(number) for number, package in enumerate(packages)}
        await in_parallel(
            workshop.downloads.fetch(package, file, room.limit, partial(room.arrived, package))
            for package, file in files.items()
        )
        target = folder / "layer"
        layer, remarks = await in_thread(partial(_write, target, place, files))
        for remark in remarks:
            log.line(f"{remark}\n", "building")
        for file in files.values():
            file.unlink()
        with target.open("rb") as content:
            yield NewLayer(layer, content)


def _write(target: Path, place: Place, files: Mapping[Package, Path], stop: Stop) -> tuple[Layer, list[str]]:
    """Writes the layer with packages, or with what makes an environment of those below it. Blocks."""
    remarks: list[str] = []
    with LayerWriter(
        target, place.compression, top=place.prefix, uid=place.uid, gid=place.gid, check=stop.check
    ) as writer:
        for package, file in reversed(list(files.items())):  # of two files at one path the first that is written stays
            write = write_conda if package.kind == "conda" else write_wheel
            remarks += write(file, package, place, writer)
        if not files:
            write_environment(place, writer)
        return writer.finish(), remarks


def write_environment(place: Place, writer: LayerWriter) -> None:
    """Writes what makes an environment of the packages whose layers are below this one. Blocks."""
    if place.interpreter.startswith(f"{place.prefix}/"):
        write_conda_prefix(place, writer)
    else:
        write_venv(place, writer)
    write_kernelspec(place, writer)


def _for_another_builder(recipe: Recipe) -> Declined | None:
    """The answer to a recipe that needs code of the repository, or more than packages."""
    r = f"{recipe.r}, which asks for R" if recipe.r.endswith("runtime.txt") else recipe.r
    reason = recipe.dockerfile or recipe.julia or recipe.nix or r or recipe.apt or recipe.post_build
    return Declined(reason, _ADVICE) if reason else None


def _named(packages: Group) -> str:
    """The packages of a layer, for people."""
    names = [f"{package.name} {package.version}" for package in packages]
    if not names:
        return "the environment"
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
