"""Blobs and manifests of builders that assemble images themselves, at the real registry."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import evolve
from realparts.parts import PASSWORD, RealRegistry
from ringbinder.model import Descriptor, Manifest, Plan, Target, digest_of
from ringbinder.testing import RegistryCase, RegistryContract, folder_plan, image_registry
from ringbinder_registries.dockerhub import DockerHubRegistry
from ringbinder_registries.oci import OciRegistry

from .conftest import Make

pytestmark = pytest.mark.real("docker-registry")

OCI = "application/vnd.oci.image"


async def assemble(registry: OciRegistry[Any], repository: str, tag: str, layer: bytes) -> Manifest:
    """Pushes an image of one layer."""
    blobs = image_registry(registry)
    described = []
    for kind, content in ((f"{OCI}.config.v1+json", b"{}"), (f"{OCI}.layer.v1.tar", layer)):
        blob = Descriptor(kind, digest_of(content), len(content))
        await blobs.put_blob(repository, blob, content)
        described.append({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size})
    media_type = f"{OCI}.manifest.v1+json"
    about = {"schemaVersion": 2, "mediaType": media_type, "config": described[0], "layers": described[1:]}
    manifest = Manifest(media_type, json.dumps(about, indent=3).encode())  # nobody's own form, to be kept so
    await blobs.put_manifest(repository, tag, manifest)
    return manifest


@asynccontextmanager
async def broken_way(url: str, after: int) -> AsyncIterator[str]:
    """A host by which `url` is reached; the first connection that brings `after` bytes is closed then, both ways."""
    server = urlsplit(url)
    left = [after]

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: bool) -> None:
        brought = 0
        with suppress(ConnectionError):
            while piece := await reader.read(2**16):
                brought += len(piece)
                if counts and left and brought >= left[0]:
                    left.clear()
                    break
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(server.hostname, server.port)
        async with asyncio.TaskGroup() as both:
            both.create_task(pass_on(reader, back, counts=True))
            both.create_task(pass_on(there, writer, counts=False))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as way:
        yield f"127.0.0.1:{way.sockets[0].getsockname()[1]}"
        assert not left, "nothing was cut"


async def test_connection_cut_in_mid_upload_is_no_error(open_registry: RealRegistry, make: Make) -> None:
    content = bytes(range(251)) * 40_000
    blob = Descriptor(f"{OCI}.layer.v1.tar", digest_of(content), len(content))
    async with broken_way(open_registry.url, len(content) // 2) as host:
        blobs, repository = image_registry(make()), f"{host}/cut-in-mid-upload"
        assert await blobs.put_blob(repository, blob, content) == "uploaded"
        read = b"".join([piece async for piece in blobs.read_blob(repository, blob)])
    assert read == content


class TestRealRegistry(RegistryContract):
    @pytest.fixture(params=["open", "password", "strict tokens", "tokens of Docker Hub"])
    async def case(self, tmp_path: Path, make: Make, request: pytest.FixtureRequest) -> RegistryCase:
        kind: type[OciRegistry[Any]] = OciRegistry
        login: dict[str, Any] = {"username": "builder", "password": PASSWORD}
        match request.param:
            case "open":
                at, login = request.getfixturevalue("open_registry"), {}
            case "password":
                at = request.getfixturevalue("password_registry")
            case "strict tokens":
                at = request.getfixturevalue("token_registry")("strict").registry
            case _:
                kind, at = DockerHubRegistry, request.getfixturevalue("token_registry")("hub").registry
        hub = kind is DockerHubRegistry
        options = {"url": at.url, "image_prefix": f"{at.host}/builder/", "not_found_401": hub or None}

        async def publish(plan: Plan, target: Target) -> None:
            """With the right that `target` gives, and no other."""
            given = json.loads(target.credentials.reveal()) if target.credentials else {}
            right = {name: given[name] for name in ("username", "password") if name in given}
            repository, _, tag = plan.image.rpartition(":")
            await assemble(make(kind, **right, **options), repository, tag, b"a layer")

        async def remove(plan: Plan) -> None:
            repository, _, tag = plan.image.rpartition(":")
            assert await image_registry(make(kind, **login, **options)).delete_manifest(repository, tag)

        plan = folder_plan(tmp_path / "x", {"a": "b"})
        name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]  # the registry is that of all tests
        return RegistryCase(
            registry=make(kind, **login, **options),
            plan=evolve(plan, image=f"{at.host}/builder/of-blobs-{name}:{plan.repo.ref}"),
            publish=publish, remove=remove, secrets=[PASSWORD],
        )  # fmt: skip

    async def test_layer_is_mounted_without_a_byte(self, case: RegistryCase) -> None:
        registry = case.takes_blobs()
        content = b"a layer of the base image"
        blob = Descriptor(f"{OCI}.layer.v1.tar", digest_of(content), len(content))
        await registry.put_blob(f"{case.repository}-base", blob, content)

        def never(offset: int) -> Any:
            raise AssertionError("its content was asked for")

        assert await registry.put_blob(case.repository, blob, never, f"{case.repository}-base") == "mounted"

    async def test_unusual_form_of_a_manifest_is_kept(self, case: RegistryCase) -> None:
        manifest = await assemble(case.registry, case.repository, "indented", b"a layer")
        assert b"\n   " in manifest.content
        assert await case.takes_blobs().read_manifest(case.repository, "indented") == manifest

    async def test_unused_blob_is_removed(self, case: RegistryCase) -> None:
        registry = case.takes_blobs()
        blob = Descriptor(f"{OCI}.layer.v1.tar", digest_of(b"unused"), 6)
        await registry.put_blob(case.repository, blob, b"unused")
        assert await registry.delete_blob(case.repository, blob.digest) is True
        assert await registry.find_blob(case.repository, blob.digest) is None
        assert await registry.delete_blob(case.repository, blob.digest) is False

    async def test_tags_of_several_pages_are_listed(self, case: RegistryCase, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringbinder_registries._repository._TAGS_OF_A_PAGE", 2)
        tags = [f"tag-{number}" for number in range(5)]
        for tag in tags:
            await assemble(case.registry, case.repository, tag, b"a layer")
        assert sorted(await case.takes_blobs().list_tags(case.repository)) == tags
