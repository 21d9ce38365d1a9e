"""Images of the builder `layers` in a real engine, on the real base image: they run, and are pulled layer by layer."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import uv
from realparts.package_index import PackageIndex
from realparts.parts import RealEngine, RealRegistry
from ringbinder.model import Image, Plan

from .building import Site
from .places import process_of
from .smallbase import PREFIX

pytestmark = [
    pytest.mark.real("dockerd", "docker-registry", "debootstrap", "jupyterlab", "git"),
    pytest.mark.timeout(900),
]

Docker = Callable[..., str]
Open = Callable[..., AbstractAsyncContextManager[Site]]
SHOW: Final = "import sys, gamma; print(gamma.__version__, sys.prefix, '%d.%d' % sys.version_info[:2])"
_FIRST_WITH_ZSTD: Final = 23
"""Of Docker's releases."""


@pytest.fixture
async def open_site(
    tmp_path: Path, open_registry: RealRegistry, index: PackageIndex, layers_base: str
) -> AsyncIterator[Open]:
    """Starts the builder on the real base image, which has Python 3.11, with image names of this test's own."""
    process = process_of(tmp_path / "process", f"{open_registry.host}/engine/{uuid4().hex}-")

    def open_site(**options: Any) -> AbstractAsyncContextManager[Site]:
        return Site.open(process.context, process.prefix, base_image=layers_base, **options)

    yield open_site
    await process.close()


def committed(site: Site, folder: Path, files: Mapping[str, str], name: str = "r") -> Plan:
    """A plan for a git repository."""
    plan = site.plan(folder, files, name)
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "the first"], ["tag", "v1"]):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *who, "-C", str(folder), *words], check=True)
    return plan


async def run(docker: Docker, image: str, *command: str) -> str:
    """What the command prints, run as a hub's spawner does: as the command of the image's entrypoint."""
    options = ("--rm", "--network=host", image)
    return await asyncio.to_thread(docker, "run", *options, *command)


async def test_image_runs_with_packages_content_history(open_site: Open, docker: Docker, tmp_path: Path) -> None:
    start = '#!/bin/sh\necho "started by $0"\nexec "$@"\n'
    files = {"requirements.txt": "gamma\n", "a.txt": "text\n", "start": start}
    async with open_site() as site:
        plan = committed(site, tmp_path / "r", files)
        assert isinstance(await site.answer(plan), Image)
        printed = await run(
            docker, plan.image, "sh", "-c", f'python -c "{SHOW}"; cat a.txt; git log --format=%s v1; id -u'
        )
    assert printed.splitlines() == [
        "started by /home/jovyan/start", f"1.0 {PREFIX} 3.11", "text", "the first", "1000",
    ]  # fmt: skip


async def test_user_may_install_more_packages(open_site: Open, docker: Docker, tmp_path: Path) -> None:
    async with open_site() as site:
        plan = site.plan(tmp_path / "r", {"requirements.txt": "gamma\n"})
        await site.answer(plan)
        script = (
            f"touch {PREFIX}/lib/python3.11/site-packages/more.py file && python -c 'import more' && git status || true"
        )
        assert "denied" not in await run(docker, plan.image, "sh", "-c", script)


async def test_project_without_a_lock_runs(open_site: Open, docker: Docker, tmp_path: Path) -> None:
    project = '[project]\nname = "r"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["gamma"]\n'
    async with open_site() as site:
        plan = site.plan(tmp_path / "r", {"pyproject.toml": project})
        await site.answer(plan)
        assert await run(docker, plan.image, "python", "-c", SHOW) == f"1.0 {PREFIX} 3.11\n"


async def test_project_with_a_uv_lock_runs(open_site: Open, docker: Docker, tmp_path: Path) -> None:
    project = '[project]\nname = "r"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["gamma"]\n'
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "pyproject.toml").write_text(project)
    command = [uv.find_uv_bin(), "lock", "--quiet", "--python", sys.executable, "--cache-dir", str(tmp_path / "cache")]
    await asyncio.to_thread(subprocess.run, command, cwd=tmp_path / "locked", check=True)
    lock = (tmp_path / "locked" / "uv.lock").read_text()
    async with open_site() as site:
        plan = site.plan(tmp_path / "r", {"pyproject.toml": project, "uv.lock": lock})
        await site.answer(plan)
        assert await run(docker, plan.image, "python", "-c", SHOW) == f"1.0 {PREFIX} 3.11\n"


async def test_engine_reads_zstd_if_it_is_new_enough(
    open_site: Open, docker: Docker, docker_engine: RealEngine, tmp_path: Path
) -> None:
    """Which is why `compression: auto` does not take it by itself."""
    version = json.loads(docker("version", "--format", "{{json .Server.Version}}"))
    async with open_site(compression="zstd") as site:
        plan = site.plan(tmp_path / "r", {"requirements.txt": "gamma\n", "only": "here"})
        await site.answer(plan)
    if int(version.partition(".")[0]) >= _FIRST_WITH_ZSTD:
        assert await run(docker, plan.image, "python", "-c", SHOW) == f"1.0 {PREFIX} 3.11\n"
    else:
        with pytest.raises(AssertionError, match="failed to register layer"):
            await run(docker, plan.image, "true")


async def test_next_image_is_pulled_by_its_new_layers(
    open_site: Open, docker: Docker, index: PackageIndex, tmp_path: Path
) -> None:
    index.add("zeta", "1.0")
    async with open_site() as site:
        first = site.plan(tmp_path / "a", {"requirements.txt": "gamma\n", "a.txt": "one"}, "a")
        second = site.plan(tmp_path / "b", {"requirements.txt": "gamma\nzeta\n", "a.txt": "two"}, "b")
        await site.answer(first)
        await site.answer(second)
    await asyncio.to_thread(docker, "pull", first.image)
    printed = await asyncio.to_thread(docker, "pull", second.image)
    assert printed.count("Pull complete") == 3  # zeta, what makes the environment, and the content
