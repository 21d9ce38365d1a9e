"""One OCI image layout: a folder with the blobs, manifests and tags of a repository.

Source: the image layout of the OCI image specification, version 1.0. What is in the folder may be a stranger's, so it
is read through `UntrustedTree`, within bounds. Every file is written beside its place and moved there, and the index is
changed under a lock on its file ``oci-layout``: any number of processes may use a layout, and be killed at any moment.
Everything here blocks, and raises OSError and `UntrustedError` besides what is documented.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

from attrs import define, field
from ringbinder import ConfigError, Descriptor, DigestMismatch, Manifest, MissingBlob
from ringbinder.files import locked
from ringbinder.untrusted import MAX_LOCK_VALUES, MalformedError, UntrustedError, UntrustedTree, check_shape, parse_json

MANIFEST_BYTES: Final = 4 * 2**20
REF_NAME: Final = "org.opencontainers.image.ref.name"
"""The annotation that names a manifest; here it is the tag."""

_VERSION: Final = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_IMAGES: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
"""What the configuration of an image is, and not of another artifact."""
_RECORD: Final = "org.ringbinder.tag"
"""Annotation of what looks like an image and is not: the builder `layers` keeps a single layer so."""
_BLOBS: Final = "blobs/sha256"
_DRAFT: Final = ".draft-"
_MARK: Final = "oci-layout"
_MARK_BYTES: Final = 4096
_INDEX_BYTES: Final = 64 * 2**20
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_KEPT_UNUSED: Final = 86_400.0
"""Seconds for which a draft stays, and a blob that no manifest names: one that will may be on its way."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCKABLE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NFS locks what can be written
_DESCRIPTOR: Final = {"mediaType": str, "digest": str, "size": int}

Entry = dict[str, Any]
"""A descriptor in the index or in a manifest, with what others have put into it."""


@define(eq=False)
class Draft:
    """A file on its way into the layout; `put` has it appear under its digest."""

    _file: BinaryIO
    _name: str
    size: int = field(default=0, init=False)
    _hash: Any = field(factory=hashlib.sha256, init=False)

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def put(self, folder: int, place: int, name: str) -> None:
        """Moves the file from `folder` to `name` in the folder `place`, in place of what is there."""
        self._file.flush()
        os.rename(self._name, name, src_dir_fd=folder, dst_dir_fd=place)


