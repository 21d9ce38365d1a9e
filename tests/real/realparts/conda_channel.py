"""A conda channel on disk, made of packages that are made here; Python among them, from the one that runs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import define, field
from rattler import Subdir
from rattler.index import index_fs

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
        self._add(name, version, files, depends=depends, noarch="python")

    def add_files(self, name: str, version: str, files: Mapping[str, str]) -> None:
        """Any files, of any language."""
        self._add(name, version, files, noarch="generic")

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
        self._add("python", PYTHON, files, links=links)

    def add_link(self, name: str, links: Mapping[str, str]) -> None:
        """A package that has nothing but links."""
        self._add(name, PYTHON, {}, links=links)

    def _add(
        self,
        name: str,
        version: str,
        files: Mapping[str, str | bytes],
        *,
        depends: Sequence[str] = (),
        noarch: str = "",
        links: Mapping[str, str] | None = None,
    ) -> None:
        subdir = "noarch" if noarch else self.platform
        index = {
            "name": name,
            "version": version,
            "build": "0",
            "build_number": 0,
            "depends": list(depends),
            "subdir": subdir,
            "timestamp": 1_700_000_000_000,
        }
        paths = []
        contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        for path, data in contents.items():
            digest = hashlib.sha256(data).hexdigest()
            paths.append({"_path": path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(data)})
        for path in links or {}:
            paths.append({"_path": path, "path_type": "softlink"})
        extra: dict[str, object] = {"info/index.json": index | ({"noarch": noarch} if noarch else {})}
        extra["info/paths.json"] = {"paths": paths, "paths_version": 1}
        if noarch == "python":
            extra["info/link.json"] = {"noarch": {"type": "python"}, "package_metadata_version": 1}
        contents |= {path: json.dumps(value).encode() for path, value in extra.items()}
        target = self.folder / subdir / f"{name}-{version}-0.tar.bz2"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w:bz2", compresslevel=1) as archive:
            for path, data in contents.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                member.mode = 0o755 if path.startswith("bin/") else 0o644
                archive.addfile(member, io.BytesIO(data))
            for path, to in (links or {}).items():
                member = tarfile.TarInfo(path)
                member.type = tarfile.SYMTYPE
                member.linkname = os.fspath(to)
                archive.addfile(member)
