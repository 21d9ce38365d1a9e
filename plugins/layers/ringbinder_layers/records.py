"""What the registry knows of layers and locks: one tag each, in a repository of its own.

A record is an image that any registry takes: its manifest names the layers, whose blobs are so in use for the
registry's clean-up, and annotations say what they are and on which day they were used last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from math import inf
from typing import Any, Final

from attrs import evolve, field, frozen
from ringbinder import (
    Clock,
    ConfigError,
    Descriptor,
    ImageRegistry,
    Logger,
    Manifest,
    MissingBlob,
    TransientError,
    digest_of,
)
from ringbinder.untrusted import MalformedError, check_shape, parse_json

from .image import CONFIG_TYPE, MANIFEST_TYPE
from .model import Layer

_TAG: Final = "org.ringbinder.tag"
_USED: Final = "org.ringbinder.used"
_DIFF_ID: Final = "org.ringbinder.diff-id"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CONTENT: Final = "application/vnd.ringbinder.content"
_RENEWED_AFTER: Final = 0.1
"""Part of the time for which a record is kept: once it was not used for so long, a use is written down."""

_DESCRIPTOR: Final = {"mediaType": str, "digest": str, "size": int, "annotations?": {str: str}}
_SHAPE: Final = {"annotations": {str: str}, "config": _DESCRIPTOR, "layers": [_DESCRIPTOR]}


def layers_repository(prefix: str) -> str:
    """The repository of layers that all images share whose names begin with `prefix`."""
    # As names of images are made; none of them is this one, since they end in a hash.
    return f"{prefix}layers".replace("_", "-").lower()


def _or_for_ever(seconds: float) -> float:
    return seconds or inf


@frozen
class Record:
    """What is kept under a tag: layers, or a small content of another kind."""

    tag: str
    layers: tuple[Layer, ...] = ()
    used: date = date.min
    """The day of its last use, or up to a tenth of the time before for which records are kept."""
    annotations: Mapping[str, str] = field(factory=dict)
    """More that its manifest has."""
    content: Descriptor | None = None
    digest: str = field(default="", eq=False)
    """Of its manifest, if it was read."""


@frozen
class Records:
    """The records of the repository `name`, kept for `keep` seconds after their last use, or for ever if that is 0."""

    registry: ImageRegistry
    name: str
    keep: float = field(converter=_or_for_ever)
    clock: Clock
    log: Logger

    @property
    def today(self) -> date:
        """The day in UTC."""
        return datetime.fromtimestamp(self.clock.time(), UTC).date()

    async def read(self, tag: str) -> Record | None:
        """The record; None if there is none. Raises MalformedError for what is no record of this tag."""
        manifest = await self.registry.read_manifest(self.name, tag)
        return _record(tag, manifest) if manifest else None

    async def read_content(self, record: Record) -> bytes:
        """The content of a record. Raises `MissingBlob`, `DigestMismatch`, or MalformedError if it has none."""
        if record.content is None:
            raise MalformedError(f"has no content at the tag {record.tag}")
        return await self.registry.read_small_blob(self.name, record.content)

    async def write(self, record: Record, content: bytes | None = None) -> Record:
        """Writes a record, used today, in place of what was there. Its layers' blobs are in the repository.

        Raises `MissingBlob` if one is not.
        """
        if content is not None:
            described = Descriptor(_CONTENT, digest_of(content), len(content))
            record = evolve(record, content=described)
            await self.registry.put_blob(self.name, described, content)
        record = evolve(record, used=self.today)
        config = _config(record)
        described = Descriptor(CONFIG_TYPE, digest_of(config), len(config))
        await self.registry.put_blob(self.name, described, config)
        await self.registry.put_manifest(self.name, record.tag, _manifest(record, described))
        return record

    async def renew(self, record: Record) -> None:
        """Writes a use of the record down, if the last one that was is too long ago.

        That is no reason to fail: some registries can be set to let no tag be written again.
        """
        if (self.today - record.used).total_seconds() <= self.keep * _RENEWED_AFTER:
            return
        try:
            await self.write(record)
        except (ConfigError, MissingBlob, TransientError) as error:
            self.log.warning("use of a layer not written down", tag=record.tag, reason=str(error))

    def expires(self, record: Record) -> float:
        """Unix seconds from which on it is not kept."""
        day_after = datetime.combine(record.used + timedelta(days=1), datetime.min.time(), UTC)
        return day_after.timestamp() + self.keep


def _config(record: Record) -> bytes:
    """The configuration of an image with these layers."""
    diff_ids = [layer.diff_id for layer in record.layers]
    # As images that are not run: https://docs.docker.com/build/metadata/attestations/attestation-storage/
    platform = {"architecture": "unknown", "os": "unknown"}
    return _json({**platform, "rootfs": {"type": "layers", "diff_ids": diff_ids}})


def _manifest(record: Record, config: Descriptor) -> Manifest:
    layers = [_described(layer.blob) | {"annotations": {_DIFF_ID: layer.diff_id}} for layer in record.layers]
    if record.content:
        layers.append(_described(record.content))
    about = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _described(config),
        "layers": layers,
        "annotations": {**record.annotations, _TAG: record.tag, _USED: record.used.isoformat()},
    }
    return Manifest(MANIFEST_TYPE, _json(about))


def _described(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _record(tag: str, manifest: Manifest) -> Record:
    about = parse_json(manifest.content)
    check_shape(about, _SHAPE)
    annotations: dict[str, str] = dict(about["annotations"])
    if annotations.pop(_TAG, "") != tag:
        raise MalformedError(f"has another record at the tag {tag}")
    try:
        used = date.fromisoformat(annotations.pop(_USED, ""))
        layers, contents = _layers(about["layers"])
    except ValueError as error:
        raise MalformedError(f"has a malformed record at the tag {tag}: {error}") from None
    return Record(tag, layers, used, annotations, contents[0] if contents else None, manifest.descriptor.digest)


def _layers(described: Sequence[Mapping[str, Any]]) -> tuple[tuple[Layer, ...], list[Descriptor]]:
    layers, contents = [], []
    for each in described:
        blob = Descriptor(each["mediaType"], each["digest"], each["size"])
        if blob.media_type == _CONTENT:
            contents.append(blob)
        else:
            diff_id = (each.get("annotations") or {}).get(_DIFF_ID, "")
            if not _DIGEST.fullmatch(diff_id):
                raise ValueError(f"the layer {blob.digest} has no digest of its tar file")
            layers.append(Layer(blob, diff_id))
    return tuple(layers), contents


def _json(about: Any) -> bytes:
    return json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
