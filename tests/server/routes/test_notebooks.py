"""The page of one's own notebooks, with real ones and in a real Chromium."""

from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect
from realparts.browsing import LOOKS, opened, shot
from ringbinder.testing.gitserver import GitServer

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

PATIENCE = 240_000
EMBEDDED = {f"Ringbinder.{kind}": "local" for kind in ("registry", "builder", "launcher")} | {
    "Ringbinder.disabled_plugins": "[gh, gl]"
}
OWN = {"Sec-Fetch-Site": "same-origin"}

Launched = Callable[..., AbstractAsyncContextManager["Live"]]


@pytest.fixture
def launched(serve: Serve, git_server: GitServer) -> Launched:
    """A server of the embedded mode on which one notebook runs."""

    @asynccontextmanager
    async def start(**sets: str) -> AsyncIterator[Live]:
        git_server.repository("course/first").commit({"requirements.txt": "six==1.16.0\n"})
        async with serve({**EMBEDDED, **sets}) as live:
            live.client.timeout = PATIENCE / 1000
            spec = quote(git_server.url("course/first.git"), safe="")
            assert (await live.events(f"build/git/{spec}/HEAD"))[-1]["phase"] == "ready"
            yield live

    return start


async def pictures(browser: Browser, live: Live, name: str) -> None:
    for look, options in LOOKS.items():
        async with opened(browser, **options) as page:
            await page.goto(live.address + "notebooks")
            await expect(page.get_by_role("article")).to_be_visible()
            await shot(page, f"notebooks-{name}-{look}")


async def saved(page: Page, name: str, folder: Path) -> Path:
    async with page.expect_download() as download:
        await page.get_by_role("button", name=name).click()
    found = await download.value
    await found.save_as(folder / found.suggested_filename)
    return folder / found.suggested_filename


@pytest.mark.real("git", "uv", "jupyterlab", "chromium")
@pytest.mark.timeout(600)
async def test_kept_opened_stopped_and_taken_away(launched: Launched, browser: Browser, tmp_path: Path) -> None:
    # Half of the idle time passes before the page counts down.
    async with launched(**{"LocalLauncher.idle_timeout": "60"}) as live, opened(browser) as page:
        page.set_default_timeout(PATIENCE)
        await page.goto(live.address)
        await page.get_by_role("link", name="Notebooks").click()
        running = page.get_by_role("article")
        await expect(running).to_contain_text("/course/first")
        [work] = await live.binder.work()
        assert re.fullmatch(r"[0-9a-f]{40}", work.ref)
        await expect(running.get_by_role("heading")).to_contain_text(work.ref[:7])
        await pictures(browser, live, "running")
        countdown = page.get_by_text("It is not used")
        await expect(countdown).to_contain_text(re.compile(r"in 0:\d\d"), timeout=PATIENCE)
        await pictures(browser, live, "idle")
        await running.get_by_role("button", name="Keep it running").press("Enter")
        await expect(countdown).to_be_hidden()

        await running.get_by_role("button", name="Open").click()
        await page.locator(".jp-Launcher").wait_for()
        [work] = await live.binder.work()
        (work.folder / "made here.txt").write_text("by a person\n")
        await page.goto(live.address + "notebooks")
        await running.get_by_role("button", name="Stop").click()
        await expect(running).to_contain_text("stopped", timeout=PATIENCE)
        assert await live.binder.servers.running() == []
        await pictures(browser, live, "ended")

        await running.get_by_text("1 changed file").click()
        await expect(running).to_contain_text("made here.txt")
        assert "+by a person" in (await saved(page, "patch", tmp_path)).read_text()
        with zipfile.ZipFile(await saved(page, "archive", tmp_path)) as archive:
            assert archive.namelist() == [f"{work.id}/work/made here.txt"]
        await running.get_by_text("Go on with it").click()
        await running.get_by_role("button", name="Remove these files").click()
        await expect(page.get_by_text("None has left changed files")).to_be_visible()
        assert not work.folder.exists()


@pytest.mark.real("git", "uv", "jupyterlab", "chromium")
@pytest.mark.timeout(600)
async def test_launch_beyond_max_servers_is_queued_with_reason(
    launched: Launched, browser: Browser, git_server: GitServer
) -> None:
    link = f"git/{quote(git_server.url('course/first.git'), safe='')}/HEAD"
    async with launched(**{"LocalLauncher.max_servers": "1"}) as live, opened(browser) as page:
        page.set_default_timeout(PATIENCE)
        await page.goto(f"{live.address}v2/{link}")
        await page.get_by_role("button", name="Launch").click()
        await expect(page.locator("#status")).to_contain_text("Place 1 in the queue")
        await shot(page, "queue-embedded")
        await expect(page.locator("#log")).to_contain_text("LocalLauncher.max_servers")
        async with live.stream(f"build/{link}") as behind:
            assert (await behind.until("waiting"))[-1].get("queue")
        await live.binder.servers.stop((await live.binder.servers.running())[0])
        await page.locator(".jp-Launcher").wait_for()


async def test_no_other_page_reaches_the_notebooks(serve: Serve) -> None:
    async with serve({**EMBEDDED, "BinderHub.cors_allow_origin": "*"}) as live:
        page = live.address + "notebooks"
        unknown = f"{page}/0123456789abcdef"
        assert (await live.client.get(page)).status_code == 200
        assert (await live.client.get(page, headers={"Host": "evil.example"})).status_code == 403
        for headers in (
            {},
            {"Origin": "https://evil.example"},
            {"Origin": "null", **OWN},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            for action in ("keep", "stop", "discard", "open", "work.zip", "work.patch"):
                answer = await live.client.post(f"{unknown}/{action}", headers=headers)
                assert answer.status_code == 403, (headers, action)
        for action in ("keep", "stop", "discard"):
            answer = await live.client.post(f"{unknown}/{action}", headers=OWN)
            assert (answer.status_code, "no such notebook" in answer.text) == (404, True)
        for what in ("open", "work.zip", "work.patch", "work.exe"):
            assert (await live.client.post(f"{unknown}/{what}", headers=OWN)).status_code == 404
        assert (await live.client.post(f"{unknown}/format", headers=OWN)).status_code == 404


@pytest.mark.parametrize("sets", [{}, {**EMBEDDED, "BinderHub.enable_api_only_mode": "true"}])
async def test_it_is_for_a_machine_of_ones_own(serve: Serve, sets: dict[str, str]) -> None:
    async with serve(sets) as live:
        assert (await live.client.get(live.address + "notebooks")).status_code == 404
        assert "/notebooks" not in (await live.client.get(live.address)).text
