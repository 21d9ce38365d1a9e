"""Images that are put on another base: what stays, what is replaced, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import define, evolve
from ringbinder import ConfigError, Context, Declined, Image, Manifest, TransientError, UserError
from ringbinder.testing.ociregistry import OciServer
from ringbinder_layers import base as bases
from ringbinder_layers.image import BASE_DIGEST, ImageFacts, ImageLayer, config_blob, image_config, image_manifest
from ringbinder_layers.index import LayerIndex
from ringbinder_layers.model import Place
from ringbinder_layers.rebase import rebase
from ringbinder_layers.records import layers_repository
from ringbinder_layers.upload import ImageUpload

from .places import KEEP_SECONDS, layer_of
from .smallbase import LABELS, config, publish

FACTS = ImageFacts("3.12")
LABELS_OF_IMAGE = {"repo2docker.repo": "https://host.example/r", "org.ringbinder.builder": "layers"}


@define
class World:
    """One base and one image on it."""

    context: Context
    host: str
    index: LayerIndex

    @property
    def base(self) -> str:
        return f"{self.host}/base:1"

    @property
    def image(self) -> Image:
        return Image(f"{self.host}/binder-r:main", "oci")

    async def publish_base(self, labels: Mapping[str, str | None] = {}, **more: Any) -> None:
        platform = more.pop("platform", "linux/amd64")
        await publish(self.context.registry, f"{self.host}/base", "1", config(labels, platform, **more))

    async def publish_image(self, facts: ImageFacts = FACTS) -> Manifest:
        """As the builder makes it, with a layer of packages and one of content."""
        base = await bases.read(self.context.registry, self.base, "linux/amd64")
        place = Place(base.prefix, facts.python, "/x", "gzip")
        upload = ImageUpload(self.index, f"{self.host}/binder-r", place, lambda group: pytest.fail("makes a layer"))
        layers = []
        for content in (b"of the packages", b"of the content"):
            layer = layer_of(content)
            await upload.put(layer.blob, content)
            layers.append(ImageLayer(layer, content.decode()))

        async def assemble() -> Manifest:
            await upload.base(base)
            about = image_config(base, facts, layers, LABELS_OF_IMAGE)
            await upload.put(config_blob(about), about)
            return image_manifest(base, self.base, layers, about)

        await upload.publish("main", assemble)
        return await assemble()

    async def rebase(self) -> Image | Declined | None:
        return await rebase(self.index, self.base, self.image)

    async def read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Manifest and configuration of the image."""
        registry, repository = self.context.registry, f"{self.host}/binder-r"
        manifest = await registry.read_manifest(repository, "main")
        assert manifest is not None
        content = json.loads(manifest.content)
        about = content["config"]
        found = await registry.find_blob(repository, about["digest"])
        assert found is not None
        for layer in content["layers"]:
            blob = await registry.find_blob(repository, layer["digest"])
            assert blob is not None, "each layer is in the image's own repository"
        return content, json.loads(await registry.read_small_blob(repository, evolve(found, media_type="x")))


@pytest.fixture
async def world(context: Context, server: OciServer) -> World:
    index = LayerIndex(context, layers_repository(f"{server.host}/binder-"), KEEP_SECONDS)
    made = World(context, server.host, index)
    await made.publish_base()
    return made


async def test_own_layers_stay_on_the_new_base(world: World, server: OciServer) -> None:
    await world.publish_image(ImageFacts("3.12", start="start"))
    before, _ = await world.read()
    await world.publish_base(Env=["PATH=/new/bin", "NEW=1"], Cmd=["new"])
    server.seen.clear()
    rebased = await world.rebase()
    assert isinstance(rebased, Image)
    after, about = await world.read()
    assert after["layers"][1:] == before["layers"][1:]
    assert after["layers"][0]["digest"] == before["layers"][0]["digest"], "the bases differ in their configuration"
    assert after["annotations"][BASE_DIGEST] != before["annotations"][BASE_DIGEST]
    env = dict(entry.split("=", 1) for entry in about["config"]["Env"])
    assert env["NEW"] == "1"
    assert env["PATH"].endswith(":/new/bin")
    assert env["R2D_ENTRYPOINT"] == "/home/jovyan/start"
    assert about["config"]["Cmd"] == ["new"]
    labels = about["config"]["Labels"]
    assert {name: labels[name] for name in LABELS_OF_IMAGE} == LABELS_OF_IMAGE
    steps = [step["created_by"] for step in about["history"][1:]]
    assert steps == ["layers: of the packages", "layers: of the content"]
    sent = [seen for seen in server.seen if seen.method == "PUT" and "binder-r/blobs" in seen.path]
    assert len(sent) == 1, "the configuration alone is sent"


async def test_rebased_image_is_as_if_built_there(world: World) -> None:
    """The manifest of a build on the new base."""
    await world.publish_image()
    await world.publish_base(Env=["NEW=1"])
    rebased = await world.rebase()
    built = await world.publish_image()
    assert isinstance(rebased, Image)
    assert rebased.digest == built.descriptor.digest


