"""Bringing the files of a data repository's record: every size and checksum is verified, no path leaves the folder."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urljoin

from attrs import define, field, frozen
from ringbinder import Http, TransientError, UserError, redact
from ringbinder.concurrency import Retry
from ringbinder.git import Guard
from ringbinder.specs import shown

from ._archive import inside

_CHUNK: Final = 2**20
_REDIRECTS: Final = 5
_UNUSABLE: Final = "record-unusable"


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
    retry: Retry
    limit: int

    async def into(self, folder: Path, files: Sequence[RecordFile]) -> None:
        """Raises UserError for what can never be brought, TransientError for what did not arrive whole."""
        if sum(file.size for file in files) > self.limit:
            raise UserError("record-too-large", f"The record holds more than {self.limit / 2**30:.3g} GiB.")
        async with self.guard.http(self.http) as guarded:
            for file in files:
                target = folder / inside(file.name)
                await self.retry(lambda file=file, target=target: self._one(guarded, file, target))  # type: ignore[misc]

    async def _one(self, guarded: Http, file: RecordFile, target: Path) -> None:
        sink = await asyncio.to_thread(_Sink.create, target, file)
        try:
            async with self._response(guarded, file) as response:
                async for chunk in response.aiter_bytes(_CHUNK):
                    await asyncio.to_thread(sink.take, chunk)
            sink.verify()
        finally:
            await asyncio.to_thread(sink.stream.close)

    @asynccontextmanager
    async def _response(self, guarded: Http, file: RecordFile) -> AsyncIterator[Any]:
        """The response with the content of `file`, redirects followed."""
        import httpx
        from ringbinder.http import MAX_BYTES

        url = file.url
        try:
            for _ in range(_REDIRECTS):
                client = self.http if self.guard.trusts(url) else guarded
                request = client.build_request("GET", url, extensions={MAX_BYTES: file.size + 1})
                response = await client.send(request, stream=True, follow_redirects=False)
                try:
                    if not response.has_redirect_location:
                        _must_be_whole(response.status_code, url)
                        yield response
                        return
                    url = urljoin(url, response.headers["location"])
                finally:
                    await response.aclose()
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL, ValueError) as error:
            raise TransientError(f"{shown(url)} did not arrive: {redact(str(error))}") from None
        raise TransientError(f"{shown(url)} redirects without end")


def _must_be_whole(status: int, url: str) -> None:
    if status in {401, 403, 404, 410}:
        raise UserError(_UNUSABLE, f"{shown(url)} is not open: HTTP status {status}.")
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
            raise UserError(_UNUSABLE, f"The checksum of {shown(file.name)} is of an unknown kind.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stream = target.open("wb")
        except OSError as error:
            message = f"{shown(file.name)} cannot be a file name here: {error.strerror}."
            raise UserError(_UNUSABLE, message) from None
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
            message = f"{self.written} of {self.file.size} bytes"
            raise TransientError(f"{shown(self.file.name)} did not arrive whole: {message}")
        wanted = self.file.checksum.partition(":")[2].lower()
        if self.digest and self.digest.hexdigest() != wanted:
            raise TransientError(f"{shown(self.file.name)} arrived damaged: its checksum is not the record's")
