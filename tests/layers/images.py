"""Images in a registry, as tests look at them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import zstandard
from attrs import field, frozen
from ringbinder.model import Descriptor
from ringbinder.plugins.image_registry import ImageRegistry


@frozen
class ReadImage:
    """What a registry has of an image."""

    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[bytes, ...] = field(repr=False)
    """Tar files, those of the base among them."""

    @property
    def env(self) -> dict[str, str]:
        """Variables."""
        return dict(entry.split("=", 1) for entry in self.config["config"]["Env"])

    @property
    def digests(self) -> list[str]:
        """Of its layers."""
        return [layer["digest"] for layer in self.manifest["layers"]]

    @property
    def entries(self) -> dict[str, tarfile.TarInfo]:
        """What is in it, by absolute path, as an engine puts the layers over one another."""
        return {f"/{entry.name}": entry for _, entry in self._members()}

    @property
    def files(self) -> dict[str, bytes]:
        """Content of its files."""
        found: dict[str, bytes] = {}
        for tar, entry in self._members():
            if entry.isfile() and (file := tar.extractfile(entry)):
                found[f"/{entry.name}"] = file.read()
        return found

    def _members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        for layer in self.layers:
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                for entry in tar:
                    yield tar, entry


async def read_image(registry: ImageRegistry, repository: str, tag: str) -> ReadImage:
    """Reads all of an image; the registry's plugin verifies each part."""
    manifest = await registry.read_manifest(repository, tag)
    assert manifest is not None, f"{repository}:{tag} is not there"
    content = json.loads(manifest.content)

    async def blob(described: dict[str, Any]) -> bytes:
        return await registry.read_small_blob(
            repository, Descriptor(described["mediaType"], described["digest"], described["size"])
        )

    layers = [_tar_of(await blob(layer), layer["mediaType"]) for layer in content["layers"]]
    return ReadImage(content, json.loads(await blob(content["config"])), tuple(layers))


def _tar_of(layer: bytes, media_type: str) -> bytes:
    if media_type.endswith("gzip"):
        return gzip.decompress(layer)
    return zstandard.ZstdDecompressor().decompressobj().decompress(layer)
