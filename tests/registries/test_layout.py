"""Repositories that are OCI image layouts in folders: the contract, strangers' folders, two processes, kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ringbinder import ConfigError, Context, Descriptor, DigestMismatch, Image, Manifest, MissingBlob, Plan, Target
from ringbinder.errors import PluginError
from ringbinder.model import digest_of
from ringbinder.testing import RecordingLog, RegistryCase, RegistryContract, folder_plan, image_registry, make_context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries._layout import REF_NAME
from ringbinder_registries._options import DockerRegistryOptions
from ringbinder_registries.layout import OciLayoutOptions, OciLayoutRegistry
from ringbinder_registries.oci import OciRegistry

from .test_real_blobs import OCI, assemble

DAY_AGO = 86_400 + 60


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "oci-layout")
    yield made
    await made.services.close()


@pytest.fixture
def make(context: Context, tmp_path: Path) -> Callable[..., OciLayoutRegistry]:
    def make(**options: Any) -> OciLayoutRegistry:
        given = {"docker_config_path": tmp_path / "no-config.json", "folder": tmp_path / "images", **options}
        return OciLayoutRegistry(OciLayoutOptions(**given), context)

    return make


@pytest.fixture
def registry(make: Callable[..., OciLayoutRegistry]) -> OciLayoutRegistry:
    return make()


def blob_of(content: bytes) -> Descriptor:
    return Descriptor(f"{OCI}.layer.v1.tar", digest_of(content), len(content))


def path_of(folder: Path, digest: str) -> Path:
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def require_valid(folder: Path) -> dict[str, Any]:
    """The index of a layout, all of which is as the specification wants it: no file is there but whole ones."""
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    for blob in (folder / "blobs" / "sha256").iterdir():
        assert digest_of(blob.read_bytes()) == f"sha256:{blob.name}"
    index: dict[str, Any] = json.loads((folder / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    for entry in index["manifests"]:
        manifest = path_of(folder, entry["digest"]).read_bytes()
        assert len(manifest) == entry["size"]
        for part in (json.loads(manifest)["config"], *json.loads(manifest)["layers"]):
            assert path_of(folder, part["digest"]).stat().st_size == part["size"]
    return index


class TestOciLayout(RegistryContract):
    @pytest.fixture
    async def case(self, registry: OciLayoutRegistry, tmp_path: Path) -> RegistryCase:
        async def publish(plan: Plan, target: Target) -> None:
            repository, _, tag = plan.image.rpartition(":")
            await assemble(registry, repository, tag, b"a layer")

        async def remove(plan: Plan) -> None:
            (tmp_path / "images" / plan.image.rpartition(":")[0] / "index.json").unlink()

        plan = evolve(folder_plan(tmp_path / "x", {"a": "b"}), image="of-layouts:first")
        return RegistryCase(registry=registry, plan=plan, publish=publish, remove=remove)


async def test_layout_is_valid_and_named_by_tags(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    manifest = await assemble(registry, "team/tools", "1.0", b"a layer")
    index = require_valid(tmp_path / "images" / "team+tools")
    [entry] = index["manifests"]
    assert entry == {
        "mediaType": manifest.media_type, "digest": manifest.descriptor.digest, "size": len(manifest.content),
        "annotations": {REF_NAME: "1.0"},
    }  # fmt: skip
    [image] = await registry.images()
    assert (image.name, image.digest) == ("team/tools:1.0", manifest.descriptor.digest)
    assert image.size == len(b"{}") + len(b"a layer")
    assert await registry.delete(Image("team/tools:1.0", "oci"))
    assert await registry.images() == []


async def test_images_elsewhere_are_not_pruned(make: Callable[..., OciLayoutRegistry], tmp_path: Path) -> None:
    """Such as the base image, which is the operator's."""
    registry = make(repositories={"base": tmp_path / "base"})
    await assemble(registry, "base", "1", b"a layer")
    assert await registry.images() == []
    assert await registry.delete(Image("base:1", "oci")) is False
    assert await image_registry(registry).list_tags("base") == ["1"]


