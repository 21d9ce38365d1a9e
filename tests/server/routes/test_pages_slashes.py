"""The address of a page of a branch whose name has slashes, on its way to the file that it shows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, expect
from realparts.browsing import NOTEBOOK, opened, web
from ringbinder.testing.gitserver import GitServer
from ringbinder.testing.hosts import GitHubApiServer

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

pytestmark = pytest.mark.real("git")

PAGE = "https://github.com/u/r/blob/feature/x/folder/a%20b.ipynb"
LINK = "gh/u/r/feature"
ASKED = "lab/tree/x/folder/a%2520b.ipynb"
OPENED = "lab/tree/folder/a%20b.ipynb"


@asynccontextmanager
async def github(serve: Serve, git: GitServer, **options: str) -> AsyncIterator[tuple[Live, str]]:
    """A server with the provider `gh` at stand-ins, and the commit of the branch ``feature/x``."""
    repository = git.repository("u/r")
    repository.commit({"x": "1"})
    repository.branch("feature/x")
    commit = repository.commit({"folder/a b.ipynb": "{}"})
    repository.switch("main")
    async with GitHubApiServer.running(git=git) as api:
        sets = {
            "GitHubRepoProvider.clone_base_url": git.address,
            "GitHubRepoProvider.api_base_path": api.address,
            "Ringbinder.disabled_plugins": "[gl, gist, zenodo]",
            "FakeRegistry.cached": "true",
            **options,
        }
        async with serve(sets) as live:
            yield live, commit


async def test_a_stream_shows_what_to_open(serve: Serve, git_server: GitServer) -> None:
    async with github(serve, git_server) as (live, commit):
        events = await live.events(f"build/{LINK}?urlpath={ASKED}")
        assert '"feature/x" is meant' in events[0]["message"]
        assert events[-1]["urlpath"] == OPENED
        assert events[-1]["binder_persistent_request"] == f"v2/gh/u/r/{commit}"
        # What is no path in a server changes nothing.
        for query in ("", "?urlpath=https://evil.example/x", "?urlpath=rstudio"):
            end = (await live.events(f"build/{LINK}{query}"))[-1]
            assert end["phase"] == "failed"
            assert 'Did you mean "feature/x"?' in end["message"]
        assert (await live.events("build/gh/u/r/main?labpath=x"))[-1]["urlpath"] == "doc/tree/x"
        assert "urlpath" not in (await live.events("build/gh/u/r/main"))[-1]


async def test_programs_ask_with_the_address(serve: Serve, git_server: GitServer) -> None:
    async with github(serve, git_server) as (live, commit):
        made = await live.client.post(f"{live.address}api/v1/launches", json={"link": PAGE})
        assert made.status_code == 201
        async with live.stream(made.json()["events_url"].removeprefix("/")) as stream:
            assert (await stream.until("ready"))[-1]["urlpath"] == OPENED
        state = await live.client.get(f"{live.address}api/v1/images/{LINK}?urlpath={ASKED}")
        assert state.json()["ref"] == commit
        assert (await live.client.get(f"{live.address}api/v1/images/{LINK}")).status_code == 404


@pytest.mark.real("chromium")
async def test_from_the_address_to_the_file(serve: Serve, git_server: GitServer, browser: Browser) -> None:
    async with (
        web(lambda path: NOTEBOOK) as (notebook, _),
        github(serve, git_server, **{"FakeLauncher.url": f"{notebook}user/x/"}) as (live, _),
        opened(browser) as page,
    ):
        states = []
        page.on("response", lambda got: states.append((got.url, got.status)) if "/images/" in got.url else None)
        await page.goto(live.address)
        await page.locator("#link").fill(PAGE)
        await expect(page.locator("#ref")).to_have_text("feature")
        await page.locator("#link").press("Enter")
        await expect(page).to_have_title("A notebook")
        assert re.fullmatch(rf"{notebook}user/x/{OPENED}\?token=[0-9a-f]{{32}}", page.url)
        assert all(status == 200 for _, status in states), states
