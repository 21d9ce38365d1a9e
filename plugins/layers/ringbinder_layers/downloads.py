"""Package files from indexes and channels, whole and verified, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx
from attrs import define, field
from ringbinder import BuildError, Context, TransientError
from ringbinder.concurrency import Retry, error_summary
from ringbinder.git import Guard
from ringbinder.http import MAX_BYTES

from .model import Package
from .sources import Sources, origin

_HOPS: Final = 5
_PIECE: Final = 2**20
_PAUSE_SECONDS: Final = 0.5
_TRIES: Final = 3
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@define(eq=False)
class Downloads:
    """Downloads for all builds of a process; hold it open with `lifespan`."""

    context: Context
    sources: Sources
    stall_seconds: float = 30.0
    """How long a connection, and then each next part of a file, may be waited for."""
    _guarded: httpx.AsyncClient = field(init=False)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Holds the connections open to hosts that the operator has not named."""
        async with Guard(on=True).http(self.context.http) as self._guarded:
            yield

    async def fetch(
        self, package: Package, into: Path, limit: int, arrived: Callable[[int], None] = lambda size: None
    ) -> None:
        """Writes the file of `package`, which may have `limit` bytes, to the new file `into`.

        `arrived` is called with the bytes of it that are there until now, before they are written.
        Raises `BuildError` if it is not what the lock names, too large or not there; `TransientError` if its host does
        not answer.
        """
        retry = Retry(_PAUSE_SECONDS, tries=_TRIES, clock=self.context.clock)
        await retry(lambda: self._fetch(package, into, limit, arrived))

    async def _fetch(self, package: Package, into: Path, limit: int, arrived: Callable[[int], None]) -> None:
        host = urlsplit(package.url).hostname
        if package.size is not None and package.size > limit:
            raise _too_large(package, limit)
        address = package.url
        try:
            for _ in range(_HOPS):
                async with self._response(package, address, limit) as response:
                    if response.has_redirect_location:
                        address = urljoin(address, response.headers["location"])
                        continue
                    if response.status_code in _AGAIN:
                        raise TransientError(f"{host} answers {response.status_code} for {_name(package)}")
                    if not response.is_success:
                        raise BuildError(
                            f"{_name(package)} cannot be downloaded: {host} answers {response.status_code}.",
                            "download-failed",
                        )
                    await _write(package, response, into, limit, arrived)
                    return
        except httpx.HTTPError as error:
            raise TransientError(
                f"{_name(package)} could not be downloaded from {host}: {error_summary(error)}"
            ) from error
        raise BuildError(f"{_name(package)} cannot be downloaded: {host} redirects too often.", "download-failed")

    @asynccontextmanager
    async def _response(self, package: Package, address: str, limit: int) -> AsyncIterator[httpx.Response]:
        """The response of `address`, with the credentials of its own host at most."""
        named = origin(address) in self.sources.named
        if not named and urlsplit(address).scheme != "https":
            raise BuildError(
                f"{_name(package)} cannot be downloaded: {urlsplit(package.url).hostname} leads to another host "
                "without encryption.",
                "download-failed",
            )
        client = self.context.http if named else self._guarded
        url, headers = self.sources.request(address)
        # Beyond `limit` by what is read ahead: `_write` counts what arrives.
        extensions = {MAX_BYTES: limit + 2 * _PIECE}
        request = client.build_request("GET", url, headers=headers, timeout=self.stall_seconds, extensions=extensions)
        response = await client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()


async def _write(
    package: Package, response: httpx.Response, into: Path, limit: int, arrived: Callable[[int], None]
) -> None:
    digest, size = hashlib.sha256(), 0
    with into.open("wb") as file:

        def add(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        async for piece in response.aiter_bytes(_PIECE):
            size += len(piece)
            if size > limit:
                raise _too_large(package, limit)
            arrived(size)
            await asyncio.to_thread(add, piece)
    if f"sha256:{digest.hexdigest()}" != package.digest or package.size not in (None, size):
        raise BuildError(
            f"{_name(package)} of {urlsplit(package.url).hostname} is not the file that was locked: its hash or its "
            "size is another. Either it was replaced there, or the lock is wrong.",
            "hash-mismatch",
        )


def _name(package: Package) -> str:
    return f"{package.name} {package.version}"


def _too_large(package: Package, limit: int) -> BuildError:
    return BuildError(
        f"The file of {_name(package)} has more than the {limit} bytes that a build may take.", "build-limit"
    )
