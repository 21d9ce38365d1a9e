"""From a link through the hub's login to an executed cell, in a real browser."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from realparts.parts import CHROMIUM

from .login_hub import PASSWORD, LoginHub, Serve

pytestmark = [pytest.mark.real("chromium"), pytest.mark.timeout(600)]

PATIENCE = 120_000
CELL: dict[str, Any] = {
    "id": "only", "cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": "print(6*7)",
}  # fmt: skip
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
NOTEBOOK = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": KERNEL}, "cells": [CELL]}


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
    (home / "first.ipynb").write_text(json.dumps(NOTEBOOK))
    link = f"{at.binder}v2/fake/owner/name/main?labpath=first.ipynb"
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    async with serve("jupyter") as live, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=CHROMIUM)
        stranger = await opened(browser, link, "eve")
        await expect(stranger.get_by_text("403")).to_be_visible(timeout=PATIENCE)
        assert stranger.url.startswith(at.hub.url)

        page = await opened(browser, link, "ada")
        await expect(page.locator(".who")).to_have_text("ada", timeout=PATIENCE)
        await expect(page.locator("#ask")).to_contain_text("as ada?")
        await page.click("#start")
        await page.wait_for_url(f"{at.hub.url}user/ada/**/first.ipynb*")
        assert "token=" not in page.url
        cell = page.locator(".jp-CodeCell .cm-content").first
        output = page.locator(".jp-OutputArea-output").first
        for attempt in range(12):  # JupyterLab drops a cell that is run before its kernel is connected
            await cell.click()
            await page.keyboard.press("Shift+Enter")
            try:
                await expect(output).to_have_text("42", timeout=10_000)
                break
            except AssertionError:
                if attempt == 11:
                    raise
        # Who follows another link has a server already, and is told so.
        await page.goto(f"{at.binder}v2/fake/owner/other/main")
        if await page.locator("#ask").is_visible():
            await page.click("#start")
        await expect(page.locator("#cause")).to_contain_text(
            "User ada already has a running server.", timeout=PATIENCE
        )
        await browser.close()
        for server in await live.binder.servers():
            assert await live.binder.stop(server)
