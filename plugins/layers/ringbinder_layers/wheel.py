"""Wheels: their files as pip and uv install them, written into a layer by PyPA's `installer`. Nothing of them is run.

A wheel is as hostile as the one who published it: it is read within bounds, and all names in it are judged before the
first of its files is written. The page "Layers" of the reference documentation says what is refused, and where an
environment differs from the one that uv installs.
"""

from __future__ import annotations

import base64
import configparser
import csv
import io
import os
import posixpath
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final, cast

from attrs import define
from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, InvalidRecordEntry, RecordEntry, parse_record_file
from installer.scripts import Script
from installer.sources import WheelContentElement, WheelSource
from installer.utils import SCHEME_NAMES, Scheme, construct_record_file, parse_entrypoints, parse_metadata_file
from packaging.utils import canonicalize_name, canonicalize_version
from ringbinder import BuildError
from ringbinder.untrusted import excerpt

from .model import Package, Place
from .tar import EntryError, LayerWriter, Readable, check_path

if TYPE_CHECKING:
    from installer.scripts import ScriptSection

_MAX_ENTRIES: Final = 100_000
_MAX_READ_BYTES: Final = 10 << 20  # of a zip file's directory, of METADATA and of RECORD: what is in memory at once
_MAX_PARSED_BYTES: Final = 256 << 10  # of METADATA's beginning, which has the name; of WHEEL and entry_points.txt
_MAX_UNPACKED_BYTES: Final = 16 << 30
_FREE_BYTES: Final = 256 << 20
_MAX_RATIO: Final = 100  # of bytes unpacked to bytes packed, above the first `_FREE_BYTES`
_MAX_SHEBANG_BYTES: Final = 4096
_SCRIPTS: Final = Scheme("scripts")
_PLACEHOLDER: Final = b"#!python"
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 1  # among the flags of a file in a zip file
_OWN_FILES: Final = re.compile(r"pyvenv\.cfg|bin/python(w|3(\.\d+)?)?")

# What zipfile and installer raise for files that no tool has written. Not OSError, which the disk raises.
_DAMAGE: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, csv.Error, configparser.Error, InvalidRecordEntry, InstallerError,
    EOFError, ValueError, RuntimeError, LookupError, ArithmeticError, AssertionError, AttributeError,
)  # fmt: skip


class _BadWheel(Exception):
    """Why a wheel is not installed, in words that follow its name."""


def write_wheel(file: Path, package: Package, place: Place, writer: LayerWriter) -> tuple[str, ...]:
    """Write the files of the wheel at `file` as they are installed at `place`; return remarks for the log.

    Raises BuildError, which names the package, if the wheel is damaged or hostile. Blocks.
    """
    environment = _Environment(package, place, writer)
    try:
        with _BoundedReader(file.open("rb", buffering=0)) as content:
            wheel = _Wheel(content, package)
            install(wheel, environment, {"INSTALLER": b"ringbinder\n"})
    except (_BadWheel, EntryError, InstallerError) as error:
        raise BuildError(
            f"{package.name} {package.version}: its wheel cannot be installed: {excerpt(str(error), 300)}. "
            "Ask for another version of it, and tell its authors."
        ) from None
    if not (differing := sorted({*wheel.unlisted, *environment.differing})):
        return ()
    return (
        f"{package.name} {package.version}: {len(differing)} of its files are not as its RECORD lists them, "
        f"such as {excerpt(differing[0])!r}; they are installed all the same",
    )


