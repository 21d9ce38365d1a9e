"""Environments of conda packages: as layers of ours, and as py-rattler installs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import frozen
from ringbinder_layers.conda import write_conda, write_conda_prefix
from ringbinder_layers.model import Package, Place
from ringbinder_recipe.conda import Solution, without_credentials

from .layerfiles import entries, files, writer

PREFIX = "/srv/env"
INSTALLER = Path(__file__).with_name("rattler_install.py")
_OF_ITS_CACHE = ("link", "extracted_package_dir", "package_tarball_full_path")
"""What py-rattler keeps of a package's place in its cache, which an image does not have."""


@frozen
class Entry:
    """A file or link in an environment."""

    kind: str
    mode: int
    content: bytes
    made_at: int | None = None


def packages(solution: Solution) -> list[Package]:
    return [
        Package(
            "conda", found.name, found.version, without_credentials(found.url), f"sha256:{found.sha256}", found.size,
            facts=found.facts,
        )
        for found in solution.packages
    ]  # fmt: skip


def place_of(solution: Solution, prefix: str = PREFIX) -> Place:
    return Place(prefix, solution.python, f"{prefix}/bin/python", "zstd")


def file_of(package: Package) -> Path:
    return Path(unquote(urlsplit(package.url).path))


def as_layers(solution: Solution, folder: Path, prefix: str = PREFIX) -> dict[str, Entry]:
    """Return the environment that layers make, one for each package, by path in the prefix."""
    folder.mkdir()
    place = place_of(solution, prefix)
    found: dict[str, Entry] = {}
    for number, package in enumerate(packages(solution)):
        layer = folder / f"{number}.layer"
        with writer(layer, top=prefix) as target:
            write_conda(file_of(package), package, place, target)
            made = target.finish()
        found |= read_layer(layer, made, prefix)
    with writer(folder / "prefix.layer", top=prefix) as target:
        write_conda_prefix(place, target)
        made = target.finish()
    return found | read_layer(folder / "prefix.layer", made, prefix)


def read_layer(layer: Path, made: Any, prefix: str = PREFIX) -> dict[str, Entry]:
    """Return the files and links of a layer."""
    content = files(layer, made)
    found = {}
    for entry in entries(layer, made):
        path = f"/{entry.name}".removeprefix(f"{prefix}/")
        if entry.isfile():
            found[path] = Entry("file", entry.mode, content[f"/{entry.name}"], int(entry.mtime))
        elif entry.issym():
            found[path] = Entry("link", 0, entry.linkname.encode())
    return found


def as_installed(solution: Solution, folder: Path, prefix: str = PREFIX) -> dict[str, Entry]:
    """Return the environment that py-rattler installs, without link scripts, by path in the prefix."""
    folder.mkdir()
    (folder / "records").write_text(json.dumps([package.record for package in solution.packages]))
    environment = folder / "env"
    command = [sys.executable, *map(str, (INSTALLER, folder / "records", environment, prefix, folder / "cache"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for path in environment.rglob("*"):
        name = str(path.relative_to(environment))
        if path.is_symlink():
            found[name] = Entry("link", 0, str(path.readlink()).encode())
        elif path.is_file():
            facts = path.stat()
            found[name] = Entry("file", facts.st_mode & 0o777, path.read_bytes(), int(facts.st_mtime))
    del found["CACHEDIR.TAG"]  # for programs that make backups
    return found


def comparable(environment: Mapping[str, Entry]) -> dict[str, Any]:
    """Return an environment without what differs by design: records know their cache, and new files are of today."""
    found: dict[str, Any] = {}
    for path, entry in environment.items():
        if path.startswith("conda-meta/"):
            record = json.loads(entry.content or b"{}")
            for key in (*_OF_ITS_CACHE, "indexed_timestamp"):
                record.pop(key, None)
            found[path] = record
        elif entry.made_at is not None and b"sys.exit(" in entry.content:  # a command, written when it was installed
            found[path] = (entry.kind, entry.mode, entry.content)
        else:
            found[path] = entry
    return found
