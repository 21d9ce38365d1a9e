"""An image that was put on a newer base runs in a real engine."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from realparts.package_index import PackageIndex
from realparts.parts import RealRegistry
from ringbinder import Descriptor, Image, ImageRegistry, Manifest, digest_of

from .building import Site
from .places import process_of
from .smallbase import PREFIX

pytestmark = [
    pytest.mark.real("dockerd", "docker-registry", "debootstrap", "jupyterlab"),
    pytest.mark.timeout(900),
]

LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


async def publish_newer(registry: ImageRegistry, base: str) -> str:
    """`base` with one more layer, under another tag; returns its name."""
    repository, _, tag = base.rpartition(":")
    manifest = await registry.read_manifest(repository, tag)
    assert manifest is not None
    about = json.loads(manifest.content)

    async def put(media_type: str, content: bytes) -> dict[str, object]:
        blob = Descriptor(media_type, digest_of(content), len(content))
        await registry.put_blob(repository, blob, content)
        return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}

    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as content:
        entry = tarfile.TarInfo("repaired")
        entry.size = len(b"yes")
        content.addfile(entry, io.BytesIO(b"yes"))
    about["layers"].append(await put(LAYER, gzip.compress(tar.getvalue())))
    blob = Descriptor(about["config"]["mediaType"], about["config"]["digest"], about["config"]["size"])
    config = json.loads(await registry.read_small_blob(repository, blob))
    config["rootfs"]["diff_ids"].append(digest_of(tar.getvalue()))
    config["history"].append({"created_by": "a repair"})
    about["config"] = await put(blob.media_type, json.dumps(config).encode())
    newer = f"newer-{uuid4().hex}"
    await registry.put_manifest(repository, newer, Manifest(manifest.media_type, json.dumps(about).encode()))
    return f"{repository}:{newer}"


async def test_rebased_image_runs_on_the_new_base(
    docker: Callable[..., str], open_registry: RealRegistry, layers_base: str, index: PackageIndex, tmp_path: Path
) -> None:
    process = process_of(tmp_path / "process", f"{open_registry.host}/rebase/{uuid4().hex}-")
    async with Site.open(process.context, process.prefix, base_image=layers_base) as site:
        plan = site.plan(tmp_path / "r", {"requirements.txt": "gamma\n", "a.txt": "text\n"})
        built = await site.answer(plan)
        assert isinstance(built, Image)
    newer = await publish_newer(process.context.registry, layers_base)
    async with Site.open(process.context, process.prefix, base_image=newer) as site:
        rebased = await site.builder.rebase(built)
    assert isinstance(rebased, Image)
    assert rebased.digest != built.digest
    script = (
        "cat /repaired a.txt; python -c 'import gamma, sys; print(gamma.__version__, sys.prefix)'; jupyter --version"
    )
    printed = await asyncio.to_thread(
        docker, "run", "--rm", "--network=host", f"{plan.image}@{rebased.digest}", "sh", "-c", script
    )
    assert printed.startswith(f"yestext\n1.0 {PREFIX}\n")
    assert "jupyterlab" in printed
    await process.close()
