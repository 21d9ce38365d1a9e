"""Conda packages in layers: the files that py-rattler installs, at the same prefix, without any of their code run."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from attrs import define, field
from ringbinder import BuildError
from ringbinder.untrusted import MalformedError, check_shape, excerpt, parse_json

from .conda_archive import ArchiveError, CondaArchive, Member
from .model import MADE_AT, Package, Place
from .prefix import BinaryFile, PrefixError, TextFile
from .tar import EntryError, LayerWriter, Readable

_META: Final = "conda-meta"
_INDEX, _PATHS, _LINK, _ABOUT = "info/index.json", "info/paths.json", "info/link.json", "info/about.json"
_FILES, _HAS_PREFIX, _NO_LINK = (
    "info/files",
    "info/has_prefix",
    ("info/no_link", "info/no_softlink"),
)  # before paths.json
_DESCRIPTIONS: Final = frozenset({_INDEX, _PATHS, _LINK, _ABOUT, _FILES, _HAS_PREFIX, *_NO_LINK})
_DESCRIPTION_BYTES: Final = 24 * 1024**2
_VALUES: Final = 2_000_000
_MAX_PLACEHOLDER: Final = 4096
_PLACEHOLDER: Final = re.compile(r"[^\0\ud800-\udfff]*")
_OLD_PLACEHOLDER: Final = "/opt/" + "".join(f"anaconda{number}" for number in (1, 2, 3))
"""Of packages from before each had its own. In pieces, since conda's tools replace it wherever it stands."""
_TEXT_BYTES: Final = 1024**3
"""Of a text file with a prefix in it, whose new size must be known before it is written."""
_IN_MEMORY: Final = 8 * 1024**2
_PIECE: Final = 1 << 20
_NAMED: Final = 3
_LINKS_IN_A_ROW: Final = 3
_MAX_MADE_AT: Final = 2**33 - 1  # what a tar header holds
_LONGEST_INTERPRETER: Final = 125
_COMMAND: Final = re.compile(r"[^./\\\0\s][^/\\\0\n\r]*")
_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_PREFIX_LINE: Final = re.compile(
    r'("(?:[^"\\]|\\.)*"|\S+)(?:\s+(text|binary)\s+("(?:[^"\\]|\\.)*"|\S+))?', re.IGNORECASE
)
_SCRIPTS: Final = re.compile(r"bin/\.[^/]+-(?:post|pre)-(?:link|unlink)\.sh")

_ENTRY: Final = {
    "_path": str,
    "path_type": str,
    "prefix_placeholder?": str,
    "file_mode?": str,
    "sha256?": str,
    "size_in_bytes?": int,
    "no_link?": bool,
}


@define
class _Entry:
    """A path of the package, and what became of it."""

    path: str
    """In the package."""
    target: str
    """In the prefix."""
    kind: str
    """``hardlink`` (a file), ``softlink``, ``directory`` or ``unix_python_entry_point``."""
    placeholder: str = ""
    mode: str = "text"
    """``text`` or ``binary``: how `placeholder` is replaced."""
    sha256: str = ""
    size: int | None = None
    no_link: bool = False
    installed_sha256: str = ""
    """Empty: it is not in the package."""
    patched: bool = False

    def record(self) -> dict[str, Any]:
        """Return what conda-meta keeps of it."""
        facts = {
            "_path": self.target,
            "path_type": self.kind,
            "no_link": self.no_link,
            "sha256": self.sha256,
            "sha256_in_prefix": "" if self.installed_sha256 == self.sha256 else self.installed_sha256,
            "size_in_bytes": self.size,
            "file_mode": self.mode if self.patched else "",
            "prefix_placeholder": self.placeholder,
        }
        return {name: value for name, value in facts.items() if value or name == "size_in_bytes"}


class _BadPackageError(Exception):
    """The message goes after the package's name."""


_BAD: Final = (_BadPackageError, ArchiveError, EntryError, MalformedError, PrefixError)


def write_conda(file: Path, package: Package, place: Place, writer: LayerWriter) -> tuple[str, ...]:
    """Write the files of the conda package in `file` to `writer`; return remarks for the log. Blocks.

    As py-rattler does without link scripts: with the prefix in text and binary files, a ``noarch: python`` package in
    the interpreter's folders and with its commands, and the record in conda-meta. Bytecode is what the package brings.
    Raises `BuildError` for a package that is damaged or would write elsewhere than below the prefix.
    """
    try:
        with CondaArchive(file) as archive:
            return _Installation(archive, package, place, writer).run()
    except _BAD as error:
        reason = f"has {error}" if isinstance(error, EntryError) else str(error)
        raise BuildError(
            f"{package.name} {package.version}: its conda package cannot be installed: it {excerpt(reason, 300)}. "
            "Ask for another version of it, and tell its authors."
        ) from None


