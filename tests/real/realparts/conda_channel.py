"""A conda channel on disk, made of packages that are made here; Python among them, from the one that runs."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard
from attrs import define, field
from rattler import Subdir
from rattler.index import index_fs
from ringbinder_recipe.conda import Solution, SolverJob, virtual_packages

PLACEHOLDER = "/opt/placeholder" + "_placehold" * 20
"""Folder that packages of `CondaChannel.add` were made in, as those of conda-build say."""
VERSION = sysconfig.get_python_version()
PYTHON = f"{VERSION}.{sys.version_info.micro}"


_UNUSED = ("__pycache__", "test", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo")


def _files(source: Path, path: str) -> dict[str, bytes]:
    """Return the content of all files below `source`, as far as programs need them, as if it were at `path`."""
    if source.is_file():
        return {path: source.read_bytes()}
    return {
        f"{path}/{file.relative_to(source)}": file.read_bytes()
        for file in source.rglob("*")
        if file.is_file() and not set(file.relative_to(source.parent).parts) & set(_UNUSED)
    }


@define
class CondaChannel:
    """Add packages, then `index` it."""

    folder: Path
    platform: str = field(factory=lambda: str(Subdir.current()))

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    async def index(self) -> None:
        (self.folder / "noarch").mkdir(parents=True, exist_ok=True)
        await index_fs(self.folder)

    def add_module(self, name: str, version: str, *, content: str = "", depends: Sequence[str] = ("python",)) -> None:
        """A pure Python package, with the metadata that pip and uv look for."""
        packages = "site-packages"
        code = content or f"__version__ = {version!r}\n"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        info = f"{packages}/{name}-{version}.dist-info"
        files = {
            f"{packages}/{name}/__init__.py": code,
            f"{info}/METADATA": metadata,
            f"{info}/INSTALLER": "conda\n",
            f"{info}/RECORD": "",
        }
        self.add(name, version, files, depends=depends, noarch="python")

    def add_files(self, name: str, version: str, files: Mapping[str, str]) -> None:
        """Any files, of any language."""
        self.add(name, version, files, noarch="generic")

    def add_python(self, *, whole: bool = False) -> None:
        """The interpreter that runs this, with links to its standard library; `whole`: with a copy of it."""
        base = Path(sys.base_prefix)
        library = f"lib/python{VERSION}"
        links = {
            f"{library}/{entry.name}": str(entry)
            for entry in (base / library).iterdir()
            if entry.name not in ("site-packages", "dist-packages", "EXTERNALLY-MANAGED", "__pycache__")
        }
        links |= {f"lib/{entry.name}": str(entry) for entry in (base / "lib").glob("libpython*")}
        links |= {"bin/python": f"python{VERSION}", "bin/python3": f"python{VERSION}"}
        files = {f"bin/python{VERSION}": (base / "bin" / f"python{VERSION}").read_bytes()}
        if whole:
            for path, target in list(links.items()):
                if Path(target).is_absolute():
                    del links[path]
                    files |= _files(Path(target), path)
        self.add("python", PYTHON, files, links=links)

    def add_link(self, name: str, links: Mapping[str, str]) -> None:
        """A package that has nothing but links."""
        self.add(name, PYTHON, {}, links=links)

    def add(
        self,
        name: str,
        version: str,
        files: Mapping[str, str | bytes],
        *,
        depends: Sequence[str] = (),
        noarch: str = "",
        links: Mapping[str, str] | None = None,
        hard_links: Mapping[str, str] | None = None,
        prefixed: Mapping[str, str] | None = None,
        entry_points: Sequence[str] = (),
        ending: str = "tar.bz2",
        made_at: int = 0,
    ) -> Path:
        """Add any package and return its file.

        :param hard_links: paths to those of `files`
        :param prefixed: those of `files` that have `PLACEHOLDER` in them: ``text`` or ``binary``
        :param ending: ``conda`` or ``tar.bz2``
        """
        contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        index = {
            "name": name,
            "version": version,
            "build": "0",
            "build_number": 0,
            "depends": list(depends),
            "subdir": self.platform if not noarch else "noarch",
            "timestamp": 1_700_000_000_000,
        }
        paths: list[dict[str, object]] = []
        for path, data in (contents | {path: contents[to] for path, to in (hard_links or {}).items()}).items():
            digest = hashlib.sha256(data).hexdigest()
            entry = {"_path": path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(data)}
            mode = (prefixed or {}).get(path)
            paths.append(entry | ({"file_mode": mode, "prefix_placeholder": PLACEHOLDER} if mode else {}))
        paths += [{"_path": path, "path_type": "softlink"} for path in links or {}]
        extra: dict[str, object] = {
            "info/about.json": {},
            "info/index.json": index | ({"noarch": noarch} if noarch else {}),
            "info/paths.json": {"paths": paths, "paths_version": 1},
        }
        if noarch == "python":
            link = {"type": "python"} | ({"entry_points": list(entry_points)} if entry_points else {})
            extra["info/link.json"] = {"noarch": link, "package_metadata_version": 1}
        infos = [_member(path, json.dumps(value).encode(), made_at) for path, value in extra.items()]
        members = [_member(path, data, made_at) for path, data in contents.items()]
        members += [(_link(path, to, tarfile.LNKTYPE, made_at), b"") for path, to in (hard_links or {}).items()]
        members += [(_link(path, to, tarfile.SYMTYPE, made_at), b"") for path, to in (links or {}).items()]
        return self.add_archive(f"{name}-{version}-0.{ending}", infos, members, str(index["subdir"]))

    def add_archive(
        self,
        name: str,
        infos: Sequence[tuple[tarfile.TarInfo, bytes]],
        members: Sequence[tuple[tarfile.TarInfo, bytes]],
        subdir: str = "noarch",
    ) -> Path:
        """Add the package `name` of members that may be wrong, and return its file."""
        target = self.folder / subdir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_package(target, infos, members)
        return target


def solve(channel: CondaChannel, specs: Sequence[str], folder: Path, **wanted: Any) -> Solution:
    """Return what the program finds in `channel`."""
    folder.mkdir(exist_ok=True)
    facts: dict[str, Any] = {
        "alias": "https://conda.example/",
        "root": folder,
        "option": "LayersBuilder.conda_channels",
        "channels": [channel.url],
        "only": [channel.url],
        "folders": [channel.folder],
        "platform": channel.platform,
        "virtual_packages": virtual_packages(channel.platform, (2, 36)),
    }
    job = SolverJob(output=folder / "solution", cache=folder / "cache", specs=specs, **(facts | wanted))
    (folder / "job").write_text(job.to_json())
    done = subprocess.run(job.command(folder / "job"), capture_output=True, text=True, check=False)
    if not job.output.exists():
        raise AssertionError(done.stdout + done.stderr)
    return Solution.from_json(job.output.read_bytes())


def write_package(
    target: Path, infos: Sequence[tuple[tarfile.TarInfo, bytes]], members: Sequence[tuple[tarfile.TarInfo, bytes]]
) -> None:
    """Write a package of the format that the name of `target` has."""
    if target.suffix != ".conda":
        target.write_bytes(bz2.compress(_tar([*infos, *members]), 1))
        return
    stem = target.name.removesuffix(".conda")
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        for part, content in (("pkg", members), ("info", infos)):
            archive.writestr(f"{part}-{stem}.tar.zst", zstandard.compress(_tar(content)))


def _tar(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _member(path: str, data: bytes, made_at: int) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(path)
    member.size = len(data)
    member.mode = 0o775 if path.startswith("bin/") else 0o664
    member.mtime = made_at
    return member, data


def _link(path: str, to: str | os.PathLike[str], kind: bytes, made_at: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = kind
    member.mtime = made_at
    member.linkname = os.fspath(to)
    return member