@define(eq=False)
class Layout:
    """The layout in the folder `name` of `root`, or in `root` itself; it need not be there yet."""

    root: Path
    name: str = ""
    _tidied: bool = field(default=False, init=False)

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return str(self.root / self.name)

    @cached_property
    def tree(self) -> UntrustedTree:
        """The folder. `root` is the operator's, links on the way to it included."""
        return UntrustedTree(self.root.resolve() / self.name)

    def find(self, digest: str) -> int | None:
        """The size of the blob; None if it is not there."""
        with suppress(FileNotFoundError, UntrustedError):
            facts = self.tree.stat(_path(digest))
            return facts.st_size if stat.S_ISREG(facts.st_mode) else None
        return None

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened. Raises MissingBlob."""
        try:
            return self.tree.open(_path(digest))
        except FileNotFoundError:
            raise MissingBlob(f"{self.title} has no blob {digest}", digest) from None

    def touch(self, blob: Descriptor) -> bool:
        """Whether the whole blob is there; if so it is not taken for an unused one for a while."""
        if self.find(blob.digest) != blob.size:
            return False
        with suppress(OSError), self.tree.handle(_BLOBS) as blobs:
            os.utime(_hex(blob.digest), dir_fd=blobs, follow_symlinks=False)
        return True

    def link(self, blob: Descriptor, source: Layout) -> bool:
        """Gives the file that the layout `source` has a name here, too; False where that cannot be done."""
        self.begin()
        name = _hex(blob.digest)
        if source.find(blob.digest) != blob.size:
            return False
        with source.tree.handle(_BLOBS) as there, self.tree.handle(_BLOBS) as here:
            try:
                os.link(name, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
            except OSError:
                return False  # a damaged one is in its place, or the file system has no such links
        return self.touch(blob)

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A new file; removed at the end, unless it has been put in its place."""
        self.begin()
        name = f"{_DRAFT}{secrets.token_hex(8)}"
        with self.tree.handle() as folder, os.fdopen(os.open(name, _NEW, 0o644, dir_fd=folder), "wb") as file:
            try:
                yield Draft(file, name)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)

    def keep(self, draft: Draft, blob: Descriptor) -> None:
        """Makes the draft the blob. Raises DigestMismatch if it is not."""
        if (draft.digest, draft.size) != (blob.digest, blob.size):
            raise DigestMismatch(f"the content for {self.title} is not {blob.digest} of {blob.size} bytes")
        with self.tree.handle() as folder, self.tree.handle(_BLOBS) as blobs:
            draft.put(folder, blobs, _hex(blob.digest))

    def manifest(self, reference: str) -> Manifest | None:
        """The manifest under a tag or a digest. Raises DigestMismatch."""
        entry = next((entry for entry in self._entries() if reference in (entry["digest"], _name(entry))), None)
        digest = entry["digest"] if entry else reference
        if not _DIGEST.fullmatch(digest):
            return None
        content = self._small_blob(digest)
        if content is None:
            return None
        return Manifest(str(entry["mediaType"]) if entry else _media_type(content), content)

    def put_manifest(self, reference: str, manifest: Manifest) -> None:
        """Stores a manifest, in place of what the tag `reference` stood for. Raises MissingBlob."""
        self.begin()
        for named in _named(manifest.content):
            if self.find(digest := named["digest"]) != named["size"]:
                raise MissingBlob(f"{self.title} does not have {digest}, which a manifest for it names", digest)
        described = manifest.descriptor
        with self.draft() as draft:
            draft.write(manifest.content)
            self.keep(draft, described)
        entry: Entry = {"mediaType": described.media_type, "digest": described.digest, "size": described.size}
        tag = reference if _TAG.fullmatch(reference) else ""
        if tag:
            entry["annotations"] = {REF_NAME: tag}
        with self._changing() as entries:
            if tag:
                entries[:] = [other for other in entries if _name(other) != tag]
            if tag or all(other["digest"] != described.digest for other in entries):
                entries.append(entry)

    def tags(self) -> Sequence[str]:
        """All tags. A name that is no tag, as other programs give, is left out."""
        return [name for entry in self._entries() if _TAG.fullmatch(name := _name(entry))]

    def delete_manifest(self, reference: str) -> bool:
        """Removes a tag, or all tags of a digest with the manifest, and blobs that have been unused for a day."""
        if not self.tree.is_file(_MARK):
            return False
        with self._changing() as entries:
            kept = [entry for entry in entries if reference not in (entry["digest"], _name(entry))]
            known = len(kept) < len(entries)
            entries[:] = kept
        if _DIGEST.fullmatch(reference):
            known = self.delete_blob(reference) or known
        if known:
            self._remove_unused()
        return known

    def delete_blob(self, digest: str) -> bool:
        """True if it was there."""
        try:
            with self.tree.handle(_BLOBS) as blobs:
                os.unlink(_hex(digest), dir_fd=blobs)
        except FileNotFoundError:
            return False
        return True

    def delete(self) -> bool:
        """Removes the layout, if it has no tag; False if it has one, or is not there."""
        if not self.tree.is_file(_MARK):
            return False
        with self._locked():
            if any(map(_name, self._entries())):
                return False
            self.tree.remove_tree("blobs")
            for name in ("index.json", _MARK):
                self.tree.remove(name)
        with suppress(OSError):  # something else is in it
            self.tree.root.rmdir()
        return True

    def whole(self, content: bytes) -> tuple[int, bool]:
        """How many bytes the image of a manifest has, and whether all of it is here."""
        named = _named(content)
        return sum(part["size"] for part in named), all(self.find(part["digest"]) == part["size"] for part in named)

    def images(self) -> Sequence[tuple[str, str, int, float]]:
        """Tag, digest, bytes and Unix time of each image."""
        images: list[tuple[str, str, int, float]] = []
        for entry in self._entries():
            if not _TAG.fullmatch(tag := _name(entry)):
                continue
            with suppress(MalformedError, OSError, UntrustedError, DigestMismatch):
                manifest = self.manifest(tag)
                if manifest is not None and _is_image(manifest.content):
                    size, whole = self.whole(manifest.content)
                    if whole:
                        made = self.tree.stat(_path(entry["digest"])).st_mtime
                        images.append((tag, entry["digest"], size, made))
        return images

    def begin(self) -> None:
        """Makes the layout, if it is not there. Raises ConfigError for a folder with anything else in it."""
        tree = self.tree
        tree.root.mkdir(parents=True, exist_ok=True)
        if not tree.is_file(_MARK):
            known = ("blobs", "index.json")
            strange = [name for name in tree.names() if name not in known and not name.startswith(_DRAFT)]
            if strange:
                raise ConfigError([f"{self.title} is no OCI image layout, and not empty: {strange[0]} is in it"])
            for folder in ("blobs", _BLOBS):
                tree.make_folder(folder, 0o755)
            self._make("index.json", _index([]))
            self._make(_MARK, _VERSION)  # last: it makes the folder a layout
        if not self._tidied:
            self._require_version()
            self._remove_old(".", lambda name: name.startswith(_DRAFT))
            self._tidied = True

    def _require_version(self) -> None:
        try:
            mark = parse_json(self.tree.read(_MARK, _MARK_BYTES))
            check_shape(mark, {"imageLayoutVersion": str})
        except MalformedError as error:
            raise ConfigError([f"{self.title}: {_MARK} {error}"]) from None
        if not mark["imageLayoutVersion"].startswith("1."):
            raise ConfigError([f"{self.title}: {_MARK} names a version of image layouts that is not known here"])

    def _make(self, name: str, content: bytes) -> None:
        """Makes the file, whole; one that is there stays."""
        draft = f"{_DRAFT}{secrets.token_hex(8)}"
        self.tree.write(draft, content, 0o644)
        with self.tree.handle() as folder:
            try:
                with suppress(FileExistsError):
                    os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.unlink(draft, dir_fd=folder)

    @contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        """The entries of the index, which are written when they have been changed; no one else does meanwhile."""
        with self._locked():
            entries = self._entries()
            before = list(entries)
            yield entries
            if entries != before:
                self.tree.write("index.json", _index(entries), 0o644)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the lock of the layout, which is there then."""
        while True:
            self.begin()
            with self.tree.handle() as folder:
                file = os.open(_MARK, _LOCKABLE, dir_fd=folder)
            try:
                with locked(file):
                    # Another process may have removed the layout while this one has waited.
                    if os.fstat(file).st_nlink:
                        yield
                        return
            finally:
                os.close(file)

    def _entries(self) -> list[Entry]:
        """What the index describes; nothing if there is none. Raises ConfigError if it cannot be understood."""
        try:
            content = self.tree.read("index.json", _INDEX_BYTES)
        except FileNotFoundError:
            return []
        try:
            index = parse_json(content, values=MAX_LOCK_VALUES)
            check_shape(index, {"manifests?": [{**_DESCRIPTOR, "annotations?": {str: str}}]})
        except MalformedError as error:
            raise ConfigError([f"{self.title}: index.json {error}"]) from None
        return index.get("manifests") or []

    def _small_blob(self, digest: str) -> bytes | None:
        """A manifest's bytes; None if it is not there. Raises DigestMismatch."""
        with suppress(MissingBlob), self.open(digest) as file:
            content = file.read(MANIFEST_BYTES + 1)
            if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
                raise DigestMismatch(f"the manifest {digest} of {self.title} is not what its digest says")
            return content
        return None

    def _remove_unused(self) -> None:
        """Removes the blobs that no manifest names, and that were neither put nor found for a while."""
        with self._locked():
            used: set[str] = set()
            waiting = [entry["digest"] for entry in self._entries()]
            while waiting:
                if (digest := waiting.pop()) in used or not _DIGEST.fullmatch(digest):
                    continue
                used.add(digest)
                if (self.find(digest) or 0) <= MANIFEST_BYTES:
                    # What is no manifest, a configuration or a small layer, names none.
                    with suppress(MalformedError, DigestMismatch):
                        waiting += [named["digest"] for named in _named(self._small_blob(digest) or b"{}")]
            self._remove_old(_BLOBS, lambda name: f"sha256:{name}" not in used)

    def _remove_old(self, path: str, chosen: Callable[[str], bool]) -> None:
        """Removes the files in the folder at `path` that are `chosen` and were not used for a while."""
        oldest = time.time() - _KEPT_UNUSED
        with self.tree.handle(path) as folder:
            for name in filter(chosen, self.tree.names(path)):
                with suppress(OSError):
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < oldest:
                        os.unlink(name, dir_fd=folder)