def write_conda_prefix(place: Place, writer: LayerWriter) -> None:
    """Write what makes a folder of packages an environment in the eyes of conda, mamba and pixi."""
    writer.file(f"{place.prefix}/{_META}/history", b"")


@define
class _Installation:
    archive: CondaArchive
    package: Package
    place: Place
    writer: LayerWriter
    _infos: dict[str, bytes] = field(factory=dict, init=False)
    _about_made_at: int = field(default=MADE_AT - 1, init=False)
    _entries: dict[str, _Entry] = field(factory=dict, init=False)
    _commands: list[_Entry] = field(factory=list, init=False)
    _links_out: list[str] = field(factory=list, init=False)
    _written: int = field(default=0, init=False)

    def run(self) -> tuple[str, ...]:
        self._read_descriptions()
        index = self._document(_INDEX, {"name": str, "version": str, "build": str, "noarch?": object})
        for key in ("name", "version", "build"):
            if index[key].lower() != str(self.package.facts.get(key)).lower():
                raise _BadPackageError(f"is another one than the channel lists: its {key} is {excerpt(index[key])}")
        is_python = index.get("noarch") == "python"
        for entry in self._listed(is_python):
            if entry.path in self._entries:
                raise _BadPackageError(f"lists {excerpt(entry.path)} twice")
            self._entries[entry.path] = entry
        if is_python:
            self._write_commands()
        self._write_files()
        self._write_record()
        return tuple(self._remarks())

    def _read_descriptions(self) -> None:
        for member in self.archive.descriptions():
            if member.path in _DESCRIPTIONS and member.kind == "file":
                if member.path in self._infos:
                    raise _BadPackageError(f"has {member.path} twice")
                if member.size > _DESCRIPTION_BYTES:
                    raise _BadPackageError(f"has a {member.path} of more than {_DESCRIPTION_BYTES} bytes")
                if member.path == _ABOUT:
                    self._about_made_at = _made_at(member)
                self._infos[member.path] = _read(member.content)
            elif (
                self.archive.is_single
                and not member.path.startswith("info/")
                and _INDEX in self._infos
                and (_PATHS in self._infos or _FILES in self._infos)
            ):
                break  # they stand together, and what comes after them need not be unpacked twice
        if _INDEX not in self._infos:
            raise _BadPackageError(f"has no {_INDEX}")

    def _document(self, name: str, shape: Any) -> Any:
        try:
            document = parse_json(self._infos[name], values=_VALUES)
            check_shape(document, shape)
        except MalformedError as error:
            raise _BadPackageError(f"has a wrong {name}: it {error}") from None
        return document

    def _listed(self, is_python: bool) -> Iterator[_Entry]:
        """Give what the package lists to be installed."""
        if _PATHS not in self._infos:
            yield from self._listed_formerly(is_python)
            return
        for facts in self._document(_PATHS, {"paths": [_ENTRY]})["paths"]:
            placeholder = facts.get("prefix_placeholder") or ""
            mode = facts.get("file_mode") or "text"
            if facts["path_type"] not in ("hardlink", "softlink", "directory") or mode not in ("text", "binary"):
                raise _BadPackageError(f"has a wrong entry for {excerpt(facts['_path'])} in {_PATHS}")
            path = facts["_path"].replace("\\", "/")
            yield _Entry(
                path, self._target(path, is_python), facts["path_type"], _placeholder(placeholder), mode,
                facts.get("sha256") or "", facts.get("size_in_bytes"), facts.get("no_link") or False,
            )  # fmt: skip

    def _listed_formerly(self, is_python: bool) -> Iterator[_Entry]:
        """Give what a package from before `paths.json` lists."""
        if _FILES not in self._infos:
            raise _BadPackageError(f"has neither {_PATHS} nor {_FILES}")
        prefixes: dict[str, tuple[str, str]] = {}
        for line in self._lines(_HAS_PREFIX):
            if not (match := _PREFIX_LINE.fullmatch(line)):
                raise _BadPackageError(f"has a wrong line in {_HAS_PREFIX}: {excerpt(line)}")
            first, mode, path = match.groups()
            if path is None:
                prefixes[_unquoted(first)] = (_OLD_PLACEHOLDER, "text")
            else:
                prefixes[_unquoted(path)] = (_unquoted(first), "binary" if mode.lower() == "binary" else "text")
        no_link = {line for name in _NO_LINK for line in self._lines(name)}
        for path in self._lines(_FILES):
            placeholder, kind = prefixes.get(path, ("", "text"))
            # Whether it is a link shows when it comes.
            yield _Entry(
                path, self._target(path, is_python), "", _placeholder(placeholder), kind, no_link=path in no_link
            )

    def _lines(self, name: str) -> list[str]:
        try:
            text = self._infos.get(name, b"").decode()
        except UnicodeDecodeError:
            raise _BadPackageError(f"has a {name} that is no UTF-8") from None
        return [line for line in text.splitlines() if line.strip()]

    def _target(self, path: str, is_python: bool) -> str:
        if is_python and path.startswith("site-packages/"):
            path = f"lib/python{self.place.python}/{path}"
        elif is_python and path.startswith("python-scripts/"):
            path = f"bin/{path.removeprefix('python-scripts/')}"
        if path == self._record_path:
            raise _BadPackageError(f"has a file in the place of its record, {path}")
        return path

    @property
    def _record_path(self) -> str:
        facts = self.package.facts
        return f"{_META}/{self.package.name}-{facts['version']}-{facts['build']}.json"

    def _write_commands(self) -> None:
        """Write the programs that call functions of a `noarch: python` package."""
        if _LINK not in self._infos:
            return
        noarch = self._document(_LINK, {"noarch": {"type": str, "entry_points?": [str]}})["noarch"]
        interpreter = f"{self.place.prefix}/bin/python{self.place.python.rstrip('t')}"
        for line in noarch.get("entry_points") or []:
            command, _, function = (part.strip() for part in line.partition("="))
            module, _, function = (part.strip() for part in function.partition(":"))
            if not (_COMMAND.fullmatch(command) and _DOTTED.fullmatch(module) and _DOTTED.fullmatch(function)):
                raise _BadPackageError(f"has a wrong entry point: {excerpt(line)}")
            entry = _Entry("", f"bin/{command}", "unix_python_entry_point")
            script = _script(interpreter, module, function)
            entry.sha256 = entry.installed_sha256 = hashlib.sha256(script).hexdigest()
            entry.size = len(script)
            self.writer.file(self._place_of(entry), script, mode=0o775)
            self._commands.append(entry)

    def _write_files(self) -> None:
        linked: dict[str, str] = {}
        unread = set(self._infos) if self.archive.is_single else set[str]()
        for member in self.archive.files():
            if member.path in _DESCRIPTIONS:
                if member.path not in unread:
                    raise _BadPackageError(f"has {member.path} twice, or apart from other descriptions")
                unread.remove(member.path)
            if (entry := self._entries.get(member.path)) is None:
                continue
            if entry.installed_sha256 or member.path in linked:
                raise _BadPackageError(f"has {excerpt(member.path)} twice")
            if member.kind == "hardlink":
                linked[member.path] = member.target
            else:
                self._write_member(entry, member)
        if linked:
            self._write_hard_links(linked)
        for entry in self._entries.values():
            # Like py-rattler, which leaves out what is listed as a link and is not there.
            if not entry.installed_sha256 and entry.kind != "softlink":
                raise _BadPackageError(f"does not have {excerpt(entry.path)}, which it lists")

    def _write_hard_links(self, linked: Mapping[str, str]) -> None:
        """Write each file that is another one of the package, under its own name."""
        paths: dict[str, list[str]] = {}
        for path, target in linked.items():
            for _ in range(_LINKS_IN_A_ROW):
                target = linked.get(target, target)
            paths.setdefault(target, []).append(path)
        for member in self.archive.files():
            if member.kind != "file" or not (names := paths.get(member.path)):
                continue
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as content:
                _copy(member.content, content, member.size)
                for name in names:
                    content.seek(0)
                    self._write_file(self._entries[name], member, content)

    def _write_member(self, entry: _Entry, member: Member) -> None:
        if member.kind == "folder":
            if entry.kind not in ("directory", ""):
                raise _BadPackageError(f"has a folder in the place of {excerpt(entry.path)}")
            self.writer.folder(self._place_of(entry))
            entry.kind, entry.installed_sha256 = "directory", "0" * 64
        elif member.kind == "link":
            # Some are listed with a prefix, that of the file they lead to: that one is changed, and the link stays.
            entry.kind = "softlink"
            self._write_link(entry, member.target)
        elif entry.kind in ("hardlink", ""):
            entry.kind = "hardlink"
            self._write_file(entry, member, member.content)
        else:
            raise _BadPackageError(f"has a file in the place of {excerpt(entry.path)}, which it lists as another kind")

    def _write_link(self, entry: _Entry, target: str) -> None:
        self.writer.link(self._place_of(entry), target)
        # Some packages of conda-forge lead elsewhere; in an image that is a file of the image.
        there = posixpath.normpath(posixpath.join(posixpath.dirname(self._place_of(entry)), target))
        if not f"{there}/".startswith(f"{self.place.prefix}/"):
            self._links_out.append(entry.target)
        content = target.encode(errors="surrogateescape")
        entry.installed_sha256 = hashlib.sha256(content).hexdigest()
        if entry.size is None:
            entry.size = len(content)

    def _write_file(self, entry: _Entry, member: Member, content: Readable) -> None:
        self._count(member.size)  # a hard link costs nothing in a package, and in a layer as much as its file
        target = self._place_of(entry)
        mode = member.mode | (0o111 if member.mode & 0o111 else 0)  # as py-rattler: for all or for none
        size = member.size
        if not entry.placeholder:
            digest = before = self.writer.file(target, content, size, mode, _made_at(member))
        else:
            # Later than all that the package was made of, so that bytecode is not taken for that of a changed file.
            made_at = self._about_made_at + 1
            source = _Hashed(content)
            if entry.mode == "binary":
                replaced = BinaryFile(source, entry.placeholder, self.place.prefix)
                digest = self.writer.file(target, replaced, size, mode, made_at)
            else:
                with tempfile.SpooledTemporaryFile(_IN_MEMORY) as text:
                    _copy(TextFile(source, entry.placeholder, self.place.prefix), text, _TEXT_BYTES)
                    size = text.tell()
                    self._count(size)
                    text.seek(0)
                    digest = self.writer.file(target, text, size, mode, made_at)
            before = source.hash.digest()
            entry.patched = True
        if entry.sha256 and entry.sha256 != before.hex():
            raise _BadPackageError(f"has a file {excerpt(entry.path)} whose hash is not the one that it lists")
        if entry.size is not None and entry.size != member.size:
            raise _BadPackageError(f"has a file {excerpt(entry.path)} whose size is not the one that it lists")
        entry.size, entry.installed_sha256 = size, digest.hex()

    def _count(self, size: int) -> None:
        self._written += size
        if self._written > self.archive.limit:
            raise _BadPackageError(f"unpacks to more than {self.archive.limit} bytes")

    def _write_record(self) -> None:
        """Write the record of the package as conda-meta keeps it."""
        entries = [entry for entry in self._entries.values() if entry.installed_sha256] + self._commands
        entries.sort(key=lambda entry: entry.target.split("/"))
        record = dict(self.package.facts) | {
            "requested_specs": [],
            "files": [entry.target for entry in entries],
            "paths_data": {"paths_version": 1, "paths": [entry.record() for entry in entries]},
        }
        content = json.dumps(record, indent=2, ensure_ascii=False).encode(errors="surrogateescape")
        self.writer.file(f"{self.place.prefix}/{self._record_path}", content)

    def _remarks(self) -> Iterator[str]:
        if any(_SCRIPTS.fullmatch(entry.target) for entry in self._entries.values()):
            yield f"{self.package.name} has a script for its installation, which was not run"
        if self._links_out:
            paths = ", ".join(excerpt(path) for path in self._links_out[:_NAMED])
            yield f"{self.package.name} has links that lead out of the environment: {paths}"

    def _place_of(self, entry: _Entry) -> str:
        return f"{self.place.prefix}/{entry.target}"


