"""How the folder that a conda package was built in becomes the one that it is installed in.

The same as py-rattler and conda make of it, piece by piece, so that a file of gigabytes takes no memory.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Final

from .tar import Readable

_CHUNK: Final = 1 << 18
_FIRST_LINE: Final = 1 << 16
_MAX_SHEBANG: Final = 127
"""Bytes of an interpreter's line that Linux reads."""
_SHEBANG: Final = re.compile(r"#! *(/(?:\\ |[^ \n\r\t])*)([^\n]*)")
_PYTHON: Final = re.compile(r"python(?:\d+(?:\.\d+)?)?")


class PrefixError(Exception):
    """The prefix does not fit into the file. The message goes after its name."""


class _Replaced(ABC):
    """The content of `source` with `new` for each `old`."""

    def __init__(self, source: Readable, old: bytes, new: bytes) -> None:
        self._source = source
        self._old, self._new = old, new
        self._pending = b""
        self._ended = False
        self._output = bytearray()

    def read(self, size: int, /) -> bytes:
        while not self._ended and len(self._output) < size:
            data = self._source.read(_CHUNK)
            self._ended = not data
            self._output += self._convert(self._pending + data)
        result = bytes(self._output[:size])
        del self._output[: len(result)]
        return result

    @abstractmethod
    def _convert(self, data: bytes) -> bytes:
        """Return what becomes of `data`; what may be the beginning of `old` waits for the rest."""

    def _keep(self, data: bytes, start: int) -> int:
        """Keep the end of `data` that may be the beginning of `old`; return where it begins."""
        end = len(data) if self._ended else max(start, len(data) - len(self._old) + 1)
        self._pending = data[end:]
        return end


class TextFile(_Replaced):
    """A text file; its first line stays one that Linux can run."""

    def __init__(self, source: Readable, old: str, new: str) -> None:
        super().__init__(source, old.encode(), new.encode())
        self._began = False
        self._prefixes = (old, new)

    def _convert(self, data: bytes) -> bytes:
        first = b""
        if not self._began:
            line, newline, rest = data.partition(b"\n")
            if not newline and not self._ended and len(data) < _FIRST_LINE:
                self._pending = data
                return b""
            self._began = True
            if data.startswith(b"#!") and len(line) < _FIRST_LINE:
                first, data = _shebang(line.decode(errors="replace"), *self._prefixes).encode(), newline + rest
        start = 0
        pieces = [first]
        while (found := data.find(self._old, start)) >= 0:
            pieces += (data[start:found], self._new)
            start = found + len(self._old)
        pieces.append(data[start : self._keep(data, start)])
        return b"".join(pieces)


class BinaryFile(_Replaced):
    """A binary file, whose size stays: a text that becomes shorter is filled up with zeros at its end."""

    def __init__(self, source: Readable, old: str, new: str) -> None:
        super().__init__(source, old.encode(), new.encode())
        if len(self._new) > len(self._old):
            raise PrefixError(f"has room for a prefix of {len(self._old)} bytes; {new} is longer")
        self._missing = 0
        """Zeros that the text needs at its end which is being read."""

    def _convert(self, data: bytes) -> bytes:
        start = 0
        pieces: list[bytes] = []
        while True:
            found = data.find(self._old, start)
            end = data.find(b"\0", start, found if found >= 0 else None) if self._missing else -1
            if end >= 0:
                pieces += (data[start:end], bytes(self._missing))
                start, self._missing = end, 0
            elif found >= 0:
                pieces += (data[start:found], self._new)
                start = found + len(self._old)
                self._missing += len(self._old) - len(self._new)
            else:
                break
        pieces.append(data[start : self._keep(data, start)])
        if self._ended:
            pieces.append(bytes(self._missing))
            self._missing = 0
        return b"".join(pieces)


def _shebang(line: str, old: str, new: str) -> str:
    """Return the first line of a script, whose interpreter may be too long for Linux or have a space in it."""
    if " " in new:
        return _by_env(line).replace(old, new) if old in line else line
    line = line.replace(old, new)
    return line if len(line.encode()) <= _MAX_SHEBANG or not line.startswith("#!") else _by_env(line)


def _by_env(line: str) -> str:
    if not (match := _SHEBANG.fullmatch(line)):
        return line
    path, options = match.groups()
    name = path.rpartition("/")[2]
    if _PYTHON.fullmatch(name):
        return f"#!/bin/sh\n'''exec' \"{path}\"{options} \"$0\" \"$@\" #'''"
    return f"#!/usr/bin/env {name}{options}"
