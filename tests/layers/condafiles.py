"""Conda packages made of single members, which may be wrong."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from realparts.conda_channel import CondaChannel, write_package
from ringbinder_layers.model import Package

Made = tuple[tarfile.TarInfo, bytes]


def file(path: str, content: bytes = b"", mode: int = 0o644) -> Made:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(content), mode
    return member, content


def link(path: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Made:
    member = tarfile.TarInfo(path)
    member.type, member.linkname = kind, target
    return member, b""


def index(name: str, **facts: Any) -> Made:
    content = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "subdir": "noarch", "depends": []}
    return file("info/index.json", json.dumps(content | {"noarch": "generic"} | facts).encode())


def paths(listed: Mapping[str, bytes | dict[str, Any]]) -> Made:
    """Return info/paths.json with `listed`: contents of files, or what differs from an empty file's entry."""
    found = []
    for path, facts in listed.items():
        content = facts if isinstance(facts, bytes) else b""
        entry: dict[str, Any] = {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
        found.append(entry | (facts if isinstance(facts, dict) else {}))
    return file("info/paths.json", json.dumps({"paths": found, "paths_version": 1}).encode())


def old_package(channel: CondaChannel, name: str, members: Sequence[Made], *, files: str, has_prefix: str) -> Path:
    """Add a package as they were before there was info/paths.json."""
    infos = [
        index(name),
        file("info/about.json", b"{}"),
        file("info/files", files.encode()),
        file("info/has_prefix", has_prefix.encode()),
    ]
    return channel.add_archive(f"{name}-1.0-0.tar.bz2", infos, members)


def package(target: Path, infos: Sequence[Made], members: Sequence[Made]) -> Package:
    """Write the package `target` (``name-1.0-0.conda``) and return it as a lock would have it."""
    write_package(target, infos, members)
    return named(target)


def named(target: Path) -> Package:
    name = target.name.partition("-")[0]
    digest = f"sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}"
    facts = {"name": name, "version": "1.0", "build": "0"}
    return evolve(Package("conda", name, "1.0", target.as_uri(), digest), facts=facts)
