"""Base images: what their labels say, and whether an image can be made on one.

The labels are documented in docs/reference/base-images.md.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from attrs import define, field, frozen
from ringbinder import (
    ConfigError,
    Context,
    Descriptor,
    DigestMismatch,
    ImageRegistry,
    Manifest,
    MissingBlob,
    TransientError,
)
from ringbinder.concurrency import Cache
from ringbinder.image_reference import Reference
from ringbinder.untrusted import MalformedError, check_shape, excerpt, parse_json

from .model import Base, Layer

LABEL: Final = "org.ringbinder.base."
"""What the names of the labels begin with."""
MADE_FROM: Final = "org.ringbinder.image"
"""Label of the images that are made on a base, which are none themselves: their environment is taken."""

_OPTION: Final = "LayersBuilder.base_image"
_FORMAT: Final = "1"
_INDEXES: Final = frozenset({
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
})  # fmt: skip
_MANIFESTS: Final = frozenset({
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
})  # fmt: skip
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_LAYER_TYPES: Final = {
    "application/vnd.docker.image.rootfs.diff.tar": _LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_LAYER}+zstd",
    **{kind: kind for kind in (_LAYER, f"{_LAYER}+gzip", f"{_LAYER}+zstd")},
}
"""Types of layers, Docker's and OCI's, and what a manifest of OCI calls them."""
_MOST_LAYERS: Final = 60
"""Of a base: engines stop at about 125, and those of the packages come on top."""
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)+")
_PYTHON: Final = re.compile(rf"(3\.[0-9]{{1,3}})(\.[0-9]{{1,3}})?=({_PATH.pattern})")
_LIBC: Final = re.compile(r"glibc ([0-9]{1,3})\.([0-9]{1,3})")
_USER: Final = re.compile(r"([1-9][0-9]{0,8}):([1-9][0-9]{0,8})")
_REMEMBERED_SECONDS: Final = 300.0

_DESCRIPTOR: Final = {"mediaType": str, "digest": str, "size": int}
_PLATFORM: Final = {"architecture": str, "os": str}
_INDEX_SHAPE: Final = {"manifests": [{"digest": str, "platform?": _PLATFORM}]}
MANIFEST_SHAPE: Final = {"config": _DESCRIPTOR, "layers": [_DESCRIPTOR]}
CONFIG_SHAPE: Final = {
    **_PLATFORM,
    "rootfs": {"diff_ids": [str]},
    "config": {"Labels?": {str: str}, "Env?": [str], "User?": str},
    "history?": [dict],
}  # fmt: skip

T = TypeVar("T")


def this_platform() -> str:
    """The platform of this machine, as images name it: ``linux/amd64``."""
    machine = platform.machine().lower()
    return f"linux/{_MACHINES.get(machine, machine)}"


@define(eq=False)
class BaseImages:
    """The base image `name` for `platform`, read again after some minutes, since a tag may move."""

    context: Context
    name: str
    platform: str
    _known: Cache[str, Base] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._known = self.context.cache(1)

    async def get(self) -> Base:
        """Raises as `read`."""
        return await self._known.load(self.name, self._read, _REMEMBERED_SECONDS)

    async def _read(self) -> Base:
        return await read(self.context.registry, self.name, self.platform)


async def read(registry: ImageRegistry, name: str, platform: str) -> Base:
    """Reads the base image `name`, of whose platforms `platform` is taken.

    Raises ConfigError if it is not there or is no base; TransientError if its registry does not answer.
    """
    try:
        return await _read(registry, name, platform)
    except TransientError as error:
        # The registry is often not the one that images are pushed to: its name alone does not lead to the option.
        message = f"{_OPTION}: the image {name} cannot be read: {error}"
        raise TransientError(message, error.retry_after) from None


async def _read(registry: ImageRegistry, name: str, platform: str) -> Base:
    try:
        reference = Reference.parse(name)
    except ValueError as error:
        raise ConfigError([f"{_OPTION}: {name!r} is no name of an image: {error}"]) from None
    image = ImageReader(registry, name, reference.name)
    try:
        manifest = await image.manifest(reference.digest or reference.tag or "latest")
        if manifest.media_type in _INDEXES:
            index = image.document(manifest.content, _INDEX_SHAPE)
            manifest = await image.manifest(image.chosen(index["manifests"], platform))
        if manifest.media_type not in _MANIFESTS:
            raise image.wrong(f"is no image, but {manifest.media_type or 'something without a type'}")
        content = image.document(manifest.content, MANIFEST_SHAPE)
        config_blob = await registry.read_small_blob(image.repository, image.descriptor(content["config"]))
    except (DigestMismatch, MissingBlob) as error:
        raise image.wrong(f"cannot be read: {error}") from None
    config = image.document(config_blob, CONFIG_SHAPE)
    if (own := f"{config['os']}/{config['architecture']}") != platform:
        raise image.wrong(f"is for {own}, and images are made for {platform} (LayersBuilder.platform)")
    if MADE_FROM in (config["config"].get("Labels") or {}):
        raise image.wrong("was made by this builder and has an environment already; name the base that it is on")
    layers = image.layers(content["layers"], config["rootfs"]["diff_ids"])
    if len(layers) > _MOST_LAYERS:
        raise image.wrong(f"has {len(layers)} layers; at most {_MOST_LAYERS} leave room for those of packages")
    return image.described(manifest.descriptor.digest, layers, config, platform)


@frozen
class ImageReader:
    """Reads one image, a base or one on it; `name` is as the option has it, for messages."""

    registry: ImageRegistry
    name: str
    repository: str
    where: str = f"{_OPTION}: "
    """What is wrong with the image is a problem of."""

    def wrong(self, what: str) -> ConfigError:
        return ConfigError([f"{self.where}the image {self.name} {what}"])

    async def manifest(self, reference: str) -> Manifest:
        manifest = await self.registry.read_manifest(self.repository, reference)
        if manifest is None:
            raise self.wrong(
                "is not in its registry, or may not be read; make one of images/base, push it, and name it there"
            )
        return manifest

    def document(self, content: bytes, shape: Any) -> dict[str, Any]:
        try:
            document = parse_json(content)
            check_shape(document, shape)
        except MalformedError as error:
            raise self.wrong(f"has a manifest or configuration that {error}") from None
        return dict(document)

    def descriptor(self, content: Mapping[str, Any]) -> Descriptor:
        try:
            return Descriptor(content["mediaType"], content["digest"], content["size"])
        except ValueError as error:
            raise self.wrong(f"has a manifest that is none: {error}") from None

    def chosen(self, manifests: Sequence[Mapping[str, Any]], platform: str) -> str:
        """The digest of the manifest for `platform`."""
        platforms = {
            f"{own['os']}/{own['architecture']}": manifest["digest"]
            for manifest in reversed(manifests)  # of several variants the first counts
            if (own := manifest.get("platform"))
        }
        if platform not in platforms:
            there = ", ".join(sorted(set(platforms) - {"unknown/unknown"})) or "none"
            raise self.wrong(f"has no {platform} (LayersBuilder.platform) among its platforms: {excerpt(there)}")
        return str(platforms[platform])

    def layers(self, descriptors: Sequence[Mapping[str, Any]], diff_ids: Sequence[str]) -> tuple[Layer, ...]:
        if len(descriptors) != len(diff_ids):
            raise self.wrong(f"has {len(descriptors)} layers and {len(diff_ids)} diff ids")
        layers: list[Layer] = []
        for content, diff_id in zip(descriptors, diff_ids, strict=True):
            blob = self.descriptor(content)
            if (kind := _LAYER_TYPES.get(blob.media_type)) is None:
                raise self.wrong(f"has a layer of another kind: {excerpt(blob.media_type)}")
            layers.append(Layer(Descriptor(kind, blob.digest, blob.size), diff_id))
        return tuple(layers)

    def label(self, labels: Mapping[str, str], name: str, read: Callable[[str], T], example: str) -> T:
        """What `read` makes of a label. Raises ConfigError if it is missing, or `read` raises ValueError."""
        text = labels.get(f"{LABEL}{name}")
        try:
            if text is not None:
                return read(text)
        except ValueError:
            pass
        state = "is missing" if text is None else f"is {excerpt(text)!r}"
        raise self.wrong(
            f"is no base for this builder: its label {LABEL}{name} {state}; expected such as {example!r} "
            "(see the page on base images)"
        )

    def described(self, digest: str, layers: tuple[Layer, ...], config: dict[str, Any], platform: str) -> Base:
        """The base as its labels describe it, which an image on it has taken over."""
        labels = config["config"].get("Labels") or {}
        self.label(labels, "format", _is_format, _FORMAT)
        uid, gid = self.label(labels, "user", _user, "1000:1000")
        pythons = self.label(labels, "pythons", _pythons, "3.12.11=/usr/bin/python3.12 3.11=/usr/bin/python3.11")
        return Base(
            repository=self.repository,
            digest=digest,
            layers=layers,
            config=config,
            platform=platform,
            pythons={minor: path for minor, (_, path) in pythons.items()},
            versions={minor: version for minor, (version, _) in pythons.items()},
            libc=self.label(labels, "libc", _libc, "glibc 2.36"),
            prefix=self.label(labels, "prefix", _path, "/srv/conda/envs/notebook"),
            home=self.label(labels, "home", _path, "/home/jovyan"),
            repo_dir=self.label(labels, "repo-dir", _path, "/home/jovyan"),
            uid=uid,
            gid=gid,
        )


def _is_format(text: str) -> str:
    if text != _FORMAT:
        raise ValueError(text)
    return text


def _pythons(text: str) -> dict[str, tuple[str, str]]:
    """Versions and paths by minor version; the first is for repositories that name none."""
    found = [_PYTHON.fullmatch(word) for word in text.split()]
    if not found or None in found:
        raise ValueError(text)
    return {match[1]: (f"{match[1]}{match[2] or '.0'}", match[3]) for match in found if match}


def _libc(text: str) -> tuple[int, int]:
    first, second = _groups(_LIBC, text)
    return first, second


def _user(text: str) -> tuple[int, int]:
    uid, gid = _groups(_USER, text)
    return uid, gid


def _groups(pattern: re.Pattern[str], text: str) -> list[int]:
    if not (match := pattern.fullmatch(text)):
        raise ValueError(text)
    return [int(number) for number in match.groups()]


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError(text)
    return text