class _BoundedReader(io.BufferedReader):
    """The zip file. Only its directory is read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_READ_BYTES:
            raise zipfile.BadZipFile(f"its directory has more than {_MAX_READ_BYTES} bytes")
        return super().read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if offset < 0 and whence == os.SEEK_SET:
            raise zipfile.BadZipFile("it names a place before its beginning")
        return super().seek(offset, whence)


class _Wheel(WheelSource):
    """What `installer` installs. All that can be judged without unpacking files is judged when it is made."""

    def __init__(self, content: _BoundedReader, package: Package) -> None:
        super().__init__(package.name, package.version)
        with _reading("it is no zip file"):
            self._archive = zipfile.ZipFile(cast("IO[bytes]", content), metadata_encoding="utf-8")
        size = content.seek(0, os.SEEK_END)
        self._members = _members(self._archive.infolist(), size)
        folders = {top for name in self._members if (top := name.partition("/")[0]).endswith(".dist-info")}
        if len(folders) != 1:
            raise _BadWheel(f"it has {len(folders)} folders .dist-info at its top, where one must be")
        self._prefix = folders.pop().removesuffix(".dist-info")
        self._require_schemes()
        self._require_metadata(package)
        self._recorded = self._read_record()

    @property
    def dist_info_dir(self) -> str:
        return f"{self._prefix}.dist-info"

    @property
    def data_dir(self) -> str:
        return f"{self._prefix}.data"

    @property
    def dist_info_filenames(self) -> list[str]:
        start = f"{self.dist_info_dir}/"
        return [name.removeprefix(start) for name in self._members if name.startswith(start)]

    @property
    def unlisted(self) -> set[str]:
        """Files that RECORD does not list; itself and its signatures need not be there."""
        exempt = {f"{self.dist_info_dir}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s")}
        return set(self._members) - set(self._recorded) - exempt

    def read_dist_info(self, filename: str) -> str:
        with _reading(f"its {filename} is no text in UTF-8"):
            return self._read(filename, _MAX_PARSED_BYTES).decode()

    def get_contents(self) -> Iterator[WheelContentElement]:
        # In the order in which the first of two files for one path is the one that uv leaves there.
        for name, info in sorted(self._members.items(), key=lambda item: not item[0].startswith(f"{self.data_dir}/")):
            # Bytecode is for another interpreter, or not from this source.
            if "__pycache__" in name.split("/")[:-1] or name == f"{self.dist_info_dir}/INSTALLER":
                continue
            with _reading(f"{name!r} is damaged"):
                stream = self._archive.open(info)
            with stream:
                member = _Member(name, info.file_size, stream, self._recorded.get(name, ""))
                yield (name, "", ""), cast("BinaryIO", member), bool(info.external_attr >> 16 & 0o111)

    def _read(self, filename: str, limit: int = _MAX_READ_BYTES) -> bytes:
        info = self._members.get(f"{self.dist_info_dir}/{filename}")
        if info is None:
            raise _BadWheel(f"it has no {filename}")
        if info.file_size > limit:
            raise _BadWheel(f"its {filename} has more than {limit} bytes")
        with _reading(f"its {filename} is damaged"):
            return self._archive.read(info)

    def _require_schemes(self) -> None:
        for name in self._members:
            top, _, rest = name.partition("/")
            scheme, _, path = rest.partition("/")
            if top == self.data_dir and not (scheme in SCHEME_NAMES and path):
                raise _BadWheel(f"{name!r} belongs to no part of an environment")

    def _require_metadata(self, package: Package) -> None:
        metadata = parse_metadata_file(self._read("METADATA")[:_MAX_PARSED_BYTES].decode(errors="replace"))
        name, version = str(metadata["Name"]), str(metadata["Version"])
        if canonicalize_name(name) != package.name or _public(version) != _public(package.version):
            raise _BadWheel(f"by its METADATA it is {excerpt(name)!r} {excerpt(version)!r}")
        wheel_version = str(parse_metadata_file(self.read_dist_info("WHEEL"))["Wheel-Version"])
        if not wheel_version.startswith("1."):
            raise _BadWheel(f"its format is version {excerpt(wheel_version)!r}, where 1.0 is known")
        if "entry_points.txt" in self.dist_info_filenames:
            with _reading("its entry_points.txt cannot be understood"):
                list(parse_entrypoints(self.read_dist_info("entry_points.txt")))

    def _read_record(self) -> dict[str, str]:
        """Return what RECORD has of files that are there."""
        text = io.TextIOWrapper(io.BytesIO(self._read("RECORD")), encoding="utf-8", newline="")
        with _reading("its RECORD cannot be understood"):
            rows = ((path.lstrip("/"), digest) for path, digest, _ in parse_record_file(text))
            return {path: digest for path, digest in rows if path in self._members}


@define
class _Member:
    """A file while it is unpacked. What `installer` hands on as a stream."""

    name: str
    size: int
    """Unpacked, as the zip file has it."""
    stream: IO[bytes]
    recorded: str
    """``sha256=...`` as RECORD has it; empty if it has none."""

    def read(self, size: int, /) -> bytes:
        with _reading(f"{self.name!r} is damaged"):
            return self.stream.read(size)


@define
class _Joined:
    """A stream with other bytes at its beginning."""

    head: bytes
    rest: Readable

    def read(self, size: int, /) -> bytes:
        if not self.head:
            return self.rest.read(size)
        piece, self.head = self.head[:size], self.head[size:]
        return piece


class _Environment(WheelDestination):
    """The environment in the image, into which `installer` writes."""

    def __init__(self, package: Package, place: Place, writer: LayerWriter) -> None:
        self.differing: list[str] = []
        """Files that are not as RECORD has them."""
        self._prefix = place.prefix
        self._minor = place.python
        self._python = f"{place.prefix}/bin/python"
        self._virtual = place.interpreter != self._python
        self._writer = writer
        self._added: list[tuple[Scheme, RecordEntry]] = []
        library = f"{place.prefix}/lib/python{place.python}/site-packages"
        headers = f"include/{'site/' if self._virtual else ''}python{place.python}"
        self._folders: dict[str, str] = {
            "purelib": library,
            "platlib": library,
            "headers": f"{place.prefix}/{headers}/{package.name}",
            "scripts": f"{place.prefix}/bin",
            "data": place.prefix,
        }

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        _, content = Script(name, module, attr, section).generate(self._python, "posix")
        if name == "pip3":  # the name with the minor version is pip's and uv's doing
            versioned = self._write(_SCRIPTS, f"pip{self._minor}", content, len(content), 0o755)
            self._added.append((_SCRIPTS, versioned))
        return self._write(_SCRIPTS, name, content, len(content), 0o755)

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        path = os.fspath(path)
        if not isinstance(stream, _Member):
            content = stream.read()
            return self._write(scheme, path, content, len(content), 0o644)
        if scheme == _SCRIPTS:
            return self._write(scheme, path, *_with_interpreter(stream, self._python), 0o755)
        entry = self._write(scheme, path, stream, stream.size, 0o755 if is_executable else 0o644)
        if stream.recorded.startswith("sha256=") and stream.recorded.rstrip("=") != str(entry.hash_):
            self.differing.append(stream.name)
        return entry

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        unique: dict[str, tuple[Scheme, RecordEntry]] = {}
        for owner, entry in [*records, *self._added]:
            unique.setdefault(self._path(owner, entry.path), (owner, entry))

        def above(other: Scheme) -> str | None:
            if self._folders[other] == self._folders[scheme]:
                return None
            return f"{posixpath.relpath(self._folders[other], self._folders[scheme])}/"

        with construct_record_file(unique.values(), above) as stream:
            self._writer.file(self._path(scheme, record_file_path), stream.read())

    def _write(self, scheme: Scheme, path: str, content: Readable | bytes, size: int, mode: int) -> RecordEntry:
        digest = self._writer.file(self._path(scheme, path), content, size, mode)
        return RecordEntry(path, Hash("sha256", base64.urlsafe_b64encode(digest).decode().rstrip("=")), size)

    def _path(self, scheme: Scheme, path: str) -> str:
        inner = f"{self._folders[scheme]}/{path}".removeprefix(f"{self._prefix}/")
        if _OWN_FILES.fullmatch(inner):
            raise _BadWheel(f"it brings {inner!r}, which is the environment's own")
        if self._virtual and inner.startswith("lib64/"):  # a link to lib there
            inner = inner.replace("lib64", "lib", 1)
        return f"{self._prefix}/{inner}"


def _members(infos: list[zipfile.ZipInfo], packed: int) -> dict[str, zipfile.ZipInfo]:
    """Return the files by name, if all of them are what a wheel may hold; `packed` is the wheel's size."""
    if len(infos) > _MAX_ENTRIES:
        raise _BadWheel(f"it has more than {_MAX_ENTRIES} files")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        is_folder = name.endswith("/")
        try:
            check_path(f"/{name.removesuffix('/')}")
        except EntryError as error:
            raise _BadWheel(f"{name!r} {error.reason}") from None
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
            raise _BadWheel(f"{name!r} is neither file nor folder")
        if is_folder:
            continue
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
            raise _BadWheel(f"{name!r} is encrypted, or compressed as nothing in a wheel is")
        known = members.setdefault(name, info)
        if (known.CRC, known.file_size) != (info.CRC, info.file_size):
            raise _BadWheel(f"it has two files {name!r}")
    unpacked = sum(info.file_size for info in members.values())
    if unpacked > min(_MAX_UNPACKED_BYTES, _FREE_BYTES + _MAX_RATIO * packed):
        raise _BadWheel(f"its {packed} bytes would be {unpacked} when unpacked")
    return members


def _with_interpreter(script: _Member, interpreter: str) -> tuple[Readable, int]:
    """Return the script with the environment's interpreter in its first line, if it asks for that; and its size."""
    start = script.read(_MAX_SHEBANG_BYTES)
    if not start.startswith(_PLACEHOLDER):
        return _Joined(start, script), script.size
    _, newline, rest = start.partition(b"\n")
    if not newline and len(start) == _MAX_SHEBANG_BYTES:
        raise _BadWheel(f"{script.name!r} has a first line of more than {_MAX_SHEBANG_BYTES} bytes")
    head = f"#!{interpreter}\n".encode() + rest
    return _Joined(head, script), script.size - len(start) + len(head)


def _public(version: str) -> str:
    """Return the version in one way of writing, without its local part, which file names may lack."""
    return canonicalize_version(version.partition("+")[0])


@contextmanager
def _reading(problem: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise _BadWheel(f"{problem} ({excerpt(str(error) or type(error).__name__)})") from None
