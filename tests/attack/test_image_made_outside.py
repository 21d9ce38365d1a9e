"""What code could change outside of a sandbox is not trusted where a sandbox is required."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

import pytest
from realparts.embedded import Embedded, entry_of, place_of
from ringbinder.config.loading import load
from ringbinder.errors import PluginError, UserError
from ringbinder.folder_image import FolderImage, make_folder_image
from ringbinder.model import Image, Plan
from ringbinder_embedded.jupyter import SharedServer
from ringbinder_embedded.registry import LocalRegistry, LocalRegistryOptions
from ringbinder_recipe.uv import Uv

pytestmark = [pytest.mark.real("uv", "bwrap"), pytest.mark.slow]

AGAIN: Final = "This image was built without the sandbox that LocalBuilder.sandbox asks for: it is built again.\n"
FILES: Final[dict[str, str | bytes]] = {"data.txt": "data\n"}


@pytest.fixture
async def plan(apart: Embedded) -> Plan:
    return apart.plan(FILES)


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_image_made_outside_is_built_again(apart: Embedded, plan: Plan, mode: str) -> None:
    image = await apart.build(plan)
    left = place_of(image, "home") / "left-outside"
    left.touch()
    assert (await apart.build(plan), left.exists(), AGAIN in apart.log.text) == (image, True, False)
    again = await apart.build(plan, sandbox=mode)
    assert (again.path, left.exists()) == (image.path, False)
    assert apart.log.text.count(AGAIN) == 1
    # From then on it is good for both.
    place_of(again, "home").joinpath("left-inside").touch()
    for sandbox in (mode, "off"):
        assert await apart.build(plan, sandbox=sandbox) == again
    assert place_of(again, "home").joinpath("left-inside").exists()
    assert apart.log.text.count(AGAIN) == 1


async def test_image_with_an_older_marker_is_built_again(apart: Embedded, plan: Plan) -> None:
    image = await apart.build(plan, sandbox="required")
    marker = entry_of(image).folder / "image.json"
    facts = json.loads(marker.read_text())
    assert facts.pop("sandboxed") is True
    marker.write_text(json.dumps(facts))
    await apart.build(plan, sandbox="required")
    assert apart.log.text.count(AGAIN) == 1


async def test_unpublished_image_made_outside_is_built_again(apart: Embedded, plan: Plan) -> None:
    target = await apart.registry.target(plan)
    await apart.builder().build(plan, target, apart.log)
    assert await apart.registry.check(plan, fresh=True) is None
    await apart.build(plan, sandbox="required")
    assert apart.log.text.count(AGAIN) == 1


async def test_image_made_outside_and_in_use_is_refused(apart: Embedded, plan: Plan) -> None:
    image = await apart.build(plan)
    async with entry_of(image).locked(shared=True):
        with pytest.raises(UserError, match="Stop that notebook") as refusal:
            await apart.build(plan, sandbox="required")
    assert refusal.value.code == "image-in-use"
    await apart.build(plan, sandbox="required")


async def test_image_that_another_process_built_is_used(apart: Embedded, plan: Plan) -> None:
    """Also when a notebook of that process already runs on it, whose lock lasts for hours."""
    target = await apart.registry.target(plan)
    assert target.folder is not None
    entry = FolderImage(target.folder)
    async with entry.locked():
        waiting = asyncio.create_task(apart.builder(sandbox="required").build(plan, target, apart.log))
        while "Another process is building this image" not in apart.log.text:
            await asyncio.sleep(0)
        entry.python.parent.mkdir(parents=True)
        entry.python.symlink_to(sys.executable)
        entry.finish({"name": plan.image, "sandboxed": True})
        entry.publish()
    async with entry.locked(shared=True):
        built = await asyncio.wait_for(waiting, 30)
    assert isinstance(built, Image)
    assert (built.path, built.pushed) == (entry.folder, True)
    assert apart.log.text.count("Another process is building this image") == 1


async def test_image_of_a_builder_without_sandbox_is_refused(apart: Embedded, plan: Plan) -> None:
    """Of a stranger's builder that knows no sandbox: its images are not published."""
    registry = LocalRegistry(LocalRegistryOptions("required"), apart.context)

    async def fill(image: FolderImage) -> dict[str, str]:
        image.python.parent.mkdir(parents=True)
        image.python.symlink_to(sys.executable)
        return {}

    target = await registry.target(plan)
    built = await make_folder_image(plan, target, apart.log, fill)
    assert isinstance(built, Image)
    with pytest.raises(PluginError, match=r"without the sandbox that LocalRegistry\.sandbox asks for"):
        await registry.push(built, target, apart.log)
    assert await registry.images() == []


def test_registry_follows_the_builder() -> None:
    for sets, mode in (
        ([], "off"),
        (["LocalBuilder.sandbox=required"], "required"),
        (["LocalBuilder.sandbox=auto", "LocalRegistry.sandbox=required"], "required"),
    ):
        config = load((), environ={}, sets=sets)
        assert config.sections.fill(LocalRegistryOptions, LocalRegistry.sections).sandbox == mode


async def test_jupyterlab_and_pythons_of_the_sandbox_are_apart(apart: Embedded) -> None:
    paths = apart.context.paths
    plain, own = (Uv.of(paths, apart=is_apart) for is_apart in (False, True))
    assert len({plain.cache, own.cache, plain.pythons, own.pythons}) == 4
    servers = {SharedServer((), uv, apart.context, uv is own).entry.folder for uv in (plain, own)}
    assert len(servers) == 2
