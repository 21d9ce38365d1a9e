"""Layers of packages that come from a private index."""

from __future__ import annotations

import pytest
from ringbinder_layers.grouping import group

from .conftest import Start
from .places import PLACE, Process, content_of, layer_of, package

pytestmark = pytest.mark.real("docker-registry")

SIZE = 50_000
GROUPS = group([package("ours", SIZE, shared=False), package("six", SIZE)])
PRIVATE = layer_of(content_of(GROUPS[0])).blob.digest


def layers(text: str = "text") -> list[bytes]:
    return [*map(content_of, GROUPS), text.encode()]


async def test_private_layers_are_in_the_images_repository_alone(start: Start) -> None:
    process = start()
    await process.build("first", GROUPS)
    assert await process.registry.find_blob(process.layers, PRIVATE) is None
    assert await process.registry.list_tags(process.layers) == (PLACE.key(GROUPS[1]),)
    await process.build("second", GROUPS)
    assert process.made.count("ours") == 2
    assert process.made.count("six") == 1
    for name in ("first", "second"):
        assert await process.read(name) == layers()


async def test_private_layers_are_known_to_the_next_build(start: Start) -> None:
    process = start()
    await process.build("image", GROUPS)
    process.made.clear()
    upload = await process.build("image", GROUPS, "another text")
    assert process.made == []
    assert upload.summary.reused == 2 * SIZE


async def test_private_layers_are_known_after_a_restart(start: Start) -> None:
    process = start()
    await process.build("image", GROUPS)
    restarted = Process(process.context, process.prefix)
    await restarted.build("image", GROUPS, "another text")
    assert restarted.made == []
    assert await restarted.read("image") == layers("another text")


async def test_vanished_private_layer_is_made_again(start: Start) -> None:
    process = start()
    await process.build("image", GROUPS)
    process.made.clear()
    assert await process.registry.delete_blob(process.image("image"), PRIVATE)
    await process.build("image", GROUPS, "another text")
    assert process.made == ["ours"]
    assert await process.read("image") == layers("another text")
