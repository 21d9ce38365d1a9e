"""Parts of the one host refuse, die and come back under a launch: it ends with a clear word, and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect
from realparts.browser import chromium
from ringbinder.testing.gitserver import GitServer

from .stack import SCRIPT, OneHost, answers, dockerfile, link, until

pytestmark = [
    pytest.mark.real("dockerd", "docker-registry", "debootstrap", "npm", "git", "jupyterlab"),
    pytest.mark.timeout(900),
]


@pytest.mark.real("chromium")
async def test_a_push_that_the_registry_refuses_is_reported(binder: OneHost, git_server: GitServer) -> None:
    git_server.repository("refused").commit({"Dockerfile": "FROM scratch\nCOPY . /\n", "a.txt": "refused"})
    before = await binder.left()
    async with binder.read_only():
        reported = await binder.launch(link(git_server, "refused"))
        assert reported[-1]["phase"] == "failed", reported[-1]
        assert "ushing" in reported[-1]["message"]
        assert binder.registry in reported[-1]["message"]
        async with chromium() as browser:
            page = await browser.new_page()
            await page.goto(f"{binder.address}v2/{link(git_server, 'refused')}")
            await expect(page.locator("#failed")).to_contain_text(binder.registry, timeout=120_000)
    await binder.nothing_but(before)


async def test_container_that_ends_at_once_shows_why(binder: OneHost, git_server: GitServer) -> None:
    ends = 'ENTRYPOINT ["sh", "-c", "echo no notebook for you; exit 3"]'
    git_server.repository("ends").commit({"Dockerfile": dockerfile(ends)})
    git_server.repository("nothing").commit({"Dockerfile": "FROM scratch\nCOPY . /\n", "a.txt": "nothing"})
    before = await binder.left()
    for name, word in (("ends", "ended with exit code 3 before it answered"), ("nothing", "python3")):
        reported = await binder.launch(link(git_server, name))
        assert (reported[-1]["phase"], reported[-1]["code"]) == ("failed", "launch-failed"), reported[-1]
        assert word in reported[-1]["message"]
        assert not any("retrying" in event["message"] for event in reported)
        if name == "ends":
            assert "no notebook for you" in reported[-1]["message"]
    await binder.nothing_but(before)


async def test_the_hub_is_restarted_in_the_middle_of_a_launch(binder: OneHost, git_server: GitServer) -> None:
    git_server.repository("hub").commit({"Dockerfile": dockerfile("RUN echo hub")})
    before = await binder.left()
    launch = asyncio.create_task(binder.launch(link(git_server, "hub")))
    await binder.launching(before)
    await binder.end("hub")
    last = (await launch)[-1]
    if last["phase"] == "ready":
        assert await answers(last)
    else:
        assert "JupyterHub" in last["message"], last
        await binder.nothing_but(before)


async def test_hub_that_cannot_start_leaves_no_proxy(binder: OneHost, tmp_path: Path) -> None:
    with ExitStack() as stack:
        taken, *free = (stack.enter_context(socket.socket()) for _ in range(3))
        for each in (taken, *free):
            each.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [each.getsockname()[1] for each in free]
        for each in free:
            each.close()
        env = binder.script.environ() | {
            "ONE_HOST_HOME": str(tmp_path),
            "ONE_HOST_HUB": f"http://localhost:{ports[0]}",
            "ONE_HOST_PROXY_API": f"http://127.0.0.1:{ports[1]}",
            "ONE_HOST_HUB_API": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "JUPYTERHUB_API_TOKEN": "0" * 64,
            "PATH": f"{binder.folder}/venv/bin:{binder.folder}/proxy/node_modules/.bin:{os.environ['PATH']}",
        }
        config = SCRIPT.with_name("jupyterhub_config.py")
        hub = await asyncio.create_subprocess_exec(
            "jupyterhub", "--config", config, env=env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        log, _ = await hub.communicate()
        assert hub.returncode != 0
        assert b"Starting proxy" in log
        assert b"Failed to bind hub" in log

    async def gone() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", ports[0])) != 0

    await until(gone, seconds=30)


async def test_a_launch_that_ringbinder_was_killed_in_leaves_nothing(binder: OneHost, git_server: GitServer) -> None:
    git_server.repository("killed").commit({"Dockerfile": dockerfile("RUN echo killed")})
    before = await binder.left()
    launch = asyncio.create_task(binder.launch(link(git_server, "killed")))
    await binder.launching(before)
    await binder.end("ringbinder", signal.SIGKILL)
    with suppress(aiohttp.ClientError):
        assert (await launch)[-1]["phase"] != "ready"
    await binder.nothing_but(before)


async def test_the_engine_is_killed_in_the_middle_of_a_build(binder: OneHost, git_server: GitServer) -> None:
    git_server.repository("endless").commit({"Dockerfile": dockerfile("RUN echo beg''un && sleep 600")})
    killed = False
    async for event in binder.events(link(git_server, "endless")):
        if not killed and "begun" in event["message"]:
            await asyncio.to_thread(binder.engine.kill)
            killed = True
        last = event
    assert killed, last
    assert (last["phase"], last["code"]) == ("failed", "try-again"), last
    assert binder.engine.address in last["message"]
    await asyncio.to_thread(binder.engine.start)
    git_server.repository("after").commit({"Dockerfile": dockerfile("RUN echo after")})
    reported = await binder.launch(link(git_server, "after"))
    assert reported[-1]["phase"] == "ready", reported[-1]
    assert await answers(reported[-1])
