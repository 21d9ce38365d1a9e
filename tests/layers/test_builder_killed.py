"""The builder's process is killed at any step: the next one goes on, and nothing is left over."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from realparts.package_index import PackageIndex
from ringbinder.testing.ociregistry import OciServer

from .building import Site
from .conftest import registry_context
from .killed_build import FILES
from .smallbase import publish

pytestmark = pytest.mark.slow
_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("line", ["Building from", "Resolved:", "layers are known", "Making a layer of", "Pushing "])
async def test_build_that_was_killed_is_done_by_the_next(
    server: OciServer, index: PackageIndex, tmp_path: Path, line: str
) -> None:
    state, repository = tmp_path / "state", tmp_path / "r"
    async with registry_context(state, server) as context:
        await publish(context.registry, f"{server.host}/base", "1")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.layers.killed_build", state, server.url, repository, line,
            cwd=_ROOT, stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert child.stdout is not None
        async for printed in child.stdout:
            if line in printed.decode():
                break
        child.kill()
        await child.wait()
        assert not server.tags("binder-r")
        assert Site.left_in(context)
        async with Site.open(context, f"{server.host}/binder-", base_image=f"{server.host}/base:1") as site:
            assert not site.left
            image = await site.build(site.plan(repository, FILES))
            assert not site.left
    assert image.files["/home/jovyan/a.txt"] == b"text"
    # Nothing of the killed one is in it: it is the image that another registry gets.
    async with OciServer.running() as other, registry_context(tmp_path / "other", other) as context:
        await publish(context.registry, f"{other.host}/base", "1")
        async with Site.open(context, f"{other.host}/binder-", base_image=f"{other.host}/base:1") as site:
            assert (await site.build(site.plan(repository, FILES))).digests == image.digests
