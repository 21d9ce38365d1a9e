"""The home page in a real Chromium: what is pasted is understood and shown back, and can be shared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, expect
from realparts.browsing import LOOKS, NOTEBOOK, opened, shot, web

if TYPE_CHECKING:
    from tests.server.conftest import Serve

pytestmark = pytest.mark.real("chromium")

CACHED = {"FakeRegistry.cached": "true"}


@pytest.mark.parametrize("look", LOOKS)
async def test_from_a_pasted_link_to_the_notebook(serve: Serve, browser: Browser, look: str) -> None:
    async with web(lambda path: NOTEBOOK) as (notebook, asked):
        async with (
            serve({**CACHED, "FakeLauncher.url": notebook + "user/{id}/"}) as live,
            opened(browser, permissions=["clipboard-read", "clipboard-write"], **LOOKS[look]) as page,
        ):
            await page.goto(live.address)
            await shot(page, f"home-{look}")
            await page.keyboard.type("what is this?")
            await expect(page.locator("#problem")).to_contain_text("was not understood")
            await shot(page, f"home-problem-{look}")
            await page.locator("#link").fill("https://mybinder.org/v2/fake/owner/na%2Fme/main?labpath=a b.ipynb")
            await expect(page.locator("#repository")).to_have_text("owner/na/me")
            await expect(page.locator("#provider")).to_have_text("Fake")
            await expect(page.locator("#ref")).to_have_text("main")
            await expect(page.locator("#opens")).to_have_text("doc/tree/a%20b.ipynb")
            await shot(page, f"home-understood-{look}")
            address = live.address + "v2/fake/owner/na%2Fme/main?urlpath=doc/tree/a%2520b.ipynb"
            badge = f"{live.address}badge_logo.svg"
            for name, text in (
                ("Copy link", address),
                ("Copy Markdown badge", f"[![Binder]({badge})]({address})"),
                (
                    "Copy reStructuredText badge",
                    f".. image:: {badge}\n   :target: {address}\n   :alt: Binder",
                ),
                ("Copy HTML badge", f'<a href="{address}"><img src="{badge}" alt="Binder"></a>'),
            ):
                await page.get_by_role("button", name=name).click()
                await expect(page.locator("#copied")).to_have_text("Copied")
                assert await page.evaluate("navigator.clipboard.readText()") == text
            await page.locator("#link").press("Enter")
            await expect(page).to_have_title("A notebook")
            assert re.fullmatch(
                rf"{notebook}user/fake-[0-9a-f]{{16}}/doc/tree/a%20b\.ipynb\?token=[0-9a-f]{{32}}", page.url
            )
            # The launch page is gone from the history: the way back launches nothing.
            await page.go_back()
            await expect(page).to_have_title("Ringbinder: a link opens a notebook")
        assert len(asked) == 1


async def test_version_and_path_can_be_changed(serve: Serve, browser: Browser) -> None:
    async with serve(CACHED) as live, opened(browser) as page:
        await page.goto(live.address)
        await page.locator("#link").fill("fake/owner/na%2Fme/main?labpath=notes/a b.ipynb")
        await expect(page.locator("#repository")).to_have_text("owner/na/me")
        await page.get_by_text("Change the version").click()
        await expect(page.locator("#new-ref")).to_have_value("main")
        await expect(page.locator("#new-kind")).to_have_value("file")
        await expect(page.locator("#new-path")).to_have_value("notes/a b.ipynb")
        await shot(page, "home-change")
        await page.locator("#new-ref").fill("feature/x#1")
        await page.locator("#new-path").fill("50% done?.ipynb")
        await expect(page.locator("#ref")).to_have_text("feature/x#1")
        await expect(page.locator("#opens")).to_have_text("doc/tree/50%25%20done%3F.ipynb")
        await expect(page.locator("#address")).to_have_text(
            live.address + "v2/fake/owner/na%2Fme/feature/x%231?urlpath=doc/tree/50%2525%2520done%253F.ipynb"
        )
        await page.locator("#new-kind").select_option("url")
        await page.locator("#new-path").fill("/rstudio")
        await expect(page.locator("#opens")).to_have_text("rstudio")
        # A link that does not say so opens nothing in particular.
        await page.locator("#link").fill("fake/owner/name(1)/main")
        await expect(page.locator("#opens")).to_have_text("JupyterLab")
        await expect(page.locator("#new-path")).to_have_value("")
        await expect(page.locator("#markdown")).to_contain_text("/name%281%29/main)")


async def test_the_keyboard_reaches_everything(serve: Serve, browser: Browser) -> None:
    async with serve(CACHED) as live, opened(browser) as page:
        await page.goto(live.address)
        await page.keyboard.type("fake/owner/name/main")
        await expect(page.locator("#understood")).to_be_visible()
        reached = []
        for _ in range(12):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.ariaLabel || document.activeElement.id"))
            ring = "getComputedStyle(document.activeElement).outlineStyle"
            assert await page.evaluate(ring) == "solid", reached
            if reached[-1] == "Copy HTML badge":
                break
        assert [name for name in reached if name.startswith("Copy")] == [
            "Copy link",
            "Copy Markdown badge",
            "Copy reStructuredText badge",
            "Copy HTML badge",
        ]
        await page.goto(live.address + "about")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"


async def test_without_javascript_the_form_finds_the_launch_page(serve: Serve, browser: Browser) -> None:
    async with (
        serve({**CACHED, "BinderHub.base_url": "binder"}) as live,
        opened(browser, java_script_enabled=False) as page,
    ):
        await page.goto(live.address)
        await page.locator("#link").fill("what is <b>this</b>?")
        await page.get_by_role("button", name="Launch").click()
        await expect(page.locator("#problem")).to_contain_text('"what is <b>this</b>?" was not understood')
        await expect(page.locator("#link")).to_have_value("what is <b>this</b>?")
        await page.locator("#link").fill("https://mybinder.org/v2/fake/owner/name/main?urlpath=lab")
        await page.get_by_role("button", name="Launch").click()
        assert page.url == live.address + "v2/fake/owner/name/main?urlpath=lab"
        await expect(page.locator("noscript code")).to_be_visible()
        assert not live.binder.sessions.known


async def test_pages_beside(serve: Serve, browser: Browser) -> None:
    sets = {
        "BinderHub.banner_message": "<p style='margin: 0; font-weight: 700'>Closed on <b>Friday</b></p>",
        "BinderHub.about_message": "<p id='ours'>Run by <b>us</b></p>",
        "Ringbinder.disabled_plugins": "[gist]",
    }
    async with serve(sets) as live, opened(browser) as page:
        await page.goto(live.address + "about")
        await expect(page.locator("#ours")).to_have_text("Run by us")
        await expect(page.locator(".banner p")).to_have_css("font-weight", "700")
        await shot(page, "about")
        await page.goto(live.address + "v2/nope/a/b/c")
        await expect(page.locator("main")).to_contain_text('There is no provider "nope" here')
        await page.goto(live.address + "v2/gist/emma/1234/HEAD")
        await expect(page.locator("main")).to_contain_text("left out: gist stands in Ringbinder.disabled_plugins.")
        await page.goto(live.address + "nope")
        await shot(page, "not-found")
        await page.get_by_role("link", name="Open a repository").click()
        await expect(page.locator("#link")).to_be_focused()
