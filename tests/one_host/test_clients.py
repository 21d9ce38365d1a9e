"""Clients from the npm registry launch on the one host; those for pages, from a page of another origin."""

from __future__ import annotations

import pytest
from realparts.browser import chromium
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
    told = await packages.binderhub_client(binder.address, link(git_server, "clients"))
    assert told[-1]["phase"] == "ready", told[-1]
    assert {"building", "pushing", "built", "launching"} <= {event["phase"] for event in told}
    assert await answers(told[-1])

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
