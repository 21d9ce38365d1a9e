"""Wheels that tests make, good ones and hostile ones, and environments that uv installs from them."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import uv
from attrs import frozen
from packaging.utils import canonicalize_name
from ringbinder_layers.model import Compression, Layer, Package, Place
from ringbinder_layers.tar import LayerWriter
from ringbinder_layers.venv import write_venv
from ringbinder_layers.wheel import write_wheel

from .layerfiles import tar_of

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def record_row(path: str, content: bytes) -> tuple[str, str, str]:
    """Return how RECORD lists a file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return path, f"sha256={digest}", str(len(content))


def dist_info(name: str, version: str = "1.0", *, pure: bool = True) -> dict[str, bytes]:
    """Return the metadata that each wheel has, but for RECORD."""
    folder = f"{name}-{version}.dist-info"
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{folder}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(pure).lower()}\nTag: py3-none-any\n".encode(),
    }


def record(name: str, files: Mapping[str, bytes], version: str = "1.0") -> dict[str, bytes]:
    """Return RECORD of `files`."""
    path = f"{name}-{version}.dist-info/RECORD"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*(record_row(*file) for file in files.items()), (path, "", "")])
    return {path: text.getvalue().encode()}


def make_wheel(
    folder: Path,
    name: str,
    files: Mapping[str, bytes],
    *,
    modes: Mapping[str, int] | None = None,
    entry_points: str = "",
) -> Path:
    """Make a wheel of version 1.0 that is as it should be."""
    content = {**files, **dist_info(name)}
    if entry_points:
        content[f"{name}-1.0.dist-info/entry_points.txt"] = entry_points.encode()
    return write_zip(folder / f"{name}-1.0-py3-none-any.whl", [*(content | record(name, content)).items()], modes or {})


def write_zip(
    target: Path, files: Iterable[tuple[str, bytes]], modes: Mapping[str, int] | None = None, method: int = 8
) -> Path:
    """Write a zip file with these files, in this order and whatever their names are."""
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return target


def package_of(wheel: Path) -> Package:
    """Return what a lock says of the wheel."""
    name, version = wheel.name.split("-")[:2]
    with wheel.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Package("wheel", canonicalize_name(name), version, f"https://files.example/{wheel.name}", f"sha256:{digest}")


def place(prefix: str = "/srv/env", compression: Compression = "zstd") -> Place:
    """Return an environment for the interpreter of the tests."""
    return Place(prefix, MINOR, os.path.realpath(sys.executable), compression)


def write(wheel: Path, target: Path, where: Place | None = None) -> tuple[Layer, tuple[str, ...]]:
    """Make a layer of one wheel; return it and the remarks."""
    where = where or place()
    with LayerWriter(target, where.compression, top=where.prefix, uid=where.uid, gid=where.gid) as writer:
        remarks = write_wheel(wheel, package_of(wheel), where, writer)
        return writer.finish(), remarks


@frozen
class Entry:
    """A file or a link of an environment."""

    mode: int
    content: bytes


def environment_in_layer(prefix: Path, wheels: Sequence[Path], target: Path) -> dict[str, Entry]:
    """Return the files of an environment that is made as the builder makes one."""
    where = place(str(prefix))
    with LayerWriter(target, where.compression, top=where.prefix, uid=where.uid, gid=where.gid) as writer:
        for wheel in reversed(wheels):
            write_wheel(wheel, package_of(wheel), where, writer)
        write_venv(where, writer)
        made = writer.finish()
    files: dict[str, Entry] = {}
    with tarfile.open(fileobj=io.BytesIO(tar_of(target, made))) as tar:
        for member in tar:
            path = os.path.relpath(f"/{member.name}", prefix)
            assert path not in files
            if member.issym():
                files[path] = Entry(0o777, member.linkname.encode())
            elif content := tar.extractfile(member):
                files[path] = Entry(member.mode, content.read())
    return files


def environment_of_uv(prefix: Path, wheels: Sequence[Path], cache: Path) -> dict[str, Entry]:
    """Install the wheels with uv, one after the other, and return the environment's files."""
    make_venv(prefix)
    for wheel in wheels:
        install_with_uv(prefix, "--offline", "--no-deps", "--no-index", "--cache-dir", str(cache), str(wheel))
    return environment_on_disk(prefix)


def make_venv(prefix: Path) -> None:
    """Make an environment for the interpreter of the tests, with uv."""
    command = [uv.find_uv_bin(), "venv", "--quiet", "--offline", "--no-config", "--clear"]
    subprocess.run([*command, "--python", os.path.realpath(sys.executable), str(prefix)], check=True)


def install_with_uv(prefix: Path, *arguments: str) -> None:
    """Install what the arguments say into the environment at `prefix`."""
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-config", "--python", str(prefix), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, umask=0o022)
    assert done.returncode == 0, done.stderr


def environment_on_disk(prefix: Path) -> dict[str, Entry]:
    """Return the files of an environment that is installed."""
    files: dict[str, Entry] = {}
    for folder, _, names in os.walk(prefix):
        for path in (Path(folder, name) for name in [*names, *_links(folder)]):
            inner = str(path.relative_to(prefix))
            if path.is_symlink():
                files[inner] = Entry(0o777, str(path.readlink()).encode())
            else:
                files[inner] = Entry(stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return files


def _links(folder: str) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_symlink() and entry.is_dir()]


# What docs/reference/layers.md says is different.
_VENV = re.compile(
    r"\.lock|\.gitignore|CACHEDIR\.TAG|pyvenv\.cfg|bin/((de)?activate.*|pydoc\.bat)|lib/[^/]+/site-packages/_virtualenv\..*"
)
_NOTES = re.compile(r".*\.dist-info/(INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)")


def comparable(files: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the files without what is documented to differ between uv's environments and an image's."""
    kept = {path: entry for path, entry in files.items() if not _VENV.fullmatch(path) and not _NOTES.fullmatch(path)}
    return {path: Entry(entry.mode, _comparable(path, entry.content)) for path, entry in kept.items()}


def _comparable(path: str, content: bytes) -> bytes:
    if path.endswith(".dist-info/RECORD"):
        # Of two files for one path uv lists both. A script that gives way to an entry point stays in uv's RECORD.
        paths = {row[0] for row in csv.reader(content.decode().splitlines()) if not _NOTES.fullmatch(row[0])}
        return repr(sorted(path for path in paths if ".data/scripts/" not in path)).encode()
    lines = content.splitlines()
    if path.startswith("bin/") and lines[1:2] == [b"# -*- coding: utf-8 -*-"]:
        return b"\n".join(line for line in lines if line.startswith((b"#!", b"from ", b"    sys.exit(")))
    return content
