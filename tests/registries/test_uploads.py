"""Blobs and manifests at a registry on a bad day: connections that break, tokens that end, answers that are wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from attrs import define, evolve, field
from realparts.parts import PASSWORD
from ringbinder.errors import ConfigError, DigestMismatch, TransientError
from ringbinder.model import Descriptor, Manifest, digest_of
from ringbinder.testing import image_registry
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries._http import Outgoing

from .conftest import Make

SMALL = b"a layer that goes into one request"
LARGE = bytes(range(251)) * 20_000
"""Of five megabytes: more than the buffers on the way take."""
OTHER_DIGEST = f"sha256:{'0' * 64}"


def blob_of(content: bytes) -> Descriptor:
    return Descriptor("application/vnd.oci.image.layer.v1.tar", digest_of(content), len(content))


@define(eq=False)
class Source:
    """A builder's content; `when_sent` is called once, when it is to be sent first."""

    content: bytes
    when_sent: Callable[[], None] | None = None
    offsets: list[int] = field(factory=list)

    async def __call__(self, offset: int) -> AsyncIterator[bytes]:
        self.offsets.append(offset)
        if self.when_sent and len(self.offsets) == 1:
            self.when_sent()
        for start in range(offset, len(self.content), 2**16):
            yield self.content[start : start + 2**16]


