"""Bringing the files of a data repository's record: every size and checksum is verified, no path leaves the folder."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import stat
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final
from urllib.parse import urljoin

from attrs import define, field, frozen
from ringbinder.errors import TransientError, UserError
from ringbinder.secret import redact
from ringbinder.services import Http

from ._address import shown
from ._guard import Guard
from ._patience import Patience
from ._threads import Stopped, in_thread

_CHUNK: Final = 2**20
_REDIRECTS: Final = 5
_MOST_ENTRIES: Final = 100_000
_SHARED: Final = "record-unusable"


@frozen
class RecordFile:
    """A file of a record. `checksum` is ``algorithm:hexadecimal``, empty if none is known."""

    name: str
    size: int
    url: str
    checksum: str = ""


@frozen
class Downloads:
    """Brings files over HTTP into a folder. `limit` bounds their bytes, also unpacked."""

    http: Http
    guard: Guard
    patience: Patience
    limit: int

    async def into(self, folder: Path, files: Sequence[RecordFile]) -> None:
        """Raises UserError for what can never be brought, TransientError for what did not arrive whole."""
        if sum(file.size for file in files) > self.limit:
            raise UserError("record-too-large", f"The record holds more than {self.limit / 2**30:.3g} GiB.")
        async with self.guard.http(self.http) as guarded:
            for file in files:
                target = _inside(folder, file.name)
                await self.patience(lambda file=file, target=target: self._one(guarded, file, target))  # type: ignore[misc]

    async def _one(self, guarded: Http, file: RecordFile, target: Path) -> None:
        sink = await asyncio.to_thread(_Sink.create, target, file)
        try:
            async with self._response(guarded, file.url) as response:
                async for chunk in response.aiter_bytes(_CHUNK):
                    await asyncio.to_thread(sink.take, chunk)
            sink.verify()
        finally:
            await asyncio.to_thread(sink.stream.close)

    @asynccontextmanager
    async def _response(self, guarded: Http, url: str) -> AsyncIterator[Any]:
        """The response with the content of `url`, redirects followed."""
        import httpx

        try:
            for _ in range(_REDIRECTS):
                client = self.http if self.guard.trusts(url) else guarded
                request = client.build_request("GET", url, headers={"Accept-Encoding": "identity"})
                response = await client.send(request, stream=True, follow_redirects=False)
                try:
                    if not response.has_redirect_location:
                        _must_be_whole(response.status_code, url)
                        yield response
                        return
                    url = urljoin(url, response.headers["location"])
                finally:
                    await response.aclose()
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as error:
            raise TransientError(f"{shown(url)} did not arrive: {redact(str(error))}") from None
        raise TransientError(f"{shown(url)} redirects without end")


def _must_be_whole(status: int, url: str) -> None:
    if status in {401, 403, 404, 410}:
        raise UserError(_SHARED, f"{shown(url)} is not open: HTTP status {status}.")
    if status != 200:
        raise TransientError(f"{shown(url)} did not arrive: HTTP status {status}")


@define
class _Sink:
    """A file that is being written, and what it must become."""

    stream: BinaryIO
    file: RecordFile
    digest: Any
    written: int = field(init=False, default=0)

    @classmethod
    def create(cls, target: Path, file: RecordFile) -> _Sink:
        algorithm = file.checksum.partition(":")[0].lower()
        if algorithm and algorithm not in hashlib.algorithms_available:
            raise UserError(_SHARED, f"The checksum of {shown(file.name)} is of an unknown kind.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stream = target.open("wb")
        except OSError as error:
            told = f"{shown(file.name)} cannot be a file name here: {error.strerror}."
            raise UserError(_SHARED, told) from None
        return cls(stream, file, hashlib.new(algorithm, usedforsecurity=False) if algorithm else None)

    def take(self, chunk: bytes) -> None:
        self.written += len(chunk)
        if self.written > self.file.size:
            raise TransientError(f"{shown(self.file.name)} is larger than the record says")
        self.stream.write(chunk)
        if self.digest:
            self.digest.update(chunk)

    def verify(self) -> None:
        if self.written != self.file.size:
            told = f"{self.written} of {self.file.size} bytes"
            raise TransientError(f"{shown(self.file.name)} did not arrive whole: {told}")
        wanted = self.file.checksum.partition(":")[2].lower()
        if self.digest and self.digest.hexdigest() != wanted:
            raise TransientError(f"{shown(self.file.name)} arrived damaged: its checksum is not the record's")


def _inside(folder: Path, name: str) -> Path:
    """Where a file of that name is. Raises UserError if that would not be in `folder`."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(_SHARED, f'The record has a file with a forbidden name: "{shown(name)}".')
    return folder / path


async def unpack(archive: Path, folder: Path, limit: int) -> None:
    """Replaces a zip file, alone in `folder`, by what it holds; of a single folder in it, by that one's content.

    GitHub's archives have such a folder. It is what repo2docker does with a record of one file. Raises UserError.
    """
    try:
        await in_thread(lambda stop: _unpack(archive, folder, limit, stop))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        raise UserError(_SHARED, f"{shown(archive.name)} cannot be unpacked: {error}.") from None


def _unpack(archive: Path, folder: Path, limit: int, stop: threading.Event) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as made:
        with zipfile.ZipFile(archive) as content:
            entries = content.infolist()
            if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > limit:
                raise UserError("record-too-large", f"{shown(archive.name)} unpacks to more than is allowed.")
            links = [entry for entry in entries if _is_link(entry)]
            for entry in entries:
                if stop.is_set():
                    raise Stopped
                if entry not in links:
                    _extract(content, entry, Path(made))
            # Last, so that nothing is written through them.
            for entry in links:
                _link(content, entry, Path(made))
        archive.unlink()
        if archive.parent != folder:
            shutil.rmtree(folder / archive.relative_to(folder).parts[0])
        top = list(Path(made).iterdir())
        inner = top[0] if len(top) == 1 and top[0].is_dir() and not top[0].is_symlink() else Path(made)
        for path in inner.iterdir():
            shutil.move(path, folder)


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _extract(content: zipfile.ZipFile, entry: zipfile.ZipInfo, root: Path) -> None:
    target = _inside(root, entry.filename)
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with content.open(entry) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, _CHUNK)
    if entry.external_attr >> 16 & stat.S_IXUSR:
        target.chmod(0o755)


def _link(content: zipfile.ZipFile, entry: zipfile.ZipInfo, root: Path) -> None:
    link = _inside(root, entry.filename)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(content.read(entry).decode("utf-8", "replace"))
    if not link.resolve().is_relative_to(root.resolve()):
        raise UserError(_SHARED, f'The link "{shown(entry.filename)}" in the archive leads out of it.')
