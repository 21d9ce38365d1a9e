"""A process that is killed while it puts an image together, and the next one, at the real registry."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from aiohttp import web

from .conftest import Start
from .gate import Gate
from .killed import GROUPS
from .places import content_of

pytestmark = pytest.mark.real("docker-registry")
_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("method", "of", "part", "nth", "made"),
    [
        ("POST", "layers", "/blobs/uploads/", 3, ["pandas", "six"]),
        ("PUT", "layers", "/blobs/uploads/", 1, ["numpy", "pandas", "six"]),
        ("PUT", "layers", "/manifests/", 2, ["pandas", "six"]),
        ("POST", "image", "/blobs/uploads/", 3, []),
        ("PUT", "image", "/manifests/", 1, []),
    ],
    ids=["before a blob", "within a blob", "between blob and tag", "before the last mount", "between tag and manifest"],
)
async def test_killed_upload_is_resumed(
    start: Start, gate: Gate, tmp_path: Path, method: str, of: str, part: str, nth: int, made: list[str]
) -> None:
    process = start()
    repository = process.path(process.layers if of == "layers" else process.image("image"))
    seen = 0

    def kill(request: web.Request) -> None:
        nonlocal seen
        seen += request.method == method and f"/{repository}{part}" in request.path
        if seen == nth:
            gate.closed = True
            child.kill()

    gate.before = kill
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.layers.killed", str(tmp_path / "killed"), process.prefix, "image", cwd=_ROOT
    )
    assert await child.wait() == -9
    gate.before, gate.closed = (lambda request: None), False
    assert await process.registry.read_manifest(process.image("image"), "main") is None
    await process.build("image", GROUPS)
    assert sorted(process.made) == made
    assert await process.read("image") == [*map(content_of, GROUPS), b"text"]
