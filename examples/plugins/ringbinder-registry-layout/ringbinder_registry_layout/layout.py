"""An OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/sha256`.

Sources: the OCI image specification, chapters image-layout, manifest and annotations; and the archive of `docker save`
with its `manifest.json`, which every version of the engine writes and reads.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Final

from attrs import frozen
from ringbinder.files import file_locked

_NAME: Final = "org.opencontainers.image.ref.name"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_PACKED: Final = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}
_CHUNK: Final = 1 << 20

Descriptor = dict[str, Any]


class Broken(Exception):
    """An archive is no whole image, or the layout no layout; the text says why."""


@frozen
class Entry:
    """An image that is whole. `size` in bytes with all its layers, `added_at` in Unix seconds."""

    digest: str
    size: int
    added_at: float


@frozen
class Layout:
    """The layout in `folder`, which need not be there yet. Its methods may block, and raise Broken."""

    folder: Path

    def names(self) -> list[str]:
        return [name for one in self._index() if (name := one.get("annotations", {}).get(_NAME))]

    def find(self, name: str) -> Entry | None:
        """None if the index does not name it, or if something of it is missing."""
        for descriptor in self._index():
            if descriptor.get("annotations", {}).get(_NAME) == name:
                manifest = self._manifest(descriptor)
                if manifest is None or not all(map(self._whole, _parts(manifest))):
                    return None
                size = sum(part["size"] for part in (descriptor, *_parts(manifest)))
                added_at = self._path(descriptor).stat().st_mtime
                return Entry(descriptor["digest"], size, added_at)
        return None

    def add(self, name: str, archive: BinaryIO) -> None:
        """Takes in the one image of `archive`, from `docker save`. The index changes last."""
        archive.seek(0)
        with self._locked():
            try:
                with tarfile.open(fileobj=archive, mode="r:") as members:
                    manifest = self._take(members)
            except (tarfile.TarError, KeyError, ValueError, TypeError, AttributeError) as error:
                raise Broken(f"the archive cannot be read ({error})") from None
            content = json.dumps(manifest).encode()
            descriptor = {
                **self._keep(io.BytesIO(content)),
                "mediaType": _MANIFEST,
                "annotations": {_NAME: name},
            }
            self._name(name, descriptor)

    def archive(self, name: str, into: BinaryIO) -> None:
        """Writes what `docker load` reads."""
        found = [one for one in self._index() if one.get("annotations", {}).get(_NAME) == name]
        manifest = self._manifest(found[0]) if found else None
        if manifest is None:
            raise Broken(f"{name} is not there")
        config, layers = (
            f"{_hex(manifest['config'])}.json",
            [f"{_hex(one)}.tar" for one in manifest["layers"]],
        )
        with tarfile.open(fileobj=into, mode="w") as members:
            for part, path in zip(_parts(manifest), (config, *dict.fromkeys(layers)), strict=False):
                members.add(self._path(part), path)
            content = json.dumps([{"Config": config, "RepoTags": [name], "Layers": layers}]).encode()
            listing = tarfile.TarInfo("manifest.json")
            listing.size = len(content)
            members.addfile(listing, io.BytesIO(content))
        into.seek(0)

    def remove(self, name: str) -> bool:
        """True if the index named it. What only this image was made of goes too."""
        with self._locked():
            there = name in self.names()
            self._name(name, None)
            used = {part["digest"] for one in self._index() for part in (one, *_parts(self._manifest(one) or {}))}
            for blob in (self.folder / "blobs" / "sha256").glob("*"):
                if f"sha256:{blob.name}" not in used:
                    blob.unlink()
            return there

    def _take(self, members: tarfile.TarFile) -> dict[str, Any]:
        """The manifest of the one image in it, whose parts are blobs now."""
        listed = json.load(_content(members, "manifest.json"))
        if len(listed) != 1:
            raise Broken(f"the archive holds {len(listed)} images")
        config = _content(members, listed[0]["Config"]).read()
        promised = json.loads(config)["rootfs"]["diff_ids"]
        layers = []
        for path in listed[0]["Layers"]:
            layer = self._keep(_content(members, path))
            with self._path(layer).open("rb") as file:
                packed = _PACKED.get(file.read(2), "")
            layers.append({**layer, "mediaType": _LAYER + packed})
        for layer, digest in zip(layers, promised, strict=True):
            if self._unpacked(layer) not in (digest, None):
                raise Broken(f"the layer {layer['digest']} is not what the image says: {digest}")
        described = {**self._keep(io.BytesIO(config)), "mediaType": _CONFIG}
        return {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": layers}

    def _unpacked(self, layer: Descriptor) -> str | None:
        """Digest of the layer's content; None where Python cannot unpack it."""
        if layer["mediaType"] == _LAYER:
            return str(layer["digest"])
        if not layer["mediaType"].endswith("gzip"):
            return None
        with gzip.open(self._path(layer)) as content:
            return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"

    def _keep(self, content: Any) -> Descriptor:
        """Makes a blob of it, which has its name only once it is whole and on the disk."""
        blobs = self.folder / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=blobs, prefix=".new-", delete=False) as file:
            try:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    size += file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(blobs / digest.hexdigest())
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        return {"digest": f"sha256:{digest.hexdigest()}", "size": size}

    def _name(self, name: str, descriptor: Descriptor | None) -> None:
        """Lets the index name this one, or none; other tools' entries stay."""
        others = [one for one in self._index() if one.get("annotations", {}).get(_NAME) != name]
        manifests = [*others, descriptor] if descriptor else others
        self._write("oci-layout", {"imageLayoutVersion": "1.0.0"})
        self._write("index.json", {"schemaVersion": 2, "manifests": manifests})

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        new = self.folder / f".{name}.new"
        with new.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / name)

    def _index(self) -> list[Descriptor]:
        path = self.folder / "index.json"
        try:
            return list(json.loads(path.read_bytes())["manifests"])
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise Broken(f"{path} is no index of images ({error}); mend it or move it away") from None

    def _manifest(self, descriptor: Descriptor) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self._path(descriptor).read_bytes()))
        except FileNotFoundError:
            return None

    def _whole(self, part: Descriptor) -> bool:
        try:
            return self._path(part).stat().st_size == int(part["size"])
        except FileNotFoundError:
            return False

    def _path(self, part: Descriptor) -> Path:
        return self.folder / "blobs" / "sha256" / _hex(part)

    def _locked(self) -> AbstractContextManager[None]:
        """One at a time, over all processes; readers need no lock, since what is named is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return file_locked(self.folder / ".lock")


def _parts(manifest: Mapping[str, Any]) -> list[Descriptor]:
    """Config and layers, each once; of an index, which other tools may have put there, its manifests."""
    parts = [manifest.get("config"), *manifest.get("layers", ()), *manifest.get("manifests", ())]
    return list({part["digest"]: part for part in parts if part}.values())


def _hex(part: Descriptor) -> str:
    """Raises ValueError for what is no name of a blob here."""
    kind, _, digest = part["digest"].partition(":")
    if kind != "sha256" or not digest.isalnum():
        raise ValueError(f"{part['digest']} is no sha256 digest")
    return str(digest)


def _content(members: tarfile.TarFile, path: str) -> Any:
    if (content := members.extractfile(path)) is None:
        raise Broken(f"{path} in the archive is no file")
    return content
