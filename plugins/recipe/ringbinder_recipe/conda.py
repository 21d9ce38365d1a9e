"""Which conda packages an environment consists of, found by py-rattler in a process of its own.

`SolverJob` is what that process is given, `Solution` what it has found; who starts it, and within which limits, is the
builder's. It runs no code of any package and installs none.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from attrs import asdict, field, frozen
from ringbinder.untrusted import MAX_LOCK_VALUES, check_shape, parse_json

PROGRAM: Final = Path(__file__).with_name("_solver.py")
SOLUTION_BYTES: Final = 16 * 1024**2
"""Bytes that the program's output may have."""

_TOKEN: Final = re.compile(r"/t/[^/]+(?=/)")
_PYTHON: Final = re.compile(r"lib/python(3\.[0-9]+t?)/site-packages")
_SHAPE: Final = {
    "refused?": str,
    "packages?": [
        {
            "name": str,
            "version": str,
            "build": str,
            "subdir": str,
            "url": str,
            "sha256": str,
            "size?": int,
            "record": {str: object},
        }
    ],
    "pypi?": [{"name": str, "version": str, "location": str, "sha256": str}],
}


class RefusedError(Exception):
    """A package is where this server takes none from, or is to be built; the message is for people."""


@frozen
class SolverJob:
    """What is to be found: packages for `specs` of `channels`, or those of the lock file of pixi `lock`."""

    output: Path
    """Where the program writes the `Solution`."""
    cache: Path
    """Folder for the channels' data, which jobs may share."""
    alias: str
    """Address below which a channel's name is searched for."""
    root: Path
    """Folder that relative channels are relative to."""
    option: str
    """Name of the option in which an operator names channels, for messages."""
    channels: Sequence[str] = field(default=(), repr=False)
    specs: Sequence[str] = ()
    lock: Path | None = None
    folders: Sequence[Path] = ()
    """Folders of this machine that a channel may be in."""
    only: Sequence[str] | None = None
    """Channels beside those below `alias` that packages may come from; None: from anywhere."""
    platform: str | None = None
    """``linux-64``; None: this machine's."""
    virtual_packages: Sequence[str] | None = None
    """What packages find there, as of `virtual_packages`; None: what this machine has."""

    def to_json(self) -> str:
        """Return the content of the job's file, which may hold passwords of channels."""
        return json.dumps(asdict(self, recurse=False), default=str)

    def command(self, file: Path) -> list[str]:
        """Return the command that does the job in `file`. It prints its progress, and ``error: ...`` if it fails."""
        return [sys.executable, "-I", str(PROGRAM), str(file)]


@frozen
class CondaPackage:
    """A package of a channel."""

    name: str
    """Normalized."""
    version: str
    build: str
    subdir: str
    url: str = field(repr=False)
    """As the channel gives it; it may hold a password or a token."""
    sha256: str
    """64 hexadecimal digits, or empty: the channel or the lock file does not have it."""
    size: int | None
    record: Mapping[str, Any] = field(hash=False, repr=False)
    """Its whole record, as py-rattler has it."""

    @property
    def facts(self) -> dict[str, Any]:
        """The record as everybody may read it: without credentials, nor when it was indexed."""
        facts = {key: value for key, value in self.record.items() if key != "indexed_timestamp"}
        return facts | {key: without_credentials(facts[key]) for key in ("url", "channel") if facts.get(key)}


@frozen
class LockedPyPI:
    """A package of PyPI in a lock file of pixi."""

    name: str
    version: str
    location: str = field(repr=False)
    """Address, or path in the repository."""
    sha256: str
    """Or empty."""

    @property
    def line(self) -> str:
        """It as a line of a requirements file."""
        return f"{self.name} @ {self.location}" if "://" in self.location else self.location


@frozen
class Solution:
    """Everything that an environment consists of."""

    packages: tuple[CondaPackage, ...]
    """What a package depends on comes before it."""
    pypi: tuple[LockedPyPI, ...] = ()

    @classmethod
    def from_json(cls, content: bytes) -> Solution:
        """Raises `RefusedError` if the program has refused something; `MalformedError` if it did not write this."""
        found = parse_json(content, values=MAX_LOCK_VALUES)
        check_shape(found, _SHAPE)
        if reason := found.get("refused"):
            raise RefusedError(reason)
        return cls(
            tuple(CondaPackage(**({"size": None} | package)) for package in found["packages"]),
            tuple(LockedPyPI(**package) for package in found["pypi"]),
        )

    @property
    def python(self) -> str:
        """Minor version of the Python among the packages (``3.12``, ``3.13t``), as its folders have it; or empty."""
        for package in self.packages:
            if package.name == "python":
                minor = ".".join(package.version.split(".")[:2])
                folder = package.record.get("python_site_packages_path") or f"lib/python{minor}/site-packages"
                match = _PYTHON.fullmatch(str(folder))
                return match[1] if match else ""
        return ""


def virtual_packages(platform: str, libc: tuple[int, int]) -> list[str]:
    """Return what conda packages find in an image for `platform` with glibc `libc`.

    The kernel is that of the oldest nodes that conda's tools take for granted; processors are the oldest of their
    kind, and there is no graphics card, since an image may run on any node.
    """
    machine = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}[platform]
    major, minor = libc
    return ["__unix=0=0", "__linux=4.18=0", f"__glibc={major}.{minor}=0", f"__archspec=1={machine}"]


def without_credentials(address: str) -> str:
    """Return the address of a channel or package without a password and without a token in its path."""
    parts = urlsplit(address)
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, _TOKEN.sub("", parts.path, count=1), "", ""))
