"""Clients of others launch on the one host: those of the npm registry unchanged, the others played.

Those for pages run in a page of another origin. Also what BinderHub's own remote tests ask of a Binder.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import aiohttp
import pytest
from realparts import clients
from realparts.browser import chromium
from realparts.forge import Forge
from realparts.npm import Packages, Pages
from realparts.thebe import run_with_thebe, run_with_thebe_core
from ringbinder.testing.gitserver import GitServer

from .stack import OneHost, answers, dockerfile, link

pytestmark = [
    pytest.mark.real("dockerd", "docker-registry", "debootstrap", "npm", "git", "jupyterlab", "chromium"),
    pytest.mark.timeout(900),
]
CODE = "from answer import ANSWER; print('the answer is', ANSWER)"


async def test_binderhub_client_thebe_core_and_thebe(
    binder: OneHost, git_server: GitServer, packages: Packages, pages: Pages
) -> None:
    """One after the other, since the first builds the image for all."""
    git_server.repository("clients").commit({"Dockerfile": dockerfile(), "answer.py": "ANSWER = 6 * 7\n"})
    reported = await packages.binderhub_client(binder.address, link(git_server, "clients"))
    assert reported[-1]["phase"] == "ready", reported[-1]
    assert {"building", "pushing", "built", "launching"} <= {event["phase"] for event in reported}
    assert await answers(reported[-1])

    before = await binder.users()
    where = binder.address, git_server.url("clients.git")
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(120_000)
        assert "the answer is 42" in await run_with_thebe_core(page, pages, *where, CODE)
        assert set(await binder.users()) - set(before), "it has launched a server of its own"
        page = await (await browser.new_context()).new_page()  # in this, thebe knows no server of before
        page.set_default_timeout(120_000)
        await run_with_thebe(page, pages, *where, CODE)
        await page.wait_for_function("document.body.innerText.includes('the answer is 42')")


async def test_eventsource_and_played_clients_launch(
    binder: OneHost, forge: Forge, packages: Packages, pages: Pages
) -> None:
    forge.repository("owner/one-host").commit({"Dockerfile": dockerfile(), "answer.py": "ANSWER = 6 * 7\n"})
    at = binder.address, "owner/one-host"
    *_, ready = await packages.eventsource(f"{binder.address}build/gh/owner/one-host/HEAD", closes=True)
    assert ready["phase"] == "ready", ready
    assert '"phase": "ready"' in await clients.repo2docker_action(*at, "main")
    await clients.clinder(packages, *at, "main")
    await clients.binder_api(*at, "main")
    assert await clients.binderbot(*at, "main", CODE) == "the answer is 42\n"
    async with chromium() as browser:
        assert await clients.juniper(await browser.new_page(), pages, *at, CODE) == "the answer is 42\n"


async def test_what_binderhubs_remote_tests_check(binder: OneHost, forge: Forge) -> None:
    """Its `pytest -m remote` builds one repository by seven names, sees a build fail, and looks at the pages."""
    repository = forge.repository("ci/minimal")
    sha = repository.commit({"Dockerfile": dockerfile("RUN echo minimal")})
    repository.branch("failed")
    repository.commit({"Dockerfile": dockerfile("RUN false")})
    repository.switch("main")
    at_git = f"git/{quote(f'{forge.git_url}/ci/minimal', safe='')}"
    for spec in (
        f"{at_git}/HEAD", f"{at_git}/{sha}", "gh/ci/minimal/HEAD", f"gh/ci/minimal/{sha}", "gh/ci/minimal/master",
        "gl/ci%2Fminimal/HEAD", f"gl/ci%2Fminimal/{sha}",
    ):  # fmt: skip
        reported = await binder.launch(spec)
        assert reported[-1]["phase"] == "ready", (spec, reported[-1])
        assert all("message" in event for event in reported)
        usual = ("Launching server...", "Launch attempt ")
        assert any(event["phase"] == "launching" and not event["message"].startswith(usual) for event in reported), (
            "what the hub tells of its server"
        )
        url, token = reported[-1]["url"], {"token": reported[-1]["token"]}
        async with aiohttp.ClientSession() as client:
            async with client.get(url, params=token) as page:
                assert (page.status, str(page.url).startswith(url)) == (200, True)
            async with client.post(f"{url}api/shutdown", params=token) as ended:
                assert ended.status == 200
    reported = await binder.launch("gh/ci/minimal/failed")
    assert reported[-1]["phase"] == "failed"
    assert not {"launching", "ready"} & {event["phase"] for event in reported}
    async with aiohttp.ClientSession(binder.address) as client:
        async with client.get("versions") as answer:
            versions = await answer.json()
            assert versions["binderhub"].partition("+")[0] == "0.2.0"
            assert set(versions["builder_info"]) == {"repo2docker-version"}
        async with client.get("about") as answer:
            about = await answer.text()
        assert "This website is powered by" in about
        assert "0.2.0" in about
        async with client.get("") as answer:
            home = await answer.text()
        for link in set(re.findall(r'(?:src|href)="([^"#][^"]*)"', home)):
            async with client.get(link) as answer:
                assert answer.status == 200, link
