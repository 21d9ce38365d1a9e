"""Clients that others wrote, in the embedded mode, with a repository at a stand-in for GitHub over TLS.

Those of the npm registry are unchanged; those that are in git repositories only are played. thebe: `test_thebe`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from realparts import clients
from realparts.browser import chromium
from realparts.npm import Packages, Pages

if TYPE_CHECKING:
    from tests.clients.conftest import Binder

pytestmark = [pytest.mark.real("npm", "git", "uv", "jupyterlab"), pytest.mark.timeout(600)]
CODE = "from answer import ANSWER; print('the answer is', ANSWER)"


async def test_binderhub_client_launches(embedded: Binder, packages: Packages) -> None:
    *_, ready = await packages.binderhub_client(embedded.address, f"gh/{embedded.on_github}/HEAD")
    assert ready["phase"] == "ready", ready


async def test_eventsource_launches(embedded: Binder, packages: Packages) -> None:
    url = f"{embedded.address}build/gh/{embedded.on_github}/HEAD"
    *_, ready = await packages.eventsource(url, closes=True)
    assert ready["phase"] == "ready", ready


async def test_played_binderbot_runs_code(embedded: Binder) -> None:
    printed = await clients.binderbot(embedded.address, embedded.on_github, "main", CODE)
    assert printed == "the answer is 42\n"


@pytest.mark.real("chromium")
async def test_played_juniper_runs_code(embedded: Binder, pages: Pages) -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        printed = await clients.juniper(page, pages, embedded.address, embedded.on_github, CODE)
    assert printed == "the answer is 42\n"


async def test_played_clinder_starts_and_ends_a_server(embedded: Binder, packages: Packages) -> None:
    await clients.clinder(packages, embedded.address, embedded.on_github, "main")


async def test_played_repo2docker_action_builds(embedded: Binder) -> None:
    printed = await clients.repo2docker_action(embedded.address, embedded.on_github, "main")
    assert '"phase": "ready"' in printed, printed


async def test_played_binder_api_opens_its_server(embedded: Binder) -> None:
    await clients.binder_api(embedded.address, embedded.on_github, "main")
