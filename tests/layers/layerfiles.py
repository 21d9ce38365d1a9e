"""Layers that tests have made: what is in them, read with the standard library."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import zstandard
from ringbinder_layers.model import Compression, Layer
from ringbinder_layers.tar import LayerWriter


def writer(
    target: Path,
    compression: Compression = "zstd",
    top: str = "/srv/env",
    check: Callable[[], None] = lambda: None,
) -> LayerWriter:
    """Return a writer for the environment of user 1000."""
    return LayerWriter(target, compression, top=top, uid=1000, gid=1000, check=check)


def tar_of(layer: Path, made: Layer) -> bytes:
    """Return the layer without its compression."""
    content = layer.read_bytes()
    if made.blob.media_type.endswith("gzip"):
        return gzip.decompress(content)
    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


def entries(layer: Path, made: Layer) -> list[tarfile.TarInfo]:
    """Return what is in the layer, in its order."""
    with tarfile.open(fileobj=io.BytesIO(tar_of(layer, made))) as tar:
        return tar.getmembers()


def files(layer: Path, made: Layer) -> dict[str, bytes]:
    """Return the layer's files and their content."""
    with tarfile.open(fileobj=io.BytesIO(tar_of(layer, made))) as tar:
        return {f"/{member.name}": tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]  # of a file never None


def unpack(layer: Path, made: Layer) -> None:
    """Unpack a layer that was made for a folder of this test, at the paths that it has, as this user."""
    with tarfile.open(fileobj=io.BytesIO(tar_of(layer, made))) as tar:
        tar.extractall("/", filter=_as_this_user)


def _as_this_user(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    if member.isdir() and Path("/", member.name).is_dir():
        return None
    return member.replace(uid=os.getuid(), gid=os.getgid(), deep=False)
