"""From a click to an executed cell on one host: repo2docker, a registry, a hub and containers, all real."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Browser, expect
from realparts.browser import chromium
from realparts.notebooks import notebook, run_first_cell
from ringbinder.testing.gitserver import GitServer

from .stack import OneHost, answers, dockerfile, link, until

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


@pytest.mark.real("chromium")
@pytest.mark.parametrize("kind", ["Dockerfile", "requirements.txt"])
async def test_a_click_runs_a_cell_and_the_second_launch_builds_nothing(
    binder: OneHost, git_server: GitServer, kind: str
) -> None:
    files = {"Dockerfile": dockerfile()} if kind == "Dockerfile" else {"requirements.txt": "six==1.17.0\n"}
    source = "print(6*7)" if kind == "Dockerfile" else "import six\nprint(six.__version__)"
    name = kind.partition(".")[0].lower()
    git_server.repository(name).commit(files | {"first.ipynb": notebook(source)})
    async with chromium() as browser:
        answer = "42" if kind == "Dockerfile" else "1.17.0"
        await click(browser, binder, link(git_server, name), answer)
    told = await binder.launch(link(git_server, name))
    assert told[-1]["phase"] == "ready", told[-1]
    assert not {"building", "pushing", "fetching"} & {event["phase"] for event in told}
    assert await answers(told[-1])


async def test_a_build_that_fails_says_why(binder: OneHost, git_server: GitServer) -> None:
    missing = "ringbinder-no-such-package-8171"
    git_server.repository("failing").commit(
        {"Dockerfile": dockerfile(f"RUN python3 -m pip install {missing}")}
    )
    told = await binder.launch(link(git_server, "failing"))
    assert told[-1]["phase"] == "failed"
    assert missing in told[-1]["message"]
    assert told[-1]["code"] == "package-not-found"
    assert any(event["phase"] != "pushing" for event in told)


async def test_a_client_that_leaves_before_ready_leaves_nothing(
    binder: OneHost, git_server: GitServer
) -> None:
    git_server.repository("left").commit({"Dockerfile": dockerfile()})
    before = await binder.left()
    async for event in binder.events(link(git_server, "left")):
        if event["phase"] == "launching" and "Launching" not in event["message"]:
            break
    await binder.nothing_but(before)


async def test_code_is_in_containers_without_the_engine(binder: OneHost, git_server: GitServer) -> None:
    look = (
        "RUN id -u && env && if ls /var/run/docker.sock /run/docker.sock; then false; else echo no socket; fi"
    )
    git_server.repository("contained").commit({"Dockerfile": dockerfile(look)})
    before = set(binder.engine.containers())
    told = await binder.launch(link(git_server, "contained"))
    assert told[-1]["phase"] == "ready", told[-1]
    log = "\n".join(event["message"] for event in told)
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
    told = await binder.launch(link(git_server, "idle"))
    assert told[-1]["phase"] == "ready", told[-1]
    mine = set(await binder.users()) - set(before)
    assert mine

    async def culled() -> bool:
        return not mine & set(await binder.users())

    await until(culled, seconds=180)
    assert not await answers(told[-1])

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
