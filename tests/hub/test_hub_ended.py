"""What people see at the address of a notebook that has ended, or that the hub's proxy has lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from ringbinder.model import Server
from ringbinder.testing import RecordingLog

from .conftest import IMAGE, PLAN, Make, wish
from .real_hub import PROXY_TOKEN, Hub


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Accept": "text/html,*/*"}) as client:
        yield client


@pytest.fixture
async def server(each_hub: Hub, make: Make) -> AsyncIterator[Server]:
    launcher = make(each_hub.url)
    server = await launcher.launch(IMAGE, wish(), PLAN, RecordingLog())
    yield server
    await launcher.stop(server)


def user(server: Server) -> str:
    return server.url.rstrip("/").rpartition("/")[2]


async def proxy(browser: aiohttp.ClientSession, hub: Hub, method: str, server: Server, **more: Any) -> None:
    """Changes the proxy's route of a running server, as its restart does."""
    url = f"{hub.env['PROXY_API_URL']}/api/routes/user/{user(server)}"
    headers = {"Authorization": f"token {PROXY_TOKEN}"}
    async with browser.request(method, url, headers=headers, **more) as answer:
        assert answer.ok, await answer.text()


async def test_ended_notebook_leads_back_to_its_launch(
    each_hub: Hub, make: Make, server: Server, browser: aiohttp.ClientSession
) -> None:
    assert await make(each_hub.url).stop(server)
    assert user(server) not in each_hub.users()
    async with browser.get(f"{server.url}lab/tree/a%26b.ipynb?token=t0ken") as answer:
        page = await answer.text()
    assert answer.status == 424
    assert "This notebook has ended" in page
    again = "http://127.0.0.1:8585/v2/gh/some/course/HEAD?urlpath=lab%2Ftree%2Fa%26b.ipynb"
    assert f'<a href="{again}">Launch it again</a>' in page
    async with browser.get(f"{server.url}api/kernels") as answer:
        assert (answer.status, answer.content_type) == (424, "application/json")
        assert "has ended" in (await answer.json())["message"]


async def test_unknown_notebook_has_ended(each_hub: Hub, browser: aiohttp.ClientSession) -> None:
    async with browser.get(f"{each_hub.url}user/doesntexist") as answer:
        page = await answer.text()
    assert answer.status == 424
    assert "Binder not found" in page
    assert "Open its link again" in page


async def test_notebook_without_route_is_not_called_ended(
    each_hub: Hub, server: Server, browser: aiohttp.ClientSession
) -> None:
    await proxy(browser, each_hub, "DELETE", server)
    async with browser.get(server.url) as answer:
        page = await answer.text()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "3")
    assert answer.headers["Refresh"] == f"3; url=/user/{user(server)}/"
    assert "not ready" in page
    assert "has ended" not in page


async def test_notebook_without_answer_is_called_busy(
    each_hub: Hub, server: Server, browser: aiohttp.ClientSession
) -> None:
    await proxy(browser, each_hub, "POST", server, json={"target": "http://127.0.0.1:1"})
    async with browser.get(server.url) as answer:
        page = await answer.text()
    assert answer.status == 503
    assert "does not answer" in page
    assert "from the hub" not in page


async def test_killed_notebook_has_ended_at_once(the_hub: Hub, make: Make, browser: aiohttp.ClientSession) -> None:
    server = await make(the_hub.url).launch(IMAGE, wish("killed"), PLAN, RecordingLog())
    [process] = the_hub.processes()
    process.kill()
    process.wait()
    async with browser.get(f"{server.url}lab/tree/a.ipynb") as answer:
        page = await answer.text()
    assert "This notebook has ended" in page
    assert "/v2/gh/some/course/HEAD?urlpath=lab%2Ftree%2Fa.ipynb" in page
    await make(the_hub.url).stop(server)


async def test_hub_without_logins_shows_where_links_go(each_hub: Hub, browser: aiohttp.ClientSession) -> None:
    async with browser.get(each_hub.url) as answer:
        page = await answer.text()
    assert answer.status == 403
    assert "There is no login here" in page
