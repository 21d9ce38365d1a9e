"""Base images: what their labels say; those that are none are refused, with what is wrong."""

from __future__ import annotations

import json

import pytest
from ringbinder.errors import ConfigError, TransientError
from ringbinder.model import Manifest
from ringbinder.plugins.context import Context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_layers.base import BaseImages, read
from ringbinder_layers.image import ImageFacts

from . import smallbase
from .smallbase import DOCKER, OCI, config, publish, publish_index

AMD64, ARM64 = "linux/amd64", "linux/arm64"


async def test_labels_describe_the_base(context: Context, server: OciServer) -> None:
    digest = await publish(context.registry, f"{server.host}/base", "1")
    base = await read(context.registry, f"{server.host}/base:1", AMD64)
    assert (base.repository, base.digest, base.platform) == (f"{server.host}/base", digest, AMD64)
    assert list(base.pythons.items()) == [("3.12", "/opt/python/3.12/bin/python3.12"), ("3.11", "/usr/bin/python3.11")]
    assert base.versions == {"3.12": "3.12.11", "3.11": "3.11.0"}
    assert (base.libc, base.prefix, base.home, base.repo_dir) == (
        (2, 36), smallbase.PREFIX, "/home/jovyan", "/home/jovyan",
    )  # fmt: skip
    assert (base.uid, base.gid) == (1000, 1000)
    assert base.config["config"]["Cmd"][0] == "jupyter"


async def test_base_by_digest_is_that_one(context: Context, server: OciServer) -> None:
    digest = await publish(context.registry, f"{server.host}/base", "1")
    await publish(context.registry, f"{server.host}/base", "1", config({"libc": "glibc 2.41"}))
    assert (await read(context.registry, f"{server.host}/base@{digest}", AMD64)).libc == (2, 36)


async def test_platform_is_chosen_of_an_index(context: Context, server: OciServer) -> None:
    repository = f"{server.host}/base"
    digests = {
        platform: await publish(context.registry, repository, platform.replace("/", "-"), config(platform=platform))
        for platform in (AMD64, ARM64)
    }
    await publish_index(context.registry, repository, "1", digests)
    for platform, digest in digests.items():
        base = await read(context.registry, f"{repository}:1", platform)
        assert (base.digest, base.platform) == (digest, platform)


async def test_missing_platform_names_those_there(context: Context, server: OciServer) -> None:
    repository = f"{server.host}/base"
    digest = await publish(context.registry, repository, "arm", config(platform=ARM64))
    await publish_index(context.registry, repository, "1", {ARM64: digest, "unknown/unknown": digest})
    with pytest.raises(ConfigError, match=r"base_image: .* has no linux/amd64 .* among its platforms: linux/arm64$"):
        await read(context.registry, f"{repository}:1", AMD64)


async def test_index_that_lies_about_platform_is_seen(context: Context, server: OciServer) -> None:
    repository = f"{server.host}/base"
    digest = await publish(context.registry, repository, "arm", config(platform=ARM64))
    await publish_index(context.registry, repository, "1", {AMD64: digest})
    with pytest.raises(ConfigError, match="is for linux/arm64, and images are made for linux/amd64"):
        await read(context.registry, f"{repository}:1", AMD64)


async def test_missing_base_names_the_option(context: Context, server: OciServer) -> None:
    with pytest.raises(ConfigError, match=r"LayersBuilder.base_image: the image .*/none:1 is not in its registry"):
        await read(context.registry, f"{server.host}/none:1", AMD64)


async def test_unreachable_registry_is_transient(context: Context, server: OciServer) -> None:
    async with server.down():
        with pytest.raises(TransientError):
            await read(context.registry, f"{server.host}/base:1", AMD64)


async def test_name_that_is_none_is_refused(context: Context) -> None:
    with pytest.raises(ConfigError, match="base_image: 'UPPER CASE' is no name of an image"):
        await read(context.registry, "UPPER CASE", AMD64)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("format", "2"), ("format", None), ("pythons", ""), ("pythons", "3.12"), ("pythons", "3.12=relative"),
        ("pythons", "2.7=/usr/bin/python2.7"), ("libc", "musl 1.2"), ("libc", None), ("prefix", "srv"),
        ("prefix", "/srv/../etc"), ("prefix", "/"), ("home", "/home/jo vyan"), ("repo-dir", "/a//b"), ("user", "0:0"),
        ("user", "jovyan"), ("user", None),
    ],
)  # fmt: skip
async def test_wrong_label_is_named(context: Context, server: OciServer, label: str, text: str | None) -> None:
    await publish(context.registry, f"{server.host}/base", "1", config({label: text}))
    with pytest.raises(ConfigError) as caught:
        await read(context.registry, f"{server.host}/base:1", AMD64)
    assert f"its label org.ringbinder.base.{label} is {'missing' if text is None else repr(text)}" in str(caught.value)


async def test_image_of_this_builder_is_no_base(context: Context, server: OciServer) -> None:
    labels = {"org.ringbinder.image": ImageFacts("3.12").text()}
    made = config()
    made[0]["config"]["Labels"] |= labels
    await publish(context.registry, f"{server.host}/base", "1", made)
    with pytest.raises(ConfigError, match="was made by this builder and has an environment already"):
        await read(context.registry, f"{server.host}/base:1", AMD64)


async def test_layer_types_of_docker_become_those_of_oci(context: Context, server: OciServer) -> None:
    await publish(
        context.registry, f"{server.host}/base", "1", layer_type=f"{DOCKER}.image.rootfs.diff.tar.gzip"
    )  # fmt: skip
    [layer] = (await read(context.registry, f"{server.host}/base:1", AMD64)).layers
    assert layer.blob.media_type == f"{OCI}.layer.v1.tar+gzip"


async def test_layer_of_another_kind_is_refused(context: Context, server: OciServer) -> None:
    await publish(context.registry, f"{server.host}/base", "1", layer_type=f"{DOCKER}.image.rootfs.foreign.diff.tar")
    with pytest.raises(ConfigError, match="has a layer of another kind"):
        await read(context.registry, f"{server.host}/base:1", AMD64)


@pytest.mark.parametrize(
    "content", [b"no json", b"[]", b"{}", b'{"config": 1, "layers": []}', b'{"layers": [], "config": {"mediaType": 1}}']
)
async def test_malformed_manifest_is_refused(context: Context, server: OciServer, content: bytes) -> None:
    server.put("base", "1", content)
    with pytest.raises(ConfigError, match="has a manifest or configuration that"):
        await read(context.registry, f"{server.host}/base:1", AMD64)


async def test_number_of_diff_ids_must_fit(context: Context, server: OciServer) -> None:
    made = config()
    made[0]["rootfs"]["diff_ids"] *= 2
    await publish(context.registry, f"{server.host}/base", "1", made)
    with pytest.raises(ConfigError, match="has 1 layers and 2 diff ids"):
        await read(context.registry, f"{server.host}/base:1", AMD64)


async def test_other_artifact_is_no_image(context: Context, server: OciServer) -> None:
    await context.registry.put_manifest(
        f"{server.host}/base", "1", Manifest("application/json", json.dumps({}).encode())
    )
    with pytest.raises(ConfigError, match="is no image, but application/json"):
        await read(context.registry, f"{server.host}/base:1", AMD64)


async def test_base_is_read_once_for_many_builds(context: Context, server: OciServer) -> None:
    await publish(context.registry, f"{server.host}/base", "1")
    bases = BaseImages(context, f"{server.host}/base:1", AMD64)
    assert await bases.get() == await bases.get()
    assert len(server.asked("GET", "/manifests/1")) == 1
