"""From a link through the hub's login to an executed cell, and out again, in a real browser."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect
from realparts.browser import chromium
from realparts.notebooks import notebook, run_first_cell

from .login_hub import PASSWORD, LoginHub, Serve

pytestmark = [pytest.mark.real("chromium"), pytest.mark.timeout(600)]

PATIENCE = 120_000


async def opened(browser: Browser, address: str, user: str) -> Page:
    """What somebody sees who follows a link and logs in at the hub."""
    page = await (await browser.new_context()).new_page()
    page.set_default_timeout(300_000)
    await page.goto(address)
    await page.fill("#username_input", user)
    await page.fill("#password_input", PASSWORD)
    await page.click("#login_submit")
    return page


async def test_a_link_a_login_and_an_executed_cell(serve: Serve, at: LoginHub) -> None:
    home = at.hub.folder / "homes" / "ada"
    home.mkdir(parents=True, exist_ok=True)
    (home / "first.ipynb").write_text(notebook("print(6*7)"))
    link = f"{at.binder}v2/fake/owner/name/main?labpath=first.ipynb"
    async with serve("jupyter") as live, chromium() as browser:
        stranger = await opened(browser, link, "eve")
        await expect(stranger.get_by_text("403")).to_be_visible(timeout=PATIENCE)
        assert stranger.url.startswith(at.hub.url)

        page = await opened(browser, link, "ada")
        await expect(page.locator(".who")).to_have_text("ada", timeout=PATIENCE)
        await expect(page.locator("#ask")).to_contain_text("as ada?")
        await page.click("#start")
        await page.wait_for_url(f"{at.hub.url}user/ada/**/first.ipynb*")
        assert "token=" not in page.url
        await run_first_cell(page, "42")
        # Who follows another link has a server already, and is told so.
        await page.goto(f"{at.binder}v2/fake/owner/other/main")
        if await page.locator("#ask").is_visible():
            await page.click("#start")
        await expect(page.locator("#cause")).to_contain_text("User ada already has a running server.", timeout=PATIENCE)
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url(f"{at.hub.url}hub/log*")
        await page.goto(link)
        await expect(page.locator("#username_input")).to_be_visible(timeout=PATIENCE)
        for server in await live.binder.servers.running():
            assert await live.binder.servers.stop(server)
