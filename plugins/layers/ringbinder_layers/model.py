"""What flows through the builder: a lock of packages, the base image, and the layers that are made for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Literal

from attrs import asdict, field, frozen
from ringbinder import Descriptor

FORMAT: Final = 1
"""Version of how layers are made: to be raised by every change of what is in one."""

MADE_AT: Final = 315532800
"""Modification time of every file in a layer, in Unix seconds: 1980-01-01, the first that a zip file can hold."""

Compression = Literal["zstd", "gzip"]


@frozen
class Package:
    """A file of an index or a channel, whose content its digest fixes."""

    kind: Literal["wheel", "conda"]
    name: str
    """Normalized, as in the index."""
    version: str
    url: str = field(repr=False)
    """Where it is downloaded from; no credentials."""
    digest: str
    """``sha256:`` and 64 hexadecimal digits: of the file, as the index or the lock gives it."""
    size: int | None = None
    """Bytes of the file, where the index or the lock gives them."""
    shared: bool = True
    """Its layer may be used for other repositories: it comes from an index that all may read."""
    facts: Mapping[str, Any] = field(factory=dict, hash=False, repr=False)
    """For conda: the record of the channel's index, which conda-meta keeps."""

    @property
    def decisive(self) -> list[Any]:
        """What of it decides its files; `facts` too, since a repository's lock file may give wrong ones."""
        return [self.kind, self.name, self.digest, dict(self.facts)]


@frozen
class Lock:
    """Everything that an environment consists of. The same lock gives the same files."""

    packages: tuple[Package, ...]
    """In the order in which they are installed: of two that bring one file, the later one's stays."""
    python: str
    """``3.11``: of the interpreter that the wheels are for."""
    conda: bool = False
    """The interpreter comes with the packages; else it is one of the base image's."""

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of what decides the files."""
        return _digest([self.python, self.conda, [package.decisive for package in self.packages]])


@frozen
class Layer:
    """A layer of an image: a compressed tar file in a registry."""

    blob: Descriptor
    """As it is stored: media type, digest and size after compression."""
    diff_id: str
    """``sha256:...`` of the tar file, as an image's configuration names it."""


@frozen
class Base:
    """A base image, as its labels describe it. Paths are absolute, in the image."""

    repository: str
    """Its name without a tag; of the registry that it is read from."""
    digest: str
    """Of its manifest, for one platform."""
    layers: tuple[Layer, ...]
    config: Mapping[str, Any] = field(hash=False, repr=False)
    """The image's configuration, as the registry has it."""
    platform: str
    """``linux/amd64``."""
    pythons: Mapping[str, str] = field(hash=False)
    """Interpreters by minor version: ``{"3.11": "/usr/bin/python3.11"}``; the first is for those that name none."""
    versions: Mapping[str, str] = field(hash=False)
    """Their whole versions: ``{"3.11": "3.11.14"}``; where a base does not say so, the first of that minor."""
    libc: tuple[int, int]
    """glibc's version, which decides the wheels that run there: ``(2, 36)``."""
    prefix: str
    """Where environments are made: ``/srv/env``."""
    home: str
    """Home folder of the user, below or at which the content is."""
    repo_dir: str
    """Where the repository's content goes."""
    uid: int = 1000
    gid: int = 1000


@frozen
class Place:
    """What a layer of packages depends on besides the packages."""

    prefix: str
    """Folder of the environment in the image."""
    python: str
    """Minor version of the interpreter (``3.11``)."""
    interpreter: str
    """Path of the interpreter that the environment's ``bin/python`` leads to; of conda ``PREFIX/bin/python``."""
    compression: Compression
    uid: int = 1000
    gid: int = 1000

    def key(self, packages: tuple[Package, ...]) -> str:
        """The tag of the layer with these packages: 64 hexadecimal digits."""
        facts = [FORMAT, asdict(self), [package.decisive for package in packages]]
        return _digest(facts).removeprefix("sha256:")


def _digest(facts: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}"
