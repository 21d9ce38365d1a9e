"""Uploading a blob: in pieces, resumed where the registry keeps what it has, begun again where it does not.

Source: the OCI distribution specification, "Pushing a blob monolithically" and "in chunks": POST gives a `Location`,
PUT with the digest ends it; a PATCH before it takes the bytes. After an error a GET of the `Location` gives the `Range`
that has arrived. The CNCF distribution project 2.8.2 answers 404 where a PATCH broke off: then all is sent again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from attrs import define
from ringbinder import Content, Descriptor, DigestMismatch, TransientError

from ._client import RegistryClient, push
from ._http import Answer, Outgoing

_IN_ONE_REQUEST: Final = 2**20
"""Bytes that are sent with the PUT that ends an upload. More go into a PATCH, as docker's own client sends them."""

_STORED_PER_SECOND: Final = 10_000_000
"""Bytes: for what has arrived, a registry may need time to compute the digest and to move it to its place."""

_MOST_DIGITS: Final = 20
_MISMATCH: Final = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})
_LOST: Final = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID"})
_LOST_STATUS: Final = frozenset({404, 409, 416})
_RAW: Final = {"Content-Type": "application/octet-stream"}


@define(eq=False)
class Upload:
    """The upload of `blob` into the repository `name`, at `location` if a response has named that already."""

    client: RegistryClient
    name: str
    blob: Descriptor
    content: Content
    find: Callable[[], Awaitable[Descriptor | None]]
    location: str = ""
    _kept: int = 0
    """Most bytes that the registry had when it was asked after a failure."""
    _failed: bool = False

    async def run(self) -> None:
        """Tries as often as requests are tried, and again for as long as the registry keeps more each time."""
        while True:
            before = self._kept
            try:
                return await self.client.send.retry(self._try)
            except TransientError:
                if self._kept <= before:
                    raise

    async def _try(self) -> None:
        # Where only the response was lost, the blob may be there.
        if self._failed and await self.find():
            return
        offset = await self._arrived() if self._failed and self.location else 0
        resumed = offset > 0
        self._failed = True
        if not self.location:
            await self._begin()
        if self.blob.size - offset > _IN_ONE_REQUEST:
            ranged = {"Content-Range": f"{offset}-{self.blob.size - 1}"} if resumed else {}
            answer = await self._send("PATCH", self.location, offset, ranged)
            if answer.status != 202:
                raise await self._refusal(answer, resumed)
            self.location, offset = self.client.location(answer), self.blob.size
        sign = "&" if "?" in self.location else "?"
        ended = f"{self.location}{sign}{urlencode({'digest': self.blob.digest})}"
        answer = await self._send("PUT", ended, offset, {})
        if answer.status != 201:
            raise await self._refusal(answer, resumed)
        self.client.require_stored(answer, self.blob.digest)

    async def _begin(self) -> None:
        answer = await self.client.ask("POST", f"{self.name}/blobs/uploads/", push(self.name), once=True)
        if answer.status != 202:
            raise await self.client.refusal(answer, f"push to {self.name}", push(self.name))
        self.location = self.client.location(answer)

    async def _arrived(self) -> int:
        """How many bytes the registry has kept; 0, and no location, if the upload is to begin again."""
        answer = await self.client.ask("GET", "", push(self.name), url=self.location, once=True)
        first, _, last = answer.headers.get("range", "").removeprefix("bytes=").partition("-")
        arrived = int(last) + 1 if last.isdecimal() and len(last) < _MOST_DIGITS else 0
        if answer.status != 204 or first != "0" or not 1 < arrived <= self.blob.size:  # an empty one has 0-0, too
            self.location = ""
            return 0
        if answer.headers.get("location"):
            self.location = self.client.location(answer)
        self._kept = max(self._kept, arrived)
        return arrived

    async def _send(self, method: str, url: str, offset: int, headers: Mapping[str, str]) -> Answer:
        left = self.blob.size - offset
        more_seconds = self.blob.size / _STORED_PER_SECOND if method == "PUT" else 0.0

        async def send(url: str, headers: Mapping[str, str]) -> Answer:
            of = self.client.title
            if not left:
                return await self.client.send(method, url, headers, of=of, more_seconds=more_seconds, once=True)
            body = Outgoing(self.content(offset), left)
            return await self.client.send.upload(method, url, headers, body, of=of, more_seconds=more_seconds)

        return await self.client.authorized(send, url, push(self.name), {**_RAW, **headers})

    async def _refusal(self, answer: Answer, resumed: bool) -> Exception:
        code = answer.error.get("code")
        if code in _MISMATCH and not resumed:
            return DigestMismatch(f"{self.client.title}: the content sent to {self.name} is not {self.blob.digest}")
        if code in _MISMATCH or code in _LOST or answer.status in _LOST_STATUS:
            self.location = ""
            return TransientError(f"{self.client.title} has lost an upload to {self.name}: HTTP status {answer.status}")
        return await self.client.refusal(answer, f"push to {self.name}", push(self.name))
