"""What the security page admits: what a repository's code reaches all the same."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from realparts.embedded import PLAN, Embedded, entry_of, place_of, request
from realparts.helm import Chart
from ringbinder.testing.kernel import open_kernel

READY = "config.BinderHub.hub_url=http://192.0.2.10"


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    """The port of a program on this machine's loopback that says what it is."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"somebody's database")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]


def connect(port: int) -> str:
    return f"__import__('socket').create_connection(('127.0.0.1', {port}), 5).recv(100)"


@pytest.mark.real("uv", "jupyterlab", "bwrap")
async def test_build_in_the_sandbox_reaches_loopback(apart: Embedded) -> None:
    async with listening() as port:
        script = f"#!/usr/bin/env python\nopen('seen', 'wb').write({connect(port)})\n"
        image = await apart.build(apart.plan({"postBuild": script}), sandbox="required")
    assert (place_of(image, "repo") / "seen").read_bytes() == b"somebody's database"


@pytest.mark.real("uv", "jupyterlab", "bwrap")
async def test_build_in_the_sandbox_has_a_cache_of_its_own(apart: Embedded) -> None:
    cache = apart.context.paths.cache
    planted = cache / "uv" / "planted"
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.touch()
    look = f"import os\nseen = [os.environ['UV_CACHE_DIR'], os.path.exists({str(planted)!r})]\n"
    setup = "open('seen', 'w').write(repr(seen))\nfrom setuptools import setup\nsetup(name='ours', version='1')\n"
    image = await apart.build(apart.plan({"setup.py": look + setup}), sandbox="required")
    own, planted_is_there = ast.literal_eval((place_of(image, "repo") / "seen").read_text())
    assert not Path(own).is_relative_to(cache)
    assert not planted_is_there


@pytest.mark.real("uv", "jupyterlab", "bwrap")
async def test_notebook_in_the_sandbox_reaches_loopback(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan({"a": "b"}))
    launcher = embedded.launcher(sandbox="required")
    async with listening() as port, launcher.lifespan():
        kernel = await open_kernel(await launcher.launch(image, request(), PLAN, embedded.log))
        assert await kernel.run(f"print({connect(port)})") == 'b"somebody\'s database"\n'
        await kernel.close()


@pytest.mark.real("uv")
async def test_build_without_a_sandbox_changes_our_folders(apart: Embedded) -> None:
    planted = apart.state / "sessions" / "planted"
    script = f"#!/bin/sh\nls {apart.state}/images >seen\nmkdir -p {planted}\n"
    image = await apart.build(apart.plan({"postBuild": script}))
    assert entry_of(image).folder.name in (place_of(image, "repo") / "seen").read_text().splitlines()
    assert planted.is_dir()


@pytest.mark.real("uv", "jupyterlab")
async def test_notebook_without_a_sandbox_reads_and_writes(embedded: Embedded, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("planted")
    image = await embedded.build(embedded.plan({"a": "b"}))
    launcher = embedded.launcher()
    async with launcher.lifespan():
        kernel = await open_kernel(await launcher.launch(image, request(), PLAN, embedded.log))
        code = f"import pathlib; p = pathlib.Path({str(tmp_path)!r}); print((p / 'secret').read_text())"
        assert await kernel.run(code) == "planted\n"
        assert await kernel.run("_ = (p / 'written').write_text('by the notebook')") == ""
        code = f"(pathlib.Path({str(embedded.state)!r}) / 'sessions' / p.name).mkdir()"
        assert await kernel.run(code) == ""
        await kernel.close()
    assert (tmp_path / "written").exists()
    (embedded.state / "sessions" / tmp_path.name).rmdir()


@pytest.mark.real("uv", "jupyterlab")
async def test_notebook_listens_on_loopback_alone(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan({"a": "b"}))
    launcher = embedded.launcher()
    before = set(psutil.Process().children(recursive=True))
    async with launcher.lifespan():
        kernel = await open_kernel(await launcher.launch(image, request(), PLAN, embedded.log))
        started = set(psutil.Process().children(recursive=True)) - before
        open_at = {one.laddr.ip for process in started for one in process.net_connections() if one.status == "LISTEN"}
        await kernel.close()
    assert open_at == {"127.0.0.1"}


@pytest.mark.parametrize("engine", ["dind", "pink"])
def test_engine_of_a_cluster_is_privileged(chart: Chart, engine: str) -> None:
    made = chart.render(sets=[READY, f"imageBuilderType={engine}"])
    pod = made.get("DaemonSet", f"binder-{engine}")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["securityContext"] == {"privileged": True, "runAsUser": 0}
    assert pod["automountServiceAccountToken"] is False


def test_networks_of_a_cluster_are_open_by_default(chart: Chart) -> None:
    assert not {kind for kind, _ in chart.render(sets=[READY]).names() if kind == "NetworkPolicy"}


def test_image_cleaner_reads_and_cordons_nodes_alone(chart: Chart) -> None:
    role = chart.render(sets=[READY]).get("ClusterRole", "binder-image-cleaner")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}]