def _named(content: bytes) -> list[Mapping[str, Any]]:
    """The descriptors of what a manifest names. Raises MalformedError."""
    manifest = parse_json(content, values=MAX_LOCK_VALUES)
    check_shape(manifest, {"config?": _DESCRIPTOR, "layers?": [_DESCRIPTOR], "manifests?": [_DESCRIPTOR]})
    named = [*(manifest.get("layers") or ()), *(manifest.get("manifests") or ())]
    if config := manifest.get("config"):
        named.append(config)
    for descriptor in named:
        if not _DIGEST.fullmatch(descriptor["digest"]):
            raise MalformedError("names a blob by no sha256 digest")
    return named


def _is_image(content: bytes) -> bool:
    """Whether a manifest is an image's, or a list of images, and not another artifact's."""
    manifest = parse_json(content, values=MAX_LOCK_VALUES)
    if _RECORD in (manifest.get("annotations") or {}):
        return False
    return "manifests" in manifest or manifest.get("config", {}).get("mediaType") in _IMAGES


def _media_type(content: bytes) -> str:
    """Of a manifest that no index names, by what it says of itself."""
    try:
        manifest = parse_json(content, values=MAX_LOCK_VALUES)
        check_shape(manifest, {"mediaType?": str})
    except MalformedError:
        return _MANIFEST
    return str(manifest.get("mediaType") or (_INDEX if "manifests" in manifest else _MANIFEST))


def _index(entries: Sequence[Entry]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}, separators=(",", ":")).encode()


def _name(entry: Entry) -> str:
    return str((entry.get("annotations") or {}).get(REF_NAME) or "")


def _path(digest: str) -> str:
    return f"{_BLOBS}/{_hex(digest)}"


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
