"""One repository of a registry, for builders that assemble images themselves.

Source: the OCI distribution specification: pulling, pushing blobs monolithically and in chunks, mounting, listing and
deleting; and the error codes of its page. `MANIFEST_BLOB_UNKNOWN` has the digest as its `detail` at the CNCF
distribution project, and an object with a `digest` elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from attrs import frozen
from ringbinder import (
    BlobOutcome,
    ConfigError,
    Content,
    Descriptor,
    DigestMismatch,
    Manifest,
    MissingBlob,
    TransientError,
)
from ringbinder.untrusted import MalformedError, check_shape, parse_json

from ._client import ACCEPT, MANIFEST_TYPES, RegistryClient, pull, push
from ._credentials import host_of
from ._http import LONGEST_BODY, Answer, Incoming
from ._upload import Upload

_MANIFEST_BYTES: Final = 4 * 2**20
"""What the specification has registries take at least, and so what a manifest is known to have at most."""

_TAGS_BYTES: Final = 32 * 2**20
_TAGS_OF_A_PAGE: Final = 1000
_MOST_TAGS: Final = 500_000
_BLOB: Final = "application/octet-stream"
_DELETED: Final = frozenset({200, 202, 204})
_NO_DELETION: Final = frozenset({405, 501})
_NO_TAG_DELETION: Final = frozenset({400, *_NO_DELETION})
_UNKNOWN_BLOB: Final = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})


@frozen
class Repository:
    """The repository `name` of a registry."""

    client: RegistryClient
    name: str

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{host_of(self.client.url)}/{self.name}"

    async def find(self, digest: str) -> Descriptor | None:
        """The blob, if it is there."""
        answer = await self.client.look("HEAD", self.name, f"blobs/{digest}")
        if answer is None:
            return None
        size = answer.headers.get("content-length", "")
        if not size.isdecimal():
            raise self.client.wrong("DockerRegistry.url", f"does not say how large the blob {digest} is")
        return Descriptor(_BLOB, digest, int(size))

    async def put(self, blob: Descriptor, content: Content, source: Repository | None) -> BlobOutcome:
        """Finds the blob here, mounts it from `source`, or uploads it."""
        if await self.find(blob.digest):
            return "present"
        location = ""
        if source is not None and source != self:
            answer = await self._mount(blob, source)
            if answer and answer.status == 201:
                return "mounted"
            if answer and answer.status == 202:  # it does not mount this blob, and has begun an upload instead
                location = self.client.location(answer)
        await Upload(self.client, self.name, blob, content, lambda: self.find(blob.digest), location).run()
        return "uploaded"

    async def _mount(self, blob: Descriptor, source: Repository) -> Answer | None:
        query = urlencode({"mount": blob.digest, "from": source.name})
        try:
            return await self.client.ask(
                "POST", f"{self.name}/blobs/uploads/?{query}", (*push(self.name), *pull(source.name))
            )
        except ConfigError:  # such as no token for both repositories: an upload needs one for this one alone
            return None

    async def read(self, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        """See the hook `read_blob`."""
        digest = hashlib.sha256()
        position, stuck = offset, 0
        while position < blob.size:
            before = position
            incoming = await self._open(blob, position)
            try:
                skipped = position if incoming.status == 200 else 0
                async for piece in incoming.pieces():
                    if skipped:
                        piece, skipped = piece[skipped:], max(0, skipped - len(piece))
                    position += len(piece)
                    if position > blob.size:
                        raise self._mismatch(blob, f"has more than {blob.size} bytes")
                    digest.update(piece)
                    yield piece
                problem = f"{self.client.title} has ended a blob of {self.name} before its end"
            except TransientError as error:
                problem = str(error)
            finally:
                await incoming.close()
            stuck = 0 if position > before else stuck + 1
            if position < blob.size and stuck >= self.client.send.retry.tries:
                raise TransientError(problem)
        if offset == 0 and f"sha256:{digest.hexdigest()}" != blob.digest:
            raise self._mismatch(blob, "is not what its digest says")

    async def _open(self, blob: Descriptor, position: int) -> Incoming:
        async def send(url: str, headers: Any) -> Answer:
            return await self.client.send.open(url, headers, of=self.client.title, most=most)

        most = max(blob.size + 1, LONGEST_BODY)  # an error may have more to say than the blob
        headers = {"Range": f"bytes={position}-"} if position else {}
        url = f"{self.client.url}/v2/{self.name}/blobs/{blob.digest}"
        answer = await self.client.authorized(send, url, pull(self.name), headers)
        if isinstance(answer, Incoming):
            begins = answer.headers.get("content-range", "").partition("-")[0]
            if answer.status == 206 and begins != f"bytes {position}":
                await answer.close()
                raise self._mismatch(blob, "is answered with another range than was asked for")
            return answer
        if answer.status == 416:
            raise self._mismatch(blob, f"has less than {blob.size} bytes")
        await self.client.require_missing(answer, self.name)
        raise MissingBlob(f"{self.title} has no blob {blob.digest}", blob.digest)

    def _mismatch(self, blob: Descriptor, what: str) -> DigestMismatch:
        return DigestMismatch(f"the blob {blob.digest} of {self.title} {what}")

    async def manifest(self, reference: str) -> Manifest | None:
        """See the hook `read_manifest`."""
        answer = await self.client.look("GET", self.name, f"manifests/{reference}", ACCEPT, most=_MANIFEST_BYTES)
        if answer is None:
            return None
        where = f"the manifest {reference} of {self.title}"
        if not answer.whole:
            raise DigestMismatch(f"{where} has more than {_MANIFEST_BYTES} bytes")
        manifest = Manifest(answer.headers.get("content-type", "").partition(";")[0].strip(), answer.body)
        named = reference if ":" in reference else answer.headers.get("docker-content-digest")
        if named and named != manifest.descriptor.digest:
            raise DigestMismatch(f"{where} is not what its digest says")
        return manifest

    async def put_manifest(self, reference: str, manifest: Manifest) -> Descriptor:
        """See the hook `put_manifest`."""
        answer = await self.client.ask(
            "PUT", f"{self.name}/manifests/{reference}", push(self.name), {"Content-Type": manifest.media_type},
            content=manifest.content,
        )  # fmt: skip
        if answer.error.get("code") in _UNKNOWN_BLOB:
            detail = answer.error.get("detail")
            digest = detail.get("digest") if isinstance(detail, dict) else detail
            digest = digest if isinstance(digest, str) and digest in manifest.content.decode(errors="replace") else ""
            raise MissingBlob(f"{self.title} does not have {digest or 'a blob'} that a manifest for it names", digest)
        if answer.status != 201:
            raise await self.client.refusal(answer, f"push to {self.name}", push(self.name))
        self.client.require_stored(answer, manifest.descriptor.digest)
        return manifest.descriptor

    async def tags(self) -> Sequence[str]:
        """See the hook `list_tags`."""
        tags: dict[str, None] = {}
        path = f"tags/list?n={_TAGS_OF_A_PAGE}"
        while path:
            answer = await self.client.look("GET", self.name, path, most=_TAGS_BYTES)
            if answer is None:
                break
            try:
                page = parse_json(answer.body, values=_MOST_TAGS) if answer.whole else {}
                check_shape(page, {"tags?": [str]})
            except MalformedError as error:
                raise self.client.wrong(
                    "DockerRegistry.url", f"lists tags of {self.name} in a form that {error}"
                ) from None
            known = len(tags)
            tags |= dict.fromkeys(page.get("tags") or ())
            if not answer.whole or len(tags) > _MOST_TAGS:
                raise self.client.wrong("DockerRegistry.url", f"has more tags in {self.name} than can be listed")
            path = _next_page(answer, self.name) if len(tags) > known else ""
        return tuple(tags)

    async def delete_manifest(self, reference: str) -> bool | None:
        """See the hook `delete_manifest`."""
        tag = ":" not in reference
        answer = await self._delete(f"manifests/{reference}")
        if tag and answer.status in _NO_TAG_DELETION:
            return await self._delete_by_stand_in(reference)
        return await self._deleted(answer)

    async def delete_blob(self, digest: str) -> bool | None:
        """See the hook `delete_blob`."""
        return await self._deleted(await self._delete(f"blobs/{digest}"))

    async def _delete_by_stand_in(self, tag: str) -> bool | None:
        """Removes a tag where only manifests can be removed, which would take other tags with them.

        The tag is given to an empty list of images that nothing else has, and that is removed. Needed for the CNCF
        distribution project before its version 3.
        """
        kept = await self.manifest(tag)
        if kept is None:
            return False
        empty = {"schemaVersion": 2, "mediaType": MANIFEST_TYPES[0], "manifests": []}
        unique = {"annotations": {"org.opencontainers.image.ref.name": secrets.token_hex(16)}}
        stand_in = Manifest(MANIFEST_TYPES[0], json.dumps(empty | unique).encode())
        deleted: bool | None = None
        try:
            digest = (await self.put_manifest(tag, stand_in)).digest
            deleted = await self._deleted(await self._delete(f"manifests/{digest}"))
        finally:
            if not deleted:
                await self.put_manifest(tag, kept)
        return deleted

    async def _delete(self, path: str) -> Answer:
        return await self.client.ask("DELETE", f"{self.name}/{path}", self._may_delete)

    @property
    def _may_delete(self) -> tuple[str, ...]:
        return (f"repository:{self.name}:delete",)

    async def _deleted(self, answer: Answer) -> bool | None:
        if answer.status in _DELETED:
            return True
        if answer.status == 404:
            return False
        if answer.status in _NO_DELETION or answer.error.get("code") == "UNSUPPORTED":
            return None
        raise await self.client.refusal(answer, f"delete in {self.name}", self._may_delete)


def _next_page(answer: Answer, name: str) -> str:
    """The path of the next page, below that of the repository `name`; empty if there is none.

    Source: RFC 8288, of which registries use one form: ``</v2/name/tags/list?...>; rel="next"``.
    """
    link, _, parameters = answer.headers.get("link", "").partition(">")
    _, _, query = link.partition("?")
    return f"tags/list?{query}" if query and "next" in parameters else ""
