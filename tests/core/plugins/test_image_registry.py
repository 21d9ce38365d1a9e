"""The chosen registry, for builders that assemble images: what never reaches its hooks, and answers that it lacks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ringbinder import (
    BlobOutcome,
    BlobRegistry,
    Descriptor,
    DigestMismatch,
    Image,
    ImageRegistry,
    Manifest,
    Plan,
    PluginError,
    Registry,
    Target,
)
from ringbinder.config.options import NoOptions
from ringbinder.testing import image_registry, make_context

REPOSITORY = "registry.example/name"
DIGEST = "sha256:" + "1" * 64
BLOB = Descriptor("application/octet-stream", DIGEST, 3)
MANIFEST = Manifest("application/vnd.oci.image.manifest.v1+json", b"{}")


class Plain(Registry[NoOptions]):
    """Takes no blobs."""

    holds = "oci"

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        return None

    async def target(self, plan: Plan) -> Target | None:
        return None


class Empty(BlobRegistry[NoOptions]):
    """Notes what it is asked, and has no answer."""

    def __init__(self, config: NoOptions, context: Any) -> None:
        super().__init__(config, context)
        self.asked: list[str] = []

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        return None

    async def target(self, plan: Plan) -> Target | None:
        return None

    async def find_blob(self, repository: str, digest: str) -> Descriptor | None:
        self.asked.append("find_blob")
        return None

    async def put_blob(self, repository: str, blob: Descriptor, content: Any, mount_from: str) -> BlobOutcome | None:
        self.asked.append("put_blob")
        return None

    async def read_blob(self, repository: str, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None] | None:
        self.asked.append("read_blob")
        return None

    async def read_manifest(self, repository: str, reference: str) -> Manifest | None:
        self.asked.append("read_manifest")
        return None

    async def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> Descriptor | None:
        self.asked.append("put_manifest")
        return None

    async def list_tags(self, repository: str) -> tuple[str, ...] | None:
        self.asked.append("list_tags")
        return None


@pytest.fixture
def empty(tmp_path: Path) -> Empty:
    return Empty(NoOptions(), make_context(tmp_path, "empty"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda registry: registry.list_tags(f"{REPOSITORY}:tag"),
        lambda registry: registry.delete_repository(f"{REPOSITORY}@{DIGEST}"),
        lambda registry: registry.put_blob(REPOSITORY, BLOB, b"abc", f"{REPOSITORY}:tag"),
        lambda registry: registry.find_blob(REPOSITORY, "latest"),
        lambda registry: registry.delete_blob(REPOSITORY, DIGEST[:-1]),
        lambda registry: registry.read_manifest(REPOSITORY, "../other"),
        lambda registry: registry.put_manifest(REPOSITORY, f"md5:{'1' * 32}", MANIFEST),
        lambda registry: registry.delete_manifest(REPOSITORY, ""),
    ],
)
async def test_name_of_another_kind_reaches_no_hook(
    empty: Empty, ask: Callable[[ImageRegistry], Awaitable[object]]
) -> None:
    with pytest.raises(ValueError, match=r"is to be the name of a repository|is no digest"):
        await ask(image_registry(empty))
    assert empty.asked == []


@pytest.mark.parametrize("chosen", ["none", "plain"])
async def test_registry_that_takes_no_blobs_is_an_error(tmp_path: Path, chosen: str) -> None:
    plain = Plain(NoOptions(), make_context(tmp_path, "plain"))
    registry = image_registry(plain) if chosen == "plain" else ImageRegistry(None, "")
    assert not registry.takes_blobs
    with pytest.raises(PluginError, match="takes no images from a builder that assembles them itself"):
        await registry.list_tags(REPOSITORY)


@pytest.mark.parametrize(
    ("hook", "ask"),
    [
        ("put_blob", lambda registry: registry.put_blob(REPOSITORY, BLOB, b"abc")),
        ("read_blob", lambda registry: registry.read_small_blob(REPOSITORY, BLOB)),
        ("put_manifest", lambda registry: registry.put_manifest(REPOSITORY, "tag", MANIFEST)),
        ("list_tags", lambda registry: registry.list_tags(REPOSITORY)),
    ],
)
async def test_answer_that_is_missing_is_the_plugins_error(
    empty: Empty, hook: str, ask: Callable[[ImageRegistry], Awaitable[object]]
) -> None:
    with pytest.raises(PluginError, match="it gave None") as caught:
        await ask(image_registry(empty))
    assert caught.value.hook == hook
    assert empty.asked == [hook]


async def test_blob_too_large_for_memory_is_not_asked_for(empty: Empty) -> None:
    large = Descriptor("application/octet-stream", DIGEST, 4 * 2**20 + 1)
    with pytest.raises(DigestMismatch, match="4194305 bytes, too many to be read"):
        await image_registry(empty).read_small_blob(REPOSITORY, large)
    assert empty.asked == []


async def test_registry_that_deletes_nothing_has_no_answer(empty: Empty) -> None:
    registry = image_registry(empty)
    assert await registry.delete_manifest(REPOSITORY, "tag") is None
    assert await registry.delete_blob(REPOSITORY, DIGEST) is None
    assert await registry.delete_repository(REPOSITORY) is None
