"""What an image consists of besides its layers: its configuration and its manifest, by the OCI image specification.

Both are pure functions of what they are made from, so that one commit gives one image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

from attrs import asdict, field, frozen, validators
from ringbinder import Descriptor, Manifest, Repo, digest_of

from .base import MADE_FROM
from .model import Base, Compression, Layer

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
BASE_NAME: Final = "org.opencontainers.image.base.name"
BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
BASE_LAYERS: Final = "org.ringbinder.base.layers"
"""Annotation of a manifest: how many of its first layers are the base's."""

_CREATED: Final = "1980-01-01T00:00:00Z"  # as `MADE_AT`


@frozen
class ImageFacts:
    """What an image's configuration depends on besides its base and its labels; kept in the image as a label."""

    python: str = field(validator=validators.instance_of(str))
    """Minor version of the environment's interpreter."""
    conda: bool = field(default=False, validator=validators.instance_of(bool))
    """The environment consists of conda packages."""
    start: str = field(default="", validator=validators.instance_of(str))
    """Path of the repository's start script in it; empty: it has none."""

    def text(self) -> str:
        """As the label has it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what is no such text."""
        try:
            facts = cls(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        return facts


@frozen
class ImageLayer:
    """A layer on top of the base's, with what is in it, for people who ask for an image's history."""

    layer: Layer
    content: str


def compression(wanted: Literal["auto", "zstd", "gzip"], base: Base) -> Compression:
    """How new layers on `base` are compressed."""
    if wanted != "auto":
        return wanted
    # What pulls an image pulls its base, too.
    return "zstd" if any(layer.blob.media_type.endswith("+zstd") for layer in base.layers) else "gzip"


def repository_labels(repo: Repo) -> dict[str, str]:
    """The labels by which repo2docker's images name what they were made from."""
    return {"repo2docker.repo": repo.url, "repo2docker.ref": repo.ref}


def image_config(base: Base, facts: ImageFacts, layers: Sequence[ImageLayer], labels: Mapping[str, str]) -> bytes:
    """The configuration of the image that consists of `base` and `layers`."""
    inherited = base.config["config"]
    config = {
        **inherited,
        "Env": [f"{name}={value}" for name, value in environment(base, facts).items()],
        "WorkingDir": base.repo_dir,
        "Labels": {**(inherited.get("Labels") or {}), **labels, MADE_FROM: facts.text()},
    }
    history = [dict(step) for step in base.config.get("history") or ()]
    if sum(not step.get("empty_layer") for step in history) != len(base.layers):
        history = [{"created_by": "base"} for _ in base.layers]  # engines refuse one that does not fit
    os, _, architecture = base.platform.partition("/")
    variant = {"variant": base.config["variant"]} if base.config.get("variant") else {}
    return _json({
        "created": _CREATED,
        "os": os,
        "architecture": architecture,
        **variant,
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [layer.diff_id for layer in (*base.layers, *(each.layer for each in layers))],
        },
        "history": [*history, *({"created": _CREATED, "created_by": f"layers: {each.content}"} for each in layers)],
    })  # fmt: skip


def image_manifest(base: Base, base_name: str, layers: Sequence[ImageLayer], config: bytes) -> Manifest:
    """The manifest of the image with that `config`; `base_name` is the base's as the configuration names it."""
    blobs = [layer.blob for layer in (*base.layers, *(each.layer for each in layers))]
    content = _json({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _as_json(config_blob(config)),
        "layers": [_as_json(blob) for blob in blobs],
        "annotations": {BASE_NAME: base_name, BASE_DIGEST: base.digest, BASE_LAYERS: str(len(base.layers))},
    })  # fmt: skip
    return Manifest(MANIFEST_TYPE, content)


def config_blob(config: bytes) -> Descriptor:
    """How a manifest names `config`."""
    return Descriptor(CONFIG_TYPE, digest_of(config), len(config))


def environment(base: Base, facts: ImageFacts) -> dict[str, str]:
    """The variables of the image: those of its base, and what repo2docker's images have."""
    inherited = dict(entry.split("=", 1) for entry in base.config["config"].get("Env") or () if "=" in entry)
    folders = [f"{base.home}/.local/bin", f"{base.repo_dir}/.local/bin", f"{base.prefix}/bin"]
    path = [
        *dict.fromkeys(folders),
        inherited.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ]
    jupyter = [f"{base.prefix}/share/jupyter", *filter(None, [inherited.get("JUPYTER_PATH")])]
    own = (
        {"CONDA_PREFIX": base.prefix, "CONDA_DEFAULT_ENV": base.prefix} if facts.conda else {"VIRTUAL_ENV": base.prefix}
    )
    return inherited | own | {
        "PATH": ":".join(path),
        "JUPYTER_PATH": ":".join(jupyter),
        "REPO_DIR": base.repo_dir,
        "NB_PYTHON_PREFIX": base.prefix,
        "KERNEL_PYTHON_PREFIX": base.prefix,
        "PYTHONUNBUFFERED": "1",
        **({"R2D_ENTRYPOINT": f"{base.repo_dir}/{facts.start}"} if facts.start else {}),
    }  # fmt: skip


def _as_json(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