async def test_image_on_that_base_stays(world: World, server: OciServer) -> None:
    await world.publish_image()
    server.seen.clear()
    assert await world.rebase() == world.image
    assert not [seen for seen in server.seen if seen.method in ("PUT", "POST", "PATCH")]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"prefix": "/srv/env"}, "environments are made at /srv/env in the new base"),
        ({"home": "/home/other"}, "the home folder is at /home/other"),
        ({"repo-dir": "/srv/repo"}, "the content is at /srv/repo"),
        ({"user": "1001:1001"}, "user of the new base is 1001:1001"),
        ({"libc": "glibc 2.35"}, "glibc 2.35, older than 2.36"),
        ({"libc": "glibc 1.99"}, "glibc 1.99, older than 2.36"),
        ({"pythons": "3.11=/usr/bin/python3.11"}, "no Python 3.12"),
        ({"pythons": "3.12=/usr/bin/python3.12"}, "Python 3.12 is at /usr/bin/python3.12"),
    ],
)
async def test_base_that_does_not_fit_is_declined(
    world: World, server: OciServer, labels: dict[str, str], reason: str
) -> None:
    await world.publish_image()
    before = await world.read()
    await world.publish_base(labels)
    declined = await world.rebase()
    assert isinstance(declined, Declined)
    assert reason in declined.reason
    assert "Build it again" in declined.advice
    assert await world.read() == before


async def test_older_patch_release_is_declined(world: World) -> None:
    path = "/opt/python/3.12/bin/python3.12"
    await world.publish_base({"pythons": f"3.12.11={path}"})
    await world.publish_image()
    await world.publish_base({"pythons": f"3.12.9={path}"})
    declined = await world.rebase()
    assert isinstance(declined, Declined)
    assert "Python 3.12.9, older than 3.12.11" in declined.reason
    await world.publish_base({"pythons": f"3.12.12={path}", "libc": "glibc 2.41"})
    assert isinstance(await world.rebase(), Image)


async def test_conda_brings_its_own_interpreter(world: World) -> None:
    await world.publish_image(ImageFacts("3.10", conda=True))
    await world.publish_base({"pythons": "3.14=/usr/bin/python3.14"})
    assert isinstance(await world.rebase(), Image)
    _, about = await world.read()
    assert f"CONDA_PREFIX={LABELS['prefix']}" in about["config"]["Env"]


async def test_base_of_another_platform_is_an_error(world: World) -> None:
    await world.publish_image()
    await world.publish_base(platform="linux/arm64")
    with pytest.raises(ConfigError, match="linux/arm64"):
        await world.rebase()


async def test_missing_image_is_unknown(world: World) -> None:
    with pytest.raises(UserError) as caught:
        await world.rebase()
    assert caught.value.code == "image-unknown"


async def test_image_of_another_builder_is_none_of_ours(world: World) -> None:
    await publish(world.context.registry, f"{world.host}/binder-r", "main")
    assert await world.rebase() is None


@pytest.mark.parametrize(
    "change",
    [
        {"org.ringbinder.base.layers": "-1"},
        {"org.ringbinder.base.layers": "99"},
        {"org.ringbinder.base.layers": "many"},
    ],
)
async def test_damaged_image_is_declined(world: World, change: dict[str, str]) -> None:
    manifest = await world.publish_image()
    content = json.loads(manifest.content)
    content["annotations"] |= change
    await world.context.registry.put_manifest(
        f"{world.host}/binder-r", "main", Manifest(manifest.media_type, json.dumps(content).encode())
    )
    await world.publish_base(Env=["NEW=1"])
    declined = await world.rebase()
    assert isinstance(declined, Declined)
    assert "cannot be taken apart" in declined.reason


@pytest.mark.parametrize("facts", ["", "[]", "7", '{"python": 3}', '{"python": "3.12", "more": 1}', "[" * 100_000])
async def test_forged_facts_are_declined(world: World, facts: str) -> None:
    manifest = await world.publish_image()
    content, about = await world.read()
    about["config"]["Labels"]["org.ringbinder.image"] = facts
    forged = json.dumps(about).encode()
    blob = config_blob(forged)
    repository = f"{world.host}/binder-r"
    await world.context.registry.put_blob(repository, blob, forged)
    content["config"] |= {"digest": blob.digest, "size": blob.size}
    await world.context.registry.put_manifest(
        repository, "main", Manifest(manifest.media_type, json.dumps(content).encode())
    )
    await world.publish_base(Env=["NEW=1"])
    declined = await world.rebase()
    assert isinstance(declined, Declined)
    assert "cannot be taken apart" in declined.reason


async def test_layer_that_is_gone_leaves_the_image_alone(world: World, server: OciServer) -> None:
    manifest = await world.publish_image()
    content, _ = await world.read()
    await world.context.registry.delete_blob(f"{world.host}/binder-r", content["layers"][-1]["digest"])
    await world.publish_base(Env=["NEW=1"])
    with pytest.raises(TransientError, match="binder-r"):
        await world.rebase()
    assert await world.context.registry.read_manifest(f"{world.host}/binder-r", "main") == manifest
