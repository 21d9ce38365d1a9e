"""What a notebook can see and take of the machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import aiohttp
import pytest
from ringbinder.errors import UserError
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder.testing.context import descendants
from ringbinder.testing.kernel import api, open_kernel
from ringbinder_embedded import memory
from ringbinder_embedded.relay import Relay

from .conftest import PLAN, Embedded, in_env, place_of, request

pytestmark = pytest.mark.real("uv", "jupyterlab")

FILES = {
    "requirements.txt": "six==1.16.0\n",
    "data.txt": "data\n",
    "start": '#!/bin/sh\nexport FROM_START=yes\nexec "$@"\n',
}
LOOK = """
import os, pathlib
def can(act):
    try: act()
    except OSError: return False
    return True
print(can(lambda: os.stat({secret!r})), can(lambda: pathlib.Path({outside!r}).write_text("x")),
      can(lambda: os.listdir({other!r})), os.environ["FROM_START"])
"""


@pytest.mark.real("bwrap")
async def test_a_notebook_in_bubblewrap(embedded: Embedded, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("planted")
    before = descendants()
    image = await embedded.build(embedded.plan(FILES))
    assert image.path is not None
    for mode, seen in (("required", "False False False yes"), ("off", "True True True yes")):
        launcher = embedded.launcher(sandbox=mode)
        async with launcher.lifespan():
            server = await launcher.launch(image, request(), PLAN, embedded.log)
            work = Path(server.extra["work_folder"])
            kernel = await open_kernel(server)
            code = LOOK.format(secret=str(secret), outside=str(place_of(image, "outside")), other=str(embedded.sources))
            assert await kernel.run(code) == f"{seen}\n"
            assert await kernel.run("import six; print(six.__version__)") == "1.16.0\n"
            assert await kernel.run("!pip install -q iniconfig\nimport iniconfig; print('there')") == "there\n"
            assert await kernel.run("open('data.txt', 'a').write('more')") == ""
            await kernel.close()
            await launcher.stop(server)
        assert (work / "data.txt").read_text() == "data\nmore"
        assert await embedded.left_over(before) == []
    assert "in a sandbox (bubblewrap)" in embedded.log.text
    assert "without a sandbox, with the rights of Ringbinder: it is off" in embedded.log.text
    assert embedded.log.text.count("Its image was built without a sandbox") == 1


@pytest.mark.real("bwrap")
async def test_a_build_in_bubblewrap(apart: Embedded, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("planted")
    cache = apart.context.paths.cache
    cache.mkdir(parents=True, exist_ok=True)
    look = LOOK.format(secret=str(secret), outside=str(cache / "outside"), other=str(apart.state / "images"))
    look = look.replace("print(", "said = (").replace(', os.environ["FROM_START"])', ")")
    files = {
        "setup.py": f"{look}\nopen('by-setup.txt', 'w').write(repr(said))\n"
        "from setuptools import setup\nsetup(name='ours', version='1', install_requires=['six==1.16.0'])\n",
        "postBuild": f"#!/usr/bin/env python\n{look}\nimport six\nopen('by-post.txt', 'w').write(repr(said))\n"
        "open(os.path.expanduser('~/mine.txt'), 'w').write('mine')\n",
    }
    # What is written into a hidden folder goes nowhere: whether it came outside is seen there.
    for mode, seen in (("required", "(False, "), ("off", "(True, ")):
        plan = apart.plan(files, mode)
        image = await apart.build(plan, sandbox=mode)
        assert image.path is not None
        for name in ("by-setup.txt", "by-post.txt"):
            assert (place_of(image, "repo") / name).read_text().startswith(seen), name
        assert (place_of(image, "home") / "mine.txt").read_text() == "mine"
        assert in_env(image, "import ipywidgets, six; print(six.__version__)") == "1.16.0"
        assert not place_of(image, "tmp").exists()
        assert (cache / "outside").exists() == (mode == "off")
    (cache / "outside").unlink()
    assert "runs in a sandbox (bubblewrap)" in apart.log.text
    assert "The build runs without a sandbox, with the rights of Ringbinder: it is off" in apart.log.text


@pytest.mark.real("bwrap")
async def test_a_notebook_without_network_is_reached_by_its_page_alone(embedded: Embedded) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    before = descendants()
    image = await embedded.build(embedded.plan(FILES))
    launcher = embedded.launcher(sandbox="required", sandbox_network=False)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener, launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        kernel = await open_kernel(server)
        port = listener.sockets[0].getsockname()[1]
        reach = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        assert "ConnectionRefusedError" in await kernel.run(reach)
        assert await kernel.run("print(6*7)") == "42\n"
        await kernel.close()
        assert await launcher.stop(server)
        with pytest.raises(aiohttp.ClientConnectorError):
            async with api(server) as client, client.get("api/status"):
                pass
    assert "only its own files to write, no network." in embedded.log.text
    assert await embedded.left_over(before) == []


async def test_a_path_too_long_for_a_socket_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"too long a path.*sandbox_network"):
        await Relay.start("127.0.0.1", 0, UntrustedTree(tmp_path / ("long" * 30)), "s")


async def test_missing_bubblewrap_is_reported_or_refused(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            link = programs / program.name
            if program.name != "bwrap" and not link.is_symlink():
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))
    image = await embedded.build(embedded.plan(FILES))
    launcher = embedded.launcher(sandbox="auto")
    async with launcher.lifespan():
        await launcher.launch(image, request(), PLAN, embedded.log)
    assert "without a sandbox, with the rights of Ringbinder: bubblewrap is not installed" in embedded.log.text
    strict = embedded.launcher(sandbox="required")
    async with strict.lifespan():
        with pytest.raises(UserError, match="bubblewrap is not installed"):
            await strict.launch(image, request(), PLAN, embedded.log)
        assert await strict.servers() == []


@pytest.mark.parametrize("grouped", [True, False])
async def test_a_process_that_takes_too_much_memory_fails_alone(
    embedded: Embedded, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 700 * 1024**2 if grouped else 3 * 1024**3
    if not grouped:
        monkeypatch.setattr(memory, "_GROUPS", Path("/no/such/file"))
    elif (trial := memory.made("trial", limit)) is None:
        pytest.skip("no control group can be made here: Ringbinder limits each process instead")
    else:
        trial.remove()
    image = await embedded.build(embedded.plan(FILES))
    launcher = embedded.launcher(memory_limit=limit)
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        greedy, modest = await open_kernel(server), await open_kernel(server)
        if grouped:
            reason = await greedy.run(
                "import subprocess\nprint(subprocess.run(['python', '-c', 'x = b\"x\" * 10**9']).returncode)"
            )
            assert reason == "-9\n"
        else:
            assert "MemoryError" in await greedy.run("x = bytearray(4 * 1024**3)")
        assert await modest.run("print(len(bytearray(1024**2)))") == "1048576\n"
        await greedy.close()
        await modest.close()
    message = "All processes of the notebook together" if grouped else "Each process of the notebook"
    assert f"{message} may take {limit} bytes" in embedded.log.text
    assert not list(Path("/sys/fs/cgroup").glob(f"**/ringbinder-{server.id}"))


def test_a_group_of_version_2_is_limited_where_memory_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in: ordinary folders, with the files that the system would make in a group.
    groups, mounts, tree = tmp_path / "cgroup", tmp_path / "mountinfo", tmp_path / "tree"
    groups.write_text("0::/user.slice/app.scope\n")
    mounts.write_text(f"30 23 0:26 / {tree} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(memory, "_GROUPS", groups)
    monkeypatch.setattr(memory, "_MOUNTS", mounts)
    group = tree / "user.slice" / "ringbinder-s"
    (tree / "user.slice" / "app.scope").mkdir(parents=True)
    (tree / "user.slice" / "app.scope" / "cgroup.subtree_control").write_text("cpu\n")
    (tree / "user.slice" / "cgroup.subtree_control").write_text("cpu memory\n")
    assert memory.made("none", 4096) is None  # nothing of the kind is made in an ordinary folder
    group.mkdir()
    for name in ("memory.max", "memory.swap.max", "cgroup.procs"):
        (group / name).touch()
    (group / "memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 1\n")
    made = memory.made("s", 4096)
    assert made is not None
    assert made.folder == group
    assert [(group / name).read_text() for name in ("memory.max", "memory.swap.max")] == ["4096", "0"]
    done = subprocess.run([*made.wrapper(), "echo", "it runs"], capture_output=True, text=True, check=True)
    assert done.stdout == "it runs\n"
    assert int((group / "cgroup.procs").read_text()) > 1
    assert made.kills() == 1
