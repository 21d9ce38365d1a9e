"""From a click to an executed cell on one host: repo2docker, a registry, a hub and containers, all real."""

from __future__ import annotations

import re
import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from playwright.async_api import Browser, expect
from realparts.browser import chromium
from realparts.notebooks import notebook, run_first_cell
from ringbinder.testing.gitserver import GitServer

from .stack import BUILT, OneHost, answers, dockerfile, link, until

pytestmark = [
    pytest.mark.real("dockerd", "docker-registry", "debootstrap", "npm", "git", "jupyterlab"),
    pytest.mark.timeout(900),
]


async def click(browser: Browser, binder: OneHost, link: str, answer: str) -> None:
    """Pastes the link, starts it, and runs the first cell of `first.ipynb`."""
    page = await browser.new_page()
    page.set_default_timeout(600_000)
    await page.goto(binder.address)
    await page.fill("#link", f"{binder.address}v2/{link}?labpath=first.ipynb")
    await expect(page.locator("#understood")).to_be_visible(timeout=60_000)
    await page.press("#link", "Enter")
    failed = page.locator("#failed")

    async def ended() -> bool:
        return _arrived(page.url) or await failed.is_visible()

    await until(ended, seconds=800)
    assert _arrived(page.url), await failed.inner_text()
    await run_first_cell(page, answer)
    await page.close()


_SIX = {"requirements.txt": "six==1.17.0\n", "first.ipynb": notebook("import six\nprint(six.__version__)")}
_DOCKERFILE = {"Dockerfile": dockerfile(), "first.ipynb": notebook("print(6*7)")}


@pytest.mark.real("chromium")
@pytest.mark.parametrize(
    ("name", "files", "answer"),
    [("dockerfile", _DOCKERFILE, "42"), (f"{BUILT}requirements", _SIX, "1.17.0"), ("assembled", _SIX, "1.17.0")],
)
async def test_click_runs_a_cell_and_second_launch_builds_nothing(
    binder: OneHost, git_server: GitServer, name: str, files: dict[str, str], answer: str
) -> None:
    git_server.repository(name).commit(files)
    async with chromium() as browser:
        await click(browser, binder, link(git_server, name), answer)
    reported = await binder.launch(link(git_server, name))
    assert reported[-1]["phase"] == "ready", reported[-1]
    assert not {"building", "pushing", "fetching"} & {event["phase"] for event in reported}
    assert await answers(reported[-1])


async def test_changed_text_makes_no_layer_of_packages(binder: OneHost, git_server: GitServer) -> None:
    repository = git_server.repository("text")
    repository.commit(_SIX)
    first = await binder.launch(link(git_server, "text"))
    assert first[-1]["phase"] == "ready", first[-1]
    repository.commit({"README.md": "changed\n"})
    again = await binder.launch(link(git_server, "text"))
    assert again[-1]["phase"] == "ready", again[-1]
    assert again[-1]["image"] != first[-1]["image"]
    log = "".join(event["message"] for event in again if event["phase"] == "building")
    (known, groups) = re.findall(r"(\d+) of (\d+) layers are known", log)[0]
    assert known == groups
    assert "Making a layer" not in log