async def test_strange_folders_are_no_repositories(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    await assemble(registry, "good", "1", b"a layer")
    for name in ("Capital", "host.example+x", "a:b", ".hidden"):
        (tmp_path / "images" / name).mkdir()
    assert [image.name for image in await registry.images()] == ["good:1"]


async def test_record_of_a_layer_is_no_image(registry: OciLayoutRegistry) -> None:
    blobs = image_registry(registry)
    manifest = await assemble(registry, "layers", "0" * 64, b"a layer")
    about = {**json.loads(manifest.content), "annotations": {"org.ringbinder.tag": "0" * 64}}
    await blobs.put_manifest("layers", "0" * 64, Manifest(manifest.media_type, json.dumps(about).encode()))
    assert await registry.images() == []


async def test_shared_layer_is_one_file(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    blob = blob_of(b"shared")
    blobs = image_registry(registry)
    await blobs.put_blob("first", blob, b"shared")
    assert await blobs.copy_blob(blob, "first", "second") == "mounted"
    files = [path_of(tmp_path / "images" / name, blob.digest) for name in ("first", "second")]
    assert files[0].samefile(files[1])


async def test_folder_elsewhere_shares_no_file(make: Callable[..., OciLayoutRegistry], tmp_path: Path) -> None:
    registry = make(repositories={"image": tmp_path / "out"})
    blob = blob_of(b"shared")
    blobs = image_registry(registry)
    await blobs.put_blob("layers", blob, b"shared")
    assert await blobs.copy_blob(blob, "layers", "image") == "uploaded"
    assert not path_of(tmp_path / "out", blob.digest).samefile(path_of(tmp_path / "images" / "layers", blob.digest))
    # What a stranger has made of it does not come back.
    path_of(tmp_path / "out", blob.digest).write_bytes(b"forged")
    await blobs.delete_blob("layers", blob.digest)
    with pytest.raises(DigestMismatch):
        await blobs.copy_blob(blob, "image", "layers")
    assert await blobs.find_blob("layers", blob.digest) is None


async def test_blob_cut_short_is_put_again(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    blob = blob_of(b"a layer")
    blobs = image_registry(registry)
    await assemble(registry, "cut", "tag", b"a layer")
    file = path_of(tmp_path / "images" / "cut", blob.digest)
    file.write_bytes(b"a")
    manifest = await blobs.read_manifest("cut", "tag")
    assert manifest is not None
    with pytest.raises(DigestMismatch):
        await blobs.read_small_blob("cut", blob)
    with pytest.raises(MissingBlob) as caught:
        await blobs.put_manifest("cut", "tag", manifest)
    assert caught.value.digest == blob.digest
    assert await blobs.put_blob("cut", blob, b"a layer") == "uploaded"
    require_valid(tmp_path / "images" / "cut")


async def test_image_with_a_part_missing_is_not_there(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    await assemble(registry, "partial", "tag", b"a layer")
    plan = evolve(folder_plan(tmp_path / "x", {"a": "b"}), image="partial:tag")
    assert await registry.check(plan, fresh=True)
    path_of(tmp_path / "images" / "partial", blob_of(b"a layer").digest).unlink()
    assert await registry.check(plan, fresh=True) is None


async def test_unused_blobs_go_after_a_day(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    first = await assemble(registry, "tidy", "first", b"of the first")
    await assemble(registry, "tidy", "second", b"of the second")
    folder = tmp_path / "images" / "tidy"
    await image_registry(registry).put_blob("tidy", blob_of(b"on its way"), b"on its way")
    for digest in (first.descriptor.digest, blob_of(b"of the first").digest, blob_of(b"of the second").digest):
        path = path_of(folder, digest)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - DAY_AGO))
    await image_registry(registry).delete_manifest("tidy", "first")
    left = {path.name for path in (folder / "blobs" / "sha256").iterdir()}
    gone = {first.descriptor.digest, blob_of(b"of the first").digest}
    assert not left & {digest.removeprefix("sha256:") for digest in gone}
    assert {digest_of(text).removeprefix("sha256:") for text in (b"of the second", b"on its way", b"{}")} <= left
    require_valid(folder)


async def test_repository_without_tags_is_removed(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    await assemble(registry, "short-lived", "tag", b"a layer")
    blobs = image_registry(registry)
    assert await blobs.delete_repository("short-lived") is False
    await blobs.delete_manifest("short-lived", "tag")
    assert await blobs.delete_repository("short-lived") is True
    assert list((tmp_path / "images").iterdir()) == []
    assert await blobs.delete_repository("short-lived") is False


async def test_name_with_a_host_is_read_at_that_registry(registry: OciLayoutRegistry, server: OciServer) -> None:
    base = f"{server.host}/base"
    source = image_registry(registry)
    theirs = OciRegistry(DockerRegistryOptions(docker_config_path=registry.config.docker_config_path), registry.context)
    manifest = await assemble(theirs, base, "tag", b"of a registry")
    assert await source.read_manifest(base, "tag") == manifest
    assert await source.list_tags(base) == ("tag",)
    blob = blob_of(b"of a registry")
    assert await source.copy_blob(blob, base, "mine") == "uploaded"
    assert await source.read_small_blob("mine", blob) == b"of a registry"
    with pytest.raises(ConfigError, match="leave the host out"):
        await source.put_blob(base, blob, b"of a registry")


async def test_engine_image_is_refused(registry: OciLayoutRegistry) -> None:
    with pytest.raises(PluginError, match="builders that assemble"):
        await registry.push(Image("a:1", "oci"), Target("oci", "a:1"), RecordingLog())


async def test_doctor_tells_of_a_folder_it_cannot_use(
    make: Callable[..., OciLayoutRegistry], registry: OciLayoutRegistry, tmp_path: Path
) -> None:
    assert [finding.level for finding in await registry.doctor()] == ["ok"]
    (tmp_path / "file").write_text("")
    broken = make(folder=tmp_path / "file")
    [finding] = await broken.doctor()
    assert finding.level == "error"
    assert str(tmp_path / "file") in finding.message
    assert not (await broken.health()).ok


# -- folders of strangers ---------------------------------------------------------------------------------


async def forged(registry: OciLayoutRegistry, tmp_path: Path) -> Path:
    """A whole layout, for a test to damage."""
    await assemble(registry, "forged", "tag", b"a layer")
    return tmp_path / "images" / "forged"


@pytest.mark.parametrize("what", ["index.json", "blob", "blobs", "oci-layout"])
async def test_link_in_a_layout_is_not_followed(registry: OciLayoutRegistry, tmp_path: Path, what: str) -> None:
    folder = await forged(registry, tmp_path)
    secret = tmp_path / "secret"
    blob = blob_of(b"a layer")
    victim = path_of(folder, blob.digest) if what == "blob" else folder / what
    victim.rename(secret)
    victim.symlink_to(secret)
    blobs = image_registry(registry)
    if what == "blob":
        assert await blobs.find_blob("forged", blob.digest) is None
        with pytest.raises(ConfigError):
            await blobs.read_small_blob("forged", blob)
        assert await blobs.put_blob("forged", blob, b"a layer") == "uploaded"
        assert victim.is_symlink() is False
    else:
        with pytest.raises(ConfigError, match="forged"):
            await assemble(registry, "forged", "other", b"another layer")
        if what != "oci-layout":
            assert victim.is_symlink()
    assert secret.exists()


@pytest.mark.parametrize(
    "index",
    [
        b"", b"[", b"7", b"[]", b'{"manifests": 7}', b'{"manifests": [{"digest": "sha256:x"}]}',
        b'{"manifests": [{"mediaType": "x", "digest": 7, "size": 1}]}', b"[" * 100_000,
        b'{"manifests": [{"mediaType": "x", "digest": "x", "size": 1, "annotations": {"a": 1}}]}',
    ],
)  # fmt: skip
async def test_damaged_index_is_named(registry: OciLayoutRegistry, tmp_path: Path, index: bytes) -> None:
    folder = await forged(registry, tmp_path)
    (folder / "index.json").write_bytes(index)
    with pytest.raises(ConfigError, match=r"forged.*index\.json"):
        await image_registry(registry).read_manifest("forged", "tag")


@pytest.mark.parametrize("digest", ["sha256:../../../index.json", "../index.json", "sha512:" + "0" * 128, ""])
async def test_index_leads_out_of_no_folder(registry: OciLayoutRegistry, tmp_path: Path, digest: str) -> None:
    folder = await forged(registry, tmp_path)
    entry = {"mediaType": f"{OCI}.manifest.v1+json", "digest": digest, "size": 2, "annotations": {REF_NAME: "evil"}}
    index = json.loads((folder / "index.json").read_bytes())
    index["manifests"].append(entry)
    (folder / "index.json").write_text(json.dumps(index))
    assert await image_registry(registry).read_manifest("forged", "evil") is None
    assert [image.name for image in await registry.images()] == ["forged:tag"]
    await image_registry(registry).delete_manifest("forged", "tag")


async def test_forged_manifest_is_refused(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    folder = await forged(registry, tmp_path)
    [entry] = json.loads((folder / "index.json").read_bytes())["manifests"]
    path_of(folder, entry["digest"]).write_bytes(b"{}")
    with pytest.raises(DigestMismatch):
        await image_registry(registry).read_manifest("forged", "tag")
    assert await registry.images() == []


async def test_forged_blob_is_refused_when_read(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    folder = await forged(registry, tmp_path)
    blob = blob_of(b"a layer")
    for content in (b"a forge", b"a layer and more", b"less"):
        path_of(folder, blob.digest).write_bytes(content)
        with pytest.raises(DigestMismatch):
            await image_registry(registry).read_small_blob("forged", blob)


@pytest.mark.timeout(60)
async def test_pipe_in_a_layout_stops_no_one(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    folder = await forged(registry, tmp_path)
    for name in ("index.json", "oci-layout"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    with pytest.raises(ConfigError):
        await image_registry(registry).read_manifest("forged", "tag")
    with pytest.raises(ConfigError):
        await assemble(registry, "forged", "other", b"x")


async def test_folder_with_other_files_is_left_alone(make: Callable[..., OciLayoutRegistry], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    blobs = image_registry(make(repositories={"image": folder}))
    with pytest.raises(ConfigError, match=r"no OCI image layout, and not empty: notes\.txt"):
        await blobs.put_blob("image", blob_of(b"x"), b"x")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


async def test_later_version_of_layouts_is_left_alone(make: Callable[..., OciLayoutRegistry], tmp_path: Path) -> None:
    folder = tmp_path / "later"
    folder.mkdir()
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(ConfigError, match="version"):
        await image_registry(make(repositories={"image": folder})).put_blob("image", blob_of(b"x"), b"x")
    assert [path.name for path in folder.iterdir()] == ["oci-layout"]


async def test_names_of_other_programs_stay(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    """skopeo and buildx name an image as they like, and write what is not ours into the index."""
    folder = await forged(registry, tmp_path)
    index = json.loads((folder / "index.json").read_bytes())
    theirs = {**index["manifests"][0], "annotations": {REF_NAME: "host.example/name:tag", "x.example/note": "kept"}}
    theirs["platform"] = {"architecture": "amd64", "os": "linux"}
    (folder / "index.json").write_text(json.dumps({**index, "manifests": [theirs]}))
    blobs = image_registry(registry)
    assert await blobs.list_tags("forged") == []
    await assemble(registry, "forged", "ours", b"another layer")
    assert json.loads((folder / "index.json").read_bytes())["manifests"][0] == theirs
    assert await blobs.list_tags("forged") == ["ours"]


# -- several processes, and their ends --------------------------------------------------------------------

WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from ringbinder.testing import image_registry, make_context
from ringbinder_registries.layout import OciLayoutOptions, OciLayoutRegistry
sys.path.insert(0, sys.argv[1])
from tests.registries.test_real_blobs import assemble

async def main(folder, name, count):
    registry = OciLayoutRegistry(OciLayoutOptions(folder=folder), make_context(folder.parent / name, "oci-layout"))
    print("started", flush=True)
    for number in itertools.count() if count < 0 else range(count):
        await assemble(registry, "shared", f"{name}-{number}", f"{name} {number} ".encode() * 30_000)

asyncio.run(main(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
"""


def writer(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": f"{root}/tests/real"}
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, root, str(folder), name, str(count)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


async def test_two_processes_lose_no_tag(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    with writer(tmp_path / "images", "one", 20) as one, writer(tmp_path / "images", "two", 20) as two:
        await asyncio.to_thread(one.communicate)
        await asyncio.to_thread(two.communicate)
    assert (one.returncode, two.returncode) == (0, 0)
    expected = {f"{name}-{number}" for name in ("one", "two") for number in range(20)}
    assert set(await image_registry(registry).list_tags("shared")) == expected
    require_valid(tmp_path / "images" / "shared")


@pytest.mark.parametrize("tags", [0, 1, 4])
async def test_killed_writer_leaves_a_valid_layout(registry: OciLayoutRegistry, tmp_path: Path, tags: int) -> None:
    folder = tmp_path / "images" / "shared"
    with writer(tmp_path / "images", "victim", -1) as victim:
        assert victim.stdout is not None
        assert await asyncio.to_thread(victim.stdout.readline) == "started\n"
        while not folder.is_dir() or len(await image_registry(registry).list_tags("shared")) < tags:
            assert victim.poll() is None
            await asyncio.sleep(0.001)
        victim.send_signal(signal.SIGKILL)
    if (folder / "oci-layout").exists():
        require_valid(folder)
    await assemble(registry, "shared", "after", b"after it")
    assert "after" in await image_registry(registry).list_tags("shared")
    require_valid(folder)


async def test_draft_of_a_killed_process_is_removed(make: Callable[..., OciLayoutRegistry], tmp_path: Path) -> None:
    await assemble(make(), "drafts", "tag", b"a layer")
    folder = tmp_path / "images" / "drafts"
    drafts = {name: folder / f".draft-{name}" for name in ("old", "new")}
    for draft in drafts.values():
        draft.write_bytes(b"half")
    os.utime(drafts["old"], (0, drafts["old"].stat().st_mtime - DAY_AGO))
    await assemble(make(), "drafts", "tag", b"a layer")
    assert [name for name, draft in drafts.items() if draft.exists()] == ["new"]
