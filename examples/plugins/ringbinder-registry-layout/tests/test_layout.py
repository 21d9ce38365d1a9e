"""The registry as installed: its contract, beside a stand-in for a container engine, and archives that are damaged.

That a real engine's images come and go is tested in `tests/image`.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ringbinder_registry_layout", reason="pip install ./examples/plugins/ringbinder-registry-layout")

from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from ringbinder import Context, Image, LaunchRequest, Plan, PluginError, Target, TransientError
from ringbinder.testing import RecordingLog, RecordingTicket, RegistryCase, RegistryContract, folder_plan
from ringbinder_registry_layout import LayoutOptions, LayoutRegistry
from ringbinder_registry_layout.layout import Broken, Layout

pytest_plugins = "ringbinder.testing.pytest"


def saved(layers: list[bytes], **changed: Any) -> io.BytesIO:
    """What `docker save` writes for an image of these layers."""
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": digests}, **changed.pop("config", {})}).encode()
    files = {"config.json": config, **{f"{number}/layer.tar": layer for number, layer in enumerate(layers)}}
    listed = {"Config": "config.json", "RepoTags": ["x:1"], "Layers": [*files][1:]}
    files = {**files, "manifest.json": json.dumps([listed]).encode(), **changed}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return archive


class Engine:
    """A stand-in: `images` by name are archives, as `docker save` writes and `docker load` reads them."""

    def __init__(self, socket: Path) -> None:
        self.address = f"unix://{socket}"
        self.images: dict[str, bytes] = {}

    async def _export(self, request: web.Request) -> web.Response:
        return self._answer(self.images.get(request.match_info["name"]))

    async def _inspect(self, request: web.Request) -> web.Response:
        return self._answer(b"{}" if request.match_info["name"] in self.images else None)

    async def _load(self, request: web.Request) -> web.Response:
        content = await request.read()
        with tarfile.open(fileobj=io.BytesIO(content)) as members:
            [listed] = json.load(members.extractfile("manifest.json"))  # type: ignore[arg-type]
            assert {listed["Config"], *listed["Layers"]} <= set(members.getnames())
        self.images.update(dict.fromkeys(listed["RepoTags"], content))
        return web.json_response({"stream": "Loaded image"})

    def _answer(self, content: bytes | None) -> web.Response:
        if content is None:
            return web.json_response({"message": "No such image"}, status=404)
        return web.Response(body=content, content_type="application/json" if content == b"{}" else "application/x-tar")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/version", self._version)
        app.router.add_get("/{api}/images/{name:.+}/get", self._export)
        app.router.add_get("/{api}/images/{name:.+}/json", self._inspect)
        app.router.add_post("/{api}/images/load", self._load)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, self.address.removeprefix("unix://")).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.41", "Version": "20.10"})


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    made = Engine(tmp_path / "engine.sock")
    async with made.running():
        yield made


@pytest.fixture
def options(engine: Engine, tmp_path: Path) -> LayoutOptions:
    return LayoutOptions(folder=tmp_path / "images", docker_host=engine.address)


@pytest.fixture
async def registry(options: LayoutOptions, plugin_context: Callable[..., Context]) -> LayoutRegistry:
    return LayoutRegistry(options, plugin_context("layout"))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return folder_plan(tmp_path / "source", {"a.txt": "a"})


def built(plan: Plan) -> Image:
    return Image(plan.image, "oci")


class TestLayout(RegistryContract):
    @pytest.fixture
    async def case(self, registry: LayoutRegistry, engine: Engine, plan: Plan) -> RegistryCase:
        engine.images[plan.image] = saved([b"one", b"two"]).getvalue()

        async def publish(plan: Plan, target: Target) -> None:
            assert await registry.push(built(plan), target, RecordingLog())

        async def remove(plan: Plan) -> None:
            assert await registry.delete(built(plan))

        return RegistryCase(registry=registry, plan=plan, publish=publish, remove=remove)


async def test_it_is_found_by_being_installed() -> None:
    [found] = entry_points(group="ringbinder.registries", name="layout")
    assert found.load() is LayoutRegistry


async def test_what_is_in_the_folder_is_a_layout(
    registry: LayoutRegistry, options: LayoutOptions, engine: Engine, plan: Plan
) -> None:
    packed = gzip.compress(b"two")
    archive = saved([b"one", b"two"], **{"1/layer.tar": packed})
    engine.images[plan.image] = archive.getvalue()
    image = await registry.push(built(plan), await registry.target(plan), RecordingLog())
    assert image is not None
    assert options.folder
    assert json.loads((options.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    [described] = json.loads((options.folder / "index.json").read_text())["manifests"]
    assert described["annotations"] == {"org.opencontainers.image.ref.name": plan.image}
    assert described["digest"] == image.digest

    def blob(part: Any) -> bytes:
        content = (options.folder / "blobs" / "sha256" / part["digest"].removeprefix("sha256:")).read_bytes()
        assert part["size"] == len(content)
        assert part["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        return content

    manifest = json.loads(blob(described))
    kinds = [part["mediaType"].rpartition(".")[2] for part in manifest["layers"]]
    assert kinds == ["tar", "tar+gzip"]
    assert [blob(part) for part in manifest["layers"]] == [b"one", packed]
    assert len(json.loads(blob(manifest["config"]))["rootfs"]["diff_ids"]) == 2
    assert await registry.images() == [image]


async def test_an_image_that_the_engine_has_lost_comes_back(
    registry: LayoutRegistry, engine: Engine, plan: Plan
) -> None:
    engine.images[plan.image] = saved([b"one", b"one"]).getvalue()
    image = await registry.push(built(plan), await registry.target(plan), RecordingLog())
    for lost in (False, True):
        if lost:
            engine.images.clear()
        ticket = RecordingTicket("launch", LaunchRequest("gh", "a/b/main"), plan.repo, plan)
        async with await registry.admit(ticket):  # type: ignore[union-attr]
            assert plan.image in engine.images
        assert [plan.image in reason for reason, _ in ticket.notices] == [True] * lost
    again = await registry.push(built(plan), await registry.target(plan), RecordingLog())
    assert image is not None
    assert again is not None
    assert again.digest == image.digest, "what came back is the same image"


async def test_parts_of_others_stay(registry: LayoutRegistry, engine: Engine, plan: Plan) -> None:
    other = Image("other:1", "oci")
    engine.images = {plan.image: saved([b"one", b"two"]).getvalue(), "other:1": saved([b"one"]).getvalue()}
    for image in (built(plan), other):
        await registry.push(image, Target("oci", image.name), RecordingLog())
    assert await registry.delete(built(plan))
    assert not await registry.delete(built(plan))
    [left] = await registry.images()
    assert left.name == "other:1"


async def test_an_image_with_a_part_missing_is_not_there(
    registry: LayoutRegistry, options: LayoutOptions, engine: Engine, plan: Plan
) -> None:
    engine.images[plan.image] = saved([b"one"]).getvalue()
    await registry.push(built(plan), await registry.target(plan), RecordingLog())
    assert options.folder
    (options.folder / "blobs" / "sha256" / hashlib.sha256(b"one").hexdigest()).write_bytes(b"o")
    assert await registry.check(plan, fresh=False) is None


async def test_troubles_are_reported(
    registry: LayoutRegistry,
    options: LayoutOptions,
    engine: Engine,
    plan: Plan,
    plugin_context: Callable[..., Context],
) -> None:
    with pytest.raises(PluginError, match="no such image"):
        await registry.push(built(plan), await registry.target(plan), RecordingLog())
    nobody = LayoutRegistry(LayoutOptions(options.folder, f"{engine.address}.not"), plugin_context("layout"))
    with pytest.raises(TransientError, match="engine"):
        await nobody.push(built(plan), await registry.target(plan), RecordingLog())
    assert await registry.check(plan, fresh=True) is None
    assert options.folder
    (options.folder / "index.json").write_text("[")
    with pytest.raises(PluginError, match=r"index\.json"):
        await registry.check(plan, fresh=True)


@pytest.mark.parametrize(
    "archive",
    [
        io.BytesIO(b"no archive"),
        saved([b"one"], **{"0/layer.tar": b"another"}),
        saved([b"one"], config={"rootfs": {"diff_ids": []}}),
        saved([b"one"], **{"manifest.json": b"[]"}),
        saved([b"one"], **{"manifest.json": b'[{"Config": "../../x", "Layers": []}]'}),
        saved([b"one"], **{"manifest.json": b"7"}),
    ],
    ids=["rubbish", "another layer", "no layer said", "no image", "path out of it", "no list"],
)
def test_a_damaged_archive_is_refused_and_what_was_there_stays(archive: io.BytesIO, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.add("good:1", saved([b"good"]))
    with pytest.raises(Broken):
        layout.add("good:1", archive)
    assert layout.find("good:1") is not None
    assert layout.names() == ["good:1"]
    assert not list(tmp_path.rglob(".new-*"))


@given(st.binary(max_size=2000), st.integers(0, 6000))
def test_no_rubbish_crashes_it(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    content = bytearray(saved([b"one"]).getvalue())
    content[at : at + len(noise)] = noise
    layout = Layout(tmp_path_factory.mktemp("layout"))
    try:
        layout.add("x:1", io.BytesIO(bytes(content)))
    except Broken:
        assert layout.names() == []
    else:
        assert layout.find("x:1") is not None


async def test_many_at_once_lose_nothing(registry: LayoutRegistry, engine: Engine) -> None:
    names = [f"image-{number}:1" for number in range(10)]
    engine.images = {name: saved([b"shared", os.urandom(100_000)]).getvalue() for name in names}
    await asyncio.gather(*(registry.push(Image(name, "oci"), Target("oci", name), RecordingLog()) for name in names))
    assert sorted(image.name for image in await registry.images()) == sorted(names)
