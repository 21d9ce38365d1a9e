"""A base image of one small layer, for tests that run nothing in it: described by its labels as a real one is."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any, Final

from ringbinder.model import Descriptor, Manifest, digest_of
from ringbinder.plugins.image_registry import ImageRegistry

OCI: Final = "application/vnd.oci.image"
DOCKER: Final = "application/vnd.docker"
PREFIX: Final = "/srv/conda/envs/notebook"
LABELS: Final = {
    "format": "1",
    "pythons": "3.12.11=/opt/python/3.12/bin/python3.12 3.11=/usr/bin/python3.11",
    "libc": "glibc 2.36",
    "prefix": PREFIX,
    "home": "/home/jovyan",
    "repo-dir": "/home/jovyan",
    "user": "1000:1000",
}


def config(
    labels: Mapping[str, str | None] = {}, platform: str = "linux/amd64", **more: Any
) -> tuple[dict[str, Any], bytes]:
    """The configuration of a base, and its layer; a label that is None is left out."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as content:
        for folder in ("home", "home/jovyan"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            content.addfile(entry)
    os, _, architecture = platform.partition("/")
    named = {f"org.ringbinder.base.{name}": text for name, text in {**LABELS, **labels}.items() if text is not None}
    own = {
        "Env": ["PATH=/srv/jupyter/bin:/usr/bin:/bin", "HOME=/home/jovyan", "LANG=C.UTF-8"],
        "Labels": named,
        "User": "1000:1000",
        "Entrypoint": ["/usr/local/bin/repo2docker-entrypoint"],
        "Cmd": ["jupyter", "notebook", "--ip", "0.0.0.0"],
        "ExposedPorts": {"8888/tcp": {}},
        **more,
    }
    rootfs = {"type": "layers", "diff_ids": [digest_of(tar.getvalue())]}
    return {"os": os, "architecture": architecture, "config": own, "rootfs": rootfs}, gzip.compress(
        tar.getvalue(), mtime=0
    )


async def publish(
    registry: ImageRegistry,
    repository: str,
    tag: str,
    made: tuple[dict[str, Any], bytes] | None = None,
    *,
    layer_type: str = f"{OCI}.layer.v1.tar+gzip",
) -> str:
    """Puts a base there; returns the digest of its manifest."""
    described, layer = made or config()
    blobs = []
    for kind, content in ((f"{OCI}.config.v1+json", json.dumps(described).encode()), (layer_type, layer)):
        blob = Descriptor(kind, digest_of(content), len(content))
        await registry.put_blob(repository, blob, content)
        blobs.append({"mediaType": kind, "digest": blob.digest, "size": blob.size})
    about = {"schemaVersion": 2, "mediaType": MANIFEST, "config": blobs[0], "layers": blobs[1:]}
    return (await registry.put_manifest(repository, tag, Manifest(MANIFEST, json.dumps(about).encode()))).digest


MANIFEST: Final = f"{OCI}.manifest.v1+json"
INDEX: Final = f"{OCI}.index.v1+json"


async def publish_index(registry: ImageRegistry, repository: str, tag: str, digests: Mapping[str, str]) -> None:
    """Puts a list of images there, by their platforms."""
    manifests = [
        {"digest": digest, "platform": dict(zip(("os", "architecture"), platform.split("/"), strict=True))}
        for platform, digest in digests.items()
    ]
    about = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    await registry.put_manifest(repository, tag, Manifest(INDEX, json.dumps(about).encode()))
