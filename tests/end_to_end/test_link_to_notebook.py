"""From a link to a notebook, through the program, with every part real."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from playwright.async_api import expect
from realparts.browser import chromium
from realparts.notebooks import notebook, run_first_cell
from ringbinder.testing.gitserver import Repository

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Place, Site

pytestmark = [pytest.mark.real("git", "jupyterlab"), pytest.mark.timeout(600)]

FILES = {"requirements.txt": "packaging\n", "first.ipynb": notebook("import packaging\nprint(6*7)")}


@pytest.mark.real("chromium")
async def test_a_click_runs_a_cell(place: Place, repository: Repository, link: str) -> None:
    repository.commit(FILES)
    async with place.serve() as site, chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(240_000)
        await page.goto(site.printed)
        await page.fill("#link", f"{site.address}v2/{link}?labpath=first.ipynb")
        await expect(page.locator("#understood")).to_be_visible(timeout=60_000)
        await page.press("#link", "Enter")
        await page.click("#start")  # a person is asked before code runs on their machine
        await page.wait_for_url(lambda url: "first.ipynb" in url and "/v2/" not in url)
        await run_first_cell(page, "42")


async def test_ten_clients_of_one_link_share_a_build(place: Place, repository: Repository, link: str) -> None:
    repository.commit(FILES | {"postBuild": "#!/bin/sh\necho built once, at $(date +%s%N)\nsleep 2\n"})
    async with place.serve() as site:
        reported = await asyncio.gather(*(site.until(link, "ready") for _ in range(10)))
        logs = [[event["message"] for _, event in client if event["phase"] == "building"] for client in reported]
        assert all(log == logs[0] for log in logs)
        assert sum("built once" in line for line in logs[0]) == 1
        ready = [client[-1][1] for client in reported]
        assert len({event["url"] for event in ready}) == 10
        assert len({event["token"] for event in ready}) == 10
        assert len(_sessions(place)) == 10
        await asyncio.gather(*(_answers(site, event) for event in ready))
        children = site.descendants()
    await _gone(children)


async def test_a_client_that_drops_gets_the_rest_and_no_second_server(
    place: Place, repository: Repository, link: str
) -> None:
    repository.commit(FILES | {"postBuild": "#!/bin/sh\nfor n in 1 2 3 4; do echo step $n; sleep 0.5; done\n"})
    async with place.serve() as site:
        first = await site.until(link, "building")
        rest = await site.until(link, "ready", last_id=first[-1][0])
        numbers = [int(id.split(".")[1]) for id, _ in first + rest]
        assert numbers == list(range(len(numbers)))
        assert len({id.split(".")[0] for id, _ in first + rest}) == 1
        assert [id async for id, _ in site.events(link, rest[-1][0])] == []
        assert len(_sessions(place)) == 1


async def test_server_killed_in_a_build_leaves_nothing_trusted(place: Place, repository: Repository, link: str) -> None:
    marker = place.state / "second-time"
    repository.commit(FILES | {"postBuild": f"#!/bin/sh\necho begun\n[ -e '{marker}' ] || sleep 600\ntouch complete\n"})
    async with place.serve() as site:
        async for _, event in site.events(link):
            if "begun" in event["message"]:
                break
        children = site.descendants()
        await site.kill()
    await _gone(children)
    marker.touch()
    async with place.serve() as site:
        reported = await site.until(link, "ready")
        assert any("begun" in event["message"] for _, event in reported), "the half-built image was trusted"
        assert await _has(site, reported[-1][1], "complete")


async def test_a_server_that_is_killed_takes_its_notebooks_along(
    place: Place, repository: Repository, link: str
) -> None:
    repository.commit(FILES)
    async with place.serve() as site:
        ready = (await site.until(link, "ready"))[-1][1]
        headers = {"Authorization": f"token {ready['token']}"}
        async with site.http.post(f"{ready['url']}api/kernels", headers=headers, json={}) as answer:
            assert answer.status == 201
        children = site.descendants()
        assert len(children) >= 3, "the leash, JupyterLab and a kernel"
        await site.kill()
    await _gone(children)
    async with place.serve() as site:
        reported = await site.until(link, "ready")
        assert [event["phase"] for _, event in reported if event["phase"] == "building"] == []
        await _answers(site, reported[-1][1])


def _sessions(place: Place) -> list[Path]:
    """The folders in which notebooks work."""
    return list(place.state.glob("sessions/*/box/work"))


async def _answers(site: Site, ready: dict[str, Any]) -> None:
    async with site.http.get(f"{ready['url']}api/status?token={ready['token']}") as answer:
        assert answer.status == 200


async def _has(site: Site, ready: dict[str, Any], name: str) -> bool:
    async with site.http.get(f"{ready['url']}api/contents/{name}?content=0&token={ready['token']}") as answer:
        return answer.status == 200


async def _gone(processes: list[psutil.Process]) -> None:
    """Returns when all have ended; the test fails if they have not in time."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 60)
    assert not alive