@define
class _Hashed:
    """The stream `source`, and the hash of what was read of it."""

    source: Readable
    hash: Any = field(factory=hashlib.sha256)

    def read(self, size: int, /) -> bytes:
        data = self.source.read(size)
        self.hash.update(data)
        return data


def _copy(source: Readable, target: IO[bytes], limit: int) -> None:
    while piece := source.read(_PIECE):
        target.write(piece)
        if target.tell() > limit:
            raise _BadPackageError(f"has a file with a prefix in it that is larger than {limit} bytes")


def _read(source: Readable) -> bytes:
    pieces: list[bytes] = []
    while piece := source.read(_PIECE):
        pieces.append(piece)
    return b"".join(pieces)


def _made_at(member: Member) -> int:
    return min(max(member.made_at, MADE_AT), _MAX_MADE_AT)


def _placeholder(text: str) -> str:
    if len(text) > _MAX_PLACEHOLDER or not _PLACEHOLDER.fullmatch(text):
        raise _BadPackageError(f"names a prefix that is no path: {excerpt(text)}")
    return text


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _script(interpreter: str, module: str, function: str) -> bytes:
    """Return the program that calls `function` of `module`, as py-rattler writes it."""
    first = f"#!{interpreter}"
    if len(interpreter.encode()) > _LONGEST_INTERPRETER or " " in interpreter:
        first = f"#!/bin/sh\n'''exec' \"{interpreter}\" \"$0\" \"$@\" #'''"
    return (
        f"{first}\n# -*- coding: utf-8 -*-\nimport re\nimport sys\n\n"
        f"from {module} import {function.partition('.')[0]}\n\n"
        "if __name__ == '__main__':\n"
        "\tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])\n"
        f"\tsys.exit({function}())\n"
    ).encode()
