"""The builder `layers` at the real registry: what is sent, whether it mounts or not."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from realparts.package_index import PackageIndex

from .building import Site
from .conftest import Start
from .gate import Gate
from .smallbase import publish

pytestmark = pytest.mark.real("docker-registry")

_TEXT_COMMIT_BYTES = 64_000
"""More than its content that the push of another text may take."""


@pytest.mark.parametrize("mounts", [True, False])
async def test_text_commit_sends_its_content_alone(
    start: Start, gate: Gate, index: PackageIndex, tmp_path: Path, mounts: bool
) -> None:
    index.add("alike", "1.0", files={"alike/data.txt": Random(1).randbytes(500_000).hex()})
    gate.mounts = mounts
    process = start()
    await publish(process.registry, f"{process.prefix}base", "1")
    files = {"requirements.txt": "alike\n", "a.txt": "one"}
    async with Site.open(process.context, process.prefix, base_image=f"{process.prefix}base:1") as site:
        first = await site.build(site.plan(tmp_path / "r", files))
        assert gate.sent > 400_000
        gate.passed.clear()
        second = await site.build(site.plan(tmp_path / "r", files | {"a.txt": "another text"}))
    assert gate.sent < _TEXT_COMMIT_BYTES
    assert first.digests[:-1] == second.digests[:-1]
    assert second.files["/home/jovyan/a.txt"] == b"another text"


async def test_other_repository_gets_layers_by_mounting(
    start: Start, gate: Gate, index: PackageIndex, tmp_path: Path
) -> None:
    process = start()
    await publish(process.registry, f"{process.prefix}base", "1")
    async with Site.open(process.context, process.prefix, base_image=f"{process.prefix}base:1") as site:
        await site.build(site.plan(tmp_path / "a", {"requirements.txt": "gamma\n"}, "a"))
        gate.passed.clear()
        image = await site.build(site.plan(tmp_path / "b", {"requirements.txt": "gamma\n", "b.txt": "b"}, "b"))
    assert gate.sent < _TEXT_COMMIT_BYTES
    assert image.files["/home/jovyan/b.txt"] == b"b"