async def test_declined_repository_is_built_with_repo2docker(binder: OneHost, git_server: GitServer) -> None:
    made = "#!/bin/bash\nset -e\necho of-postBuild >made.txt\n"
    git_server.repository("post-build").commit({**_SIX, "postBuild": made, "made.txt": ""})
    reported = await binder.launch(link(git_server, "post-build"))
    assert reported[-1]["phase"] == "ready", reported[-1]
    log = "".join(event["message"] for event in reported if event["phase"] == "building")
    assert "postBuild: built with " in log, log
    assert "layers are known" not in log
    headers = {"Authorization": f"token {reported[-1]['token']}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(f"{reported[-1]['url']}files/made.txt") as page:
        assert await page.text() == "of-postBuild\n"


def test_install_shows_its_commands_and_how_to_undo_them(binder: OneHost) -> None:
    commands = [line for line in binder.installed.splitlines() if line.startswith("+ ")]
    assert commands[0] == f"+ mkdir -p {binder.folder}"
    for each in ("python3 -m venv", "pip install", "npm install", "ringbinder init one-host"):
        assert any(each in command for command in commands), each
    assert f"    rm -r {binder.folder}" in binder.installed.splitlines()
    assert not any(
        binder.secret(name) in binder.installed for name in ("JUPYTERHUB_API_TOKEN", "CONFIGPROXY_AUTH_TOKEN")
    )


async def test_notebooks_are_at_localhost_and_pages_are_not(binder: OneHost, git_server: GitServer) -> None:
    git_server.repository("localhost").commit({"Dockerfile": dockerfile()})
    assert f"Ringbinder is at {binder.address} and the notebooks at {binder.hub};" in binder.printed
    assert urlsplit(binder.address).hostname == "127.0.0.1"
    *_, ready = await binder.launch(link(git_server, "localhost"))
    assert ready["url"].startswith(binder.hub), ready
    assert urlsplit(ready["url"]).hostname == "localhost"
    with socket.socket(socket.AF_INET6) as stranger, pytest.raises(OSError, match=r"in use|Cannot assign"):
        stranger.bind(("::1", urlsplit(binder.hub).port))
    # A jar keeps cookies for a name, and none for an address.
    async with aiohttp.ClientSession() as client:
        for query in (f"?token={ready['token']}", ""):
            async with client.get(f"{ready['url']}api/kernels{query}") as answer:
                assert answer.status == 200, query


async def test_a_build_that_fails_shows_why(binder: OneHost, git_server: GitServer) -> None:
    missing = "ringbinder-no-such-package-8171"
    git_server.repository("failing").commit({"Dockerfile": dockerfile(f"RUN python3 -m pip install {missing}")})
    reported = await binder.launch(link(git_server, "failing"))
    assert reported[-1]["phase"] == "failed"
    assert missing in reported[-1]["message"]
    assert reported[-1]["code"] == "package-not-found"
    assert any(event["phase"] != "pushing" for event in reported)


async def test_a_client_that_leaves_before_ready_leaves_nothing(binder: OneHost, git_server: GitServer) -> None:
    git_server.repository("left").commit({"Dockerfile": dockerfile()})
    before = await binder.left()
    async for event in binder.events(link(git_server, "left")):
        if event["phase"] == "launching" and "Launching" not in event["message"]:
            break
    await binder.nothing_but(before)


async def test_code_is_in_containers_without_the_engine(binder: OneHost, git_server: GitServer) -> None:
    look = "RUN id -u && env && if ls /var/run/docker.sock /run/docker.sock; then false; else echo no socket; fi"
    git_server.repository("contained").commit({"Dockerfile": dockerfile(look)})
    before = set(binder.engine.containers())
    reported = await binder.launch(link(git_server, "contained"))
    assert reported[-1]["phase"] == "ready", reported[-1]
    log = "\n".join(event["message"] for event in reported)
    assert re.search(r"^0$", log, re.MULTILINE), "the code of a build is root in its container"
    assert "no socket" in log
    assert not any(binder.secret(name) in log for name in ("JUPYTERHUB_API_TOKEN", "CONFIGPROXY_AUTH_TOKEN"))
    (notebook,) = set(binder.engine.containers()) - before
    inspected = binder.engine.ask(f"/containers/{notebook}/json")
    assert inspected["Config"]["User"] == "1000"
    host = inspected["HostConfig"]
    assert (host["Privileged"], host["CapAdd"] or [], host["Memory"]) == (False, [], 2 * 1024**3)
    assert not any("docker.sock" in bind for bind in host["Binds"] or ())
    assert not any(binder.secret("JUPYTERHUB_API_TOKEN") in text for text in inspected["Config"]["Env"])


async def test_who_is_idle_loses_server_and_user(binder: OneHost, git_server: GitServer) -> None:
    git_server.repository("idle").commit({"Dockerfile": dockerfile()})
    before = await binder.users()
    reported = await binder.launch(link(git_server, "idle"))
    assert reported[-1]["phase"] == "ready", reported[-1]
    mine = set(await binder.users()) - set(before)
    assert mine

    async def culled() -> bool:
        return not mine & set(await binder.users())

    await until(culled, seconds=180)
    assert not await answers(reported[-1])
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{reported[-1]['url']}lab/tree/a.ipynb") as answer,
    ):
        page = await answer.text()
    assert answer.status == 424
    assert "This notebook has ended" in page
    async with aiohttp.ClientSession() as client, client.get(f"{binder.hub}other/doesntexist") as answer:
        assert (answer.status, "Binder not found" in await answer.text()) == (404, True)
    launched = f"{reported[-1]['binder_launch_host']}{reported[-1]['binder_request']}"
    assert f'href="{launched}?urlpath=lab%2Ftree%2Fa.ipynb"' in page

    async def heard() -> bool:
        return bool(ends())

    def ends() -> list[dict[str, Any]]:
        return [each for each in binder.told("ringbinder/server-stopped") if each.get("repo") == url]

    url = git_server.url("idle.git")
    await until(heard)
    (end,) = ends()
    assert end["reason"] == "gone"
    assert end["seconds"] > 10


def _arrived(url: str) -> bool:
    return "first.ipynb" in url and "/v2/" not in url
