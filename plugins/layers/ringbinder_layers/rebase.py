"""Putting an image on another base: its own layers stay, those of its base are replaced. Nothing is built."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from attrs import evolve, frozen
from ringbinder import ConfigError, Declined, DigestMismatch, Image, Manifest, MissingBlob, UserError
from ringbinder.image_reference import Reference

from .base import CONFIG_SHAPE, MADE_FROM, MANIFEST_SHAPE, ImageReader, read
from .grouping import Group
from .image import (
    BASE_DIGEST,
    BASE_LAYERS,
    MANIFEST_TYPE,
    ImageFacts,
    ImageLayer,
    config_blob,
    image_config,
    image_manifest,
)
from .index import LayerIndex, NewLayer
from .model import Base, Place
from .upload import ImageUpload

_SHAPE: Final = {**MANIFEST_SHAPE, "annotations?": {str: str}}
_HISTORY: Final = "layers: "
_OWN_LABELS: Final = ("repo2docker.", "org.ringbinder.builder")
"""What the names of the labels begin with that an image does not have from its base."""
_BUILD_AGAIN: Final = "Build it again, for the base that is configured now (LayersBuilder.base_image)."


@frozen
class Assembled:
    """An image of this builder, taken apart."""

    base: Base
    """As it was when the image was made."""
    facts: ImageFacts
    layers: tuple[ImageLayer, ...]
    """On top of the base's."""
    labels: Mapping[str, str]


async def rebase(index: LayerIndex, base_name: str, image: Image) -> Image | Declined | None:
    """Puts `image` on the base that `base_name` stands for now; see the hook."""
    registry, reference = index.context.registry, Reference.parse(image.name)
    tag = reference.tag or "latest"
    manifest = await registry.read_manifest(reference.name, tag)
    if manifest is None:
        raise UserError("image-unknown", f"{image.name} is not in its registry.")
    reader = ImageReader(registry, image.name, reference.name, where="")
    try:
        old = await _take_apart(reader, manifest)
    except (ConfigError, DigestMismatch, MissingBlob, ValueError) as error:
        return Declined(f"it cannot be taken apart: {error}", _BUILD_AGAIN)
    if old is None:
        return None
    new = await read(registry, base_name, old.base.platform)
    if new.digest == old.base.digest:
        return image
    if reason := misfit(old, new):
        return Declined(reason, _BUILD_AGAIN)

    place = Place(new.prefix, old.facts.python, "", "gzip", new.uid, new.gid)
    upload = ImageUpload(index, reference.name, place, _no_layers)

    async def assemble() -> Manifest:
        await upload.base(new)
        config = image_config(new, old.facts, old.layers, old.labels)
        await upload.put(config_blob(config), config)
        return image_manifest(new, base_name, old.layers, config)

    pushed = await upload.publish(tag, assemble)
    return evolve(image, digest=pushed.digest, pushed=True)


def misfit(old: Assembled, new: Base) -> str:
    """Why the layers of an image do not work on the base `new`; empty if they do.

    They hold absolute paths, and what was compiled for a C library works with that one and with later ones.
    """
    was = old.base
    for what, before, now in (
        ("environments are made", was.prefix, new.prefix),
        ("the home folder is", was.home, new.home),
        ("the content is", was.repo_dir, new.repo_dir),
    ):
        if before != now:
            return f"{what} at {now} in the new base, and at {before} in the image"
    if (was.uid, was.gid) != (new.uid, new.gid):
        return f"the user of the new base is {new.uid}:{new.gid}, and that of the image {was.uid}:{was.gid}"
    if new.libc < was.libc:
        return f"the new base has glibc {_dotted(new.libc)}, older than {_dotted(was.libc)}"
    if old.facts.conda:
        return ""  # its interpreter is in its own layers
    minor = old.facts.python
    if minor not in new.pythons:
        return f"the new base has no Python {minor}"
    if new.pythons[minor] != was.pythons.get(minor):
        return f"Python {minor} is at {new.pythons[minor]} in the new base, and not where the environment leads to"
    if _numbers(new.versions[minor]) < _numbers(was.versions[minor]):
        return f"the new base has Python {new.versions[minor]}, older than {was.versions[minor]}"
    return ""


async def _take_apart(reader: ImageReader, manifest: Manifest) -> Assembled | None:
    """The parts of an image; None if this builder has not made it.

    Raises ConfigError, DigestMismatch, MissingBlob or ValueError if it is damaged.
    """
    if manifest.media_type != MANIFEST_TYPE:
        return None
    content = reader.document(manifest.content, _SHAPE)
    annotations = content.get("annotations") or {}
    if BASE_LAYERS not in annotations:
        return None
    blob = reader.descriptor(content["config"])
    config = reader.document(await reader.registry.read_small_blob(reader.repository, blob), CONFIG_SHAPE)
    labels: dict[str, str] = config["config"].get("Labels") or {}
    if MADE_FROM not in labels:
        return None
    facts = ImageFacts.parse(labels[MADE_FROM])
    layers = reader.layers(content["layers"], config["rootfs"]["diff_ids"])
    count = int(annotations[BASE_LAYERS])
    if not 0 <= count <= len(layers):
        raise ValueError(f"{count} of its {len(layers)} layers are the base's")
    platform = f"{config['os']}/{config['architecture']}"
    base = reader.described(str(annotations.get(BASE_DIGEST)), layers[:count], config, platform)
    own = layers[count:]
    named = zip(own, _contents(config, len(own)), strict=True)
    kept = {name: text for name, text in labels.items() if name.startswith(_OWN_LABELS)}
    return Assembled(base, facts, tuple(ImageLayer(layer, content) for layer, content in named), kept)


def _contents(config: Mapping[str, Any], count: int) -> list[str]:
    """What the last `count` layers hold, in the words of the image's history."""
    if not count:
        return []
    steps = [step for step in config.get("history") or () if not step.get("empty_layer")]
    texts = [str(step.get("created_by", "")).removeprefix(_HISTORY) for step in steps[-count:]]
    return texts if len(texts) == count else ["layer"] * count


def _no_layers(group: Group) -> AbstractAsyncContextManager[NewLayer]:
    raise AssertionError("nothing is made when an image changes its base")


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