async def read(registry: Any, repository: str, content: bytes) -> bytes:
    return b"".join([piece async for piece in image_registry(registry).read_blob(repository, blob_of(content))])


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "forgotten"])
async def test_upload_that_broke_off_is_resumed(server: OciServer, make: Make, content: bytes, keeps: bool) -> None:
    server.breaks, server.keeps_broken_uploads = [len(content) // 2], keeps
    source = Source(content)
    blobs, repository = image_registry(make()), f"{server.host}/x"
    assert await blobs.put_blob(repository, blob_of(content), source) == "uploaded"
    first, second = source.offsets
    assert first == 0
    assert (second >= len(content) // 2) == keeps
    assert not server.breaks
    assert await read(make(), repository, content) == content


async def test_upload_goes_on_while_the_registry_keeps_more(server: OciServer, make: Make) -> None:
    server.breaks = [1_000_000] * 4
    source = Source(LARGE)
    assert await image_registry(make(retries=1)).put_blob(f"{server.host}/x", blob_of(LARGE), source) == "uploaded"
    assert source.offsets == sorted(set(source.offsets))
    assert len(source.offsets) == 5


async def test_upload_that_always_breaks_off_ends(server: OciServer, make: Make) -> None:
    server.breaks, server.keeps_broken_uploads = [1000] * 10, False
    with pytest.raises(TransientError, match="did not answer"):
        await image_registry(make(retries=2)).put_blob(f"{server.host}/x", blob_of(LARGE), Source(LARGE))
    assert len(server.breaks) == 7


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_stalled_upload_ends_by_its_time_limit(
    server: OciServer, make: Make, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    go_on = asyncio.Event()

    async def reads_nothing(*_: object) -> bool:
        await go_on.wait()
        return False

    monkeypatch.setattr(OciServer, "_receive", reads_nothing)
    source = Source(content)
    registry = image_registry(make(retries=0, request_timeout=1))
    with pytest.raises(TransientError, match=r"it needs more than 1[.\d]* seconds"):
        await registry.put_blob(f"{server.host}/x", blob_of(content), source)
    assert source.offsets == [0]
    go_on.set()


async def test_time_of_a_builders_content_is_not_counted() -> None:
    """A layer is made while it is sent, which may take its time; the limit is the registry's."""
    limits: list[float | None] = []

    class Timer:
        def reschedule(self, when: float | None) -> None:
            limits.append(when)

    async def content() -> AsyncIterator[bytes]:
        assert limits[-1] is None
        yield b"ab"
        assert limits[-1] is None
        yield b"c"

    body = Outgoing(content(), 3)
    body.clocked(Timer(), 10)  # type: ignore[arg-type]  # all of asyncio.Timeout that is used
    async for _ in body:
        assert limits[-1] is not None
        assert limits[-1] > asyncio.get_running_loop().time()


async def test_token_that_ends_during_an_upload_is_renewed(guarded: OciServer, make: Make) -> None:
    registry = make(url=guarded.url, username="builder", password=PASSWORD)
    source = Source(LARGE, guarded.revoke_tokens)
    repository = f"{guarded.host}/x"
    assert await image_registry(registry).put_blob(repository, blob_of(LARGE), source) == "uploaded"
    to_push = [seen for seen in guarded.asked("GET", "/token") if "push" in seen.query]
    assert len(to_push) == 2
    assert await read(registry, repository, LARGE) == LARGE


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_busy_registry_is_asked_again(server: OciServer, make: Make, status: int, content: bytes) -> None:
    def busy() -> None:
        server.answers.append(web.Response(status=status))

    busy()  # to the question whether it is there
    repository = f"{server.host}/x"
    assert await image_registry(make()).put_blob(repository, blob_of(content), Source(content, busy)) == "uploaded"
    assert not server.answers
    busy()
    assert await read(make(), repository, content) == content


async def test_busy_registry_that_stays_so_is_an_outage(server: OciServer, make: Make) -> None:
    server.answers = [web.Response(status=503) for _ in range(3)]
    with pytest.raises(TransientError, match="HTTP status 503"):
        await image_registry(make(retries=2)).put_blob(f"{server.host}/x", blob_of(SMALL), SMALL)
    assert not server.answers


async def test_another_digest_than_was_sent_is_an_error(server: OciServer, make: Make) -> None:
    server.headers["Docker-Content-Digest"] = OTHER_DIGEST
    blobs, repository = image_registry(make()), f"{server.host}/x"
    with pytest.raises(DigestMismatch, match=f"has stored {OTHER_DIGEST}"):
        await blobs.put_blob(repository, blob_of(SMALL), SMALL)
    manifest = Manifest("application/vnd.oci.image.index.v1+json", b'{"manifests": []}')
    with pytest.raises(DigestMismatch, match=f"has stored {OTHER_DIGEST}"):
        await blobs.put_manifest(repository, "tag", manifest)
    with pytest.raises(DigestMismatch, match="is not what its digest says"):
        await blobs.read_manifest(repository, "tag")


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        (SMALL.swapcase(), "is not what its digest says"),
        (SMALL + b"more", f"has more than {len(SMALL)} bytes"),
        (SMALL[:-1], f"has less than {len(SMALL)} bytes"),
    ],
)
async def test_blob_that_is_another_is_refused(server: OciServer, make: Make, kept: bytes, problem: str) -> None:
    server._blobs["x", digest_of(SMALL)] = kept
    with pytest.raises(DigestMismatch, match=problem):
        await read(make(), f"{server.host}/x", SMALL)


async def test_blob_that_broke_off_is_read_on(server: OciServer, make: Make) -> None:
    server.put_blob("x", LARGE)
    server.breaks = [1_000_000, 2_000_000, 0]
    assert await read(make(), f"{server.host}/x", LARGE) == LARGE
    assert not server.breaks
    ranges = [seen.headers.get("range") for seen in server.asked("GET", "/blobs/")]
    assert ranges[0] is None
    assert "bytes=1000000-" in ranges


async def test_blob_that_never_arrives_is_an_outage(server: OciServer, make: Make) -> None:
    server.put_blob("x", SMALL)
    server.breaks = [0] * 10
    with pytest.raises(TransientError):
        await read(make(retries=1), f"{server.host}/x", SMALL)


async def test_lost_answer_to_an_upload_is_no_second_one(
    server: OciServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry has the blob, and only its answer did not arrive."""
    stored = OciServer._upload

    async def answer_is_lost(self: OciServer, request: web.Request, name: str, id: str) -> web.StreamResponse:
        response = await stored(self, request, name, id)
        if response.status == 201 and request.transport is not None:
            request.transport.close()
        return response

    monkeypatch.setattr(OciServer, "_upload", answer_is_lost)
    source = Source(SMALL)
    assert await image_registry(make()).put_blob(f"{server.host}/x", blob_of(SMALL), source) == "uploaded"
    assert source.offsets == [0]


async def test_registry_without_deletion_is_no_error(server: OciServer, make: Make) -> None:
    digest = server.put("x", "tag")
    blobs, repository = image_registry(make()), f"{server.host}/x"
    assert await blobs.list_tags(repository) == ("tag",)
    server.answers = [web.Response(status=405)]
    assert await blobs.delete_manifest(repository, digest) is None
    server.answers = [web.Response(status=405)]
    assert await blobs.delete_blob(repository, digest) is None
    assert server.tags("x") == ["tag"]


async def test_tag_is_put_back_where_it_cannot_be_removed(server: OciServer, make: Make, monkeypatch: Any) -> None:
    """Where a registry removes manifests alone, the tag is given to one that nothing else has."""
    manifest = OciServer._manifest
    deletes = False

    async def no_tags(self: OciServer, request: web.Request, name: str, reference: str) -> web.Response:
        if request.method == "DELETE" and not (deletes and ":" in reference):
            return web.Response(status=405)
        return await manifest(self, request, name, reference)

    monkeypatch.setattr(OciServer, "_manifest", no_tags)
    digest = server.put("x", "one")
    server.put("x", "two")
    blobs, repository = image_registry(make()), f"{server.host}/x"
    assert await blobs.delete_manifest(repository, "one") is None
    for tag in ("one", "two"):
        kept = await blobs.read_manifest(repository, tag)
        assert kept
        assert kept.descriptor.digest == digest
    deletes = True
    assert await blobs.delete_manifest(repository, "one") is True
    assert server.tags("x") == ["two"]


async def test_redirects_in_a_circle_end(server: OciServer, make: Make) -> None:
    registry = image_registry(make())
    assert await registry.find_blob(f"{server.host}/x", OTHER_DIGEST) is None
    redirect = {"Location": "/v2/x/blobs/uploads/"}
    server.answers = [web.Response(status=404), *(web.Response(status=307, headers=redirect) for _ in range(50))]
    with pytest.raises(ConfigError, match="HTTP status 307"):
        await registry.put_blob(f"{server.host}/x", blob_of(SMALL), SMALL)
    assert len(server.answers) > 40


async def test_list_of_tags_without_end_ends(server: OciServer, make: Make) -> None:
    link = {"Link": '</v2/x/tags/list?last=a>; rel="next"'}
    server.answers = [web.json_response({"tags": ["a"]}, headers=link) for _ in range(50)]
    assert await image_registry(make()).list_tags(f"{server.host}/x") == ("a",)
    assert len(server.asked("GET", "/tags/list")) == 2


@pytest.mark.parametrize("answer", [{"tags": "a"}, {"tags": [1]}, [], "x"])
async def test_list_of_tags_in_another_form_is_an_error(server: OciServer, make: Make, answer: Any) -> None:
    registry = image_registry(make())
    await registry.list_tags(f"{server.host}/x")
    server.answers = [web.json_response(answer)]
    with pytest.raises(ConfigError, match=r"DockerRegistry\.url.*lists tags of x"):
        await registry.list_tags(f"{server.host}/x")


async def test_manifest_beyond_the_limit_is_refused(server: OciServer, make: Make) -> None:
    server.put("x", "tag", b" " * (2**22 + 1))
    with pytest.raises(DigestMismatch, match="more than 4194304 bytes"):
        await image_registry(make()).read_manifest(f"{server.host}/x", "tag")


async def test_content_of_another_size_is_no_outage(server: OciServer, make: Make) -> None:
    """The builder's mistake is named, whichever way its content is wrong."""
    for size, problem in ((len(LARGE) + 1, "ends after"), (len(LARGE) - 1, "has more than")):
        blob = evolve(blob_of(LARGE), size=size)
        with pytest.raises(DigestMismatch, match=problem):
            await image_registry(make()).put_blob(f"{server.host}/x", blob, Source(LARGE))


@pytest.mark.parametrize("arrived", ["", "x", "0-", "0-x", "5-9", f"0-{len(LARGE)}", f"0-{'9' * 5000}", "0-²"])
async def test_range_that_makes_no_sense_begins_again(
    server: OciServer, make: Make, monkeypatch: pytest.MonkeyPatch, arrived: str
) -> None:
    upload = OciServer._upload

    async def nonsense(self: OciServer, request: web.Request, name: str, id: str) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(status=204, headers={"Range": arrived})
        return await upload(self, request, name, id)

    monkeypatch.setattr(OciServer, "_upload", nonsense)
    server.breaks = [1_000_000]
    source = Source(LARGE)
    assert await image_registry(make()).put_blob(f"{server.host}/x", blob_of(LARGE), source) == "uploaded"
    assert source.offsets == [0, 0]
