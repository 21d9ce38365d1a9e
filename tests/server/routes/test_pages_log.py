"""The log on the launch page, in a real Chromium: what a terminal shows, and what one does with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Browser, Page, expect
from realparts.browsing import LINK, LOOKS, opened, shot, until

if TYPE_CHECKING:
    from tests.server.conftest import Serve

pytestmark = pytest.mark.real("chromium")

OUTPUT = (
    "<img src=x onerror=document.title='owned'> <script>document.title='owned'</script>\n"
    "\x1b[1;31mred\x1b[0m plain \x1b[38;5;12mblue\x1b[39m \x1b[38;5;208morange\x1b[0m \x1b[38;2;0;0;90mnavy\x1b[0m "
    "\x1b[2;3;4mfaint\x1b[22;23;24m \x1b]8;;https://x\x07link\x1b]8;;\x07\x1b[2K\n"
    "10 %\r50 %\r100 %\n"
    "\x1b[32mgreen goes on\nto here\x1b[0m\n"
)
END = "e => e.scrollHeight - e.scrollTop - e.clientHeight < 24"


class Talking:
    """A builder that says odd things, then more whenever it is asked to."""

    def __init__(self) -> None:
        self.more: asyncio.Queue[str] = asyncio.Queue()

    async def build(self, plan: Any, target: Any, log: Any) -> None:
        for number in range(200):
            log.line(f"line {number} of a build\n")
        log.line(OUTPUT)
        while True:
            log.line(await self.more.get())


@pytest.fixture
async def talking(serve: Serve) -> AsyncIterator[tuple[Talking, str]]:
    """The builder, and the address of a launch page."""
    talking = Talking()
    async with serve() as live:
        live.binder.plugins.hooks.register(talking, "talking", general=True)
        yield talking, live.address + LINK


async def test_what_a_terminal_shows(talking: tuple[Talking, str], browser: Browser) -> None:
    async with opened(browser) as page:
        await page.goto(talking[1])
        log = page.locator("#log")
        await expect(log).to_contain_text("to here")
        await expect(log).to_contain_text("<img src=x onerror=document.title='owned'> <script>")
        await expect(log).to_contain_text("red plain blue orange navy faint link")
        await expect(log.locator(".bold.c1")).to_have_text("red")
        await expect(log.locator(".c4")).to_have_text("blue")
        await expect(log.get_by_text("orange", exact=True)).to_have_css("color", "rgb(255, 135, 0)")
        # Too dark for the ground of the log: it is made lighter.
        navy = await log.get_by_text("navy", exact=True).evaluate("e => getComputedStyle(e).color")
        assert all(int(part) > 100 for part in navy[4:-1].split(","))
        await expect(log.locator(".dim.italic.underline")).to_have_text("faint")
        await expect(log.locator(".c2")).to_have_text(["green goes on\n", "to here"])
        await expect(log).to_contain_text("100 %")
        await expect(log).not_to_contain_text("50 %")
        assert await log.locator("img, script, a").count() == 0
        await shot(page, "log-colours")


async def test_it_follows_its_end_unless_one_looks_further_up(talking: tuple[Talking, str], browser: Browser) -> None:
    async with opened(browser) as page:
        await page.goto(talking[1])
        log, back = page.locator("#log"), page.get_by_role("button", name="Go to the end")
        await expect(log).to_contain_text("to here")
        await until(log, END)
        await expect(back).to_be_hidden()
        # With the keyboard alone.
        await log.focus()
        await page.keyboard.press("Home")
        await expect(back).to_be_visible()
        await until(log, "e => e.scrollTop === 0")
        talking[0].more.put_nowait("new line at the end\n")
        await expect(log).to_contain_text("new line at the end")
        assert await log.evaluate("e => e.scrollTop") == 0
        await back.click()
        await expect(back).to_be_hidden()
        assert await log.evaluate(END)
        talking[0].more.put_nowait("another one\n" * 50)
        await expect(log).to_contain_text("another one")
        await until(log, END)


async def found(page: Page, text: str) -> None:
    await expect(page.locator("#found")).to_have_text(text)


@pytest.mark.parametrize("look", ["light", "phone"])
async def test_search(talking: tuple[Talking, str], browser: Browser, look: str) -> None:
    async with opened(browser, **LOOKS[look]) as page:
        await page.goto(talking[1])
        await expect(page.locator("#log")).to_contain_text("to here")
        await page.get_by_role("searchbox", name="Search the log").fill("LINE 19")
        await found(page, "11 of 11")
        await expect(page.locator("#log .now")).to_have_text("line 199 of a build\n")
        await page.keyboard.press("Enter")
        await found(page, "1 of 11")
        await expect(page.locator("#log .now")).to_have_text("line 19 of a build\n")
        await expect(page.locator("#log .now")).to_be_in_viewport()
        await page.keyboard.press("Shift+Enter")
        await found(page, "11 of 11")
        await page.get_by_role("button", name="Previous match").click()
        await found(page, "10 of 11")
        await expect(page.locator("#log .hit")).to_have_count(11)
        await shot(page, f"log-search-{look}")
        talking[0].more.put_nowait("and line 19 once more\n")
        await found(page, "10 of 12")
        await page.locator("#find").fill("nothing like it")
        await found(page, "not found")
        await expect(page.locator("#log .hit")).to_have_count(0)
        await page.locator("#find").fill("")
        await found(page, "")


async def test_wrap_is_remembered(talking: tuple[Talking, str], browser: Browser) -> None:
    async with opened(browser) as page:
        await page.goto(talking[1])
        talking[0].more.put_nowait("long " * 200 + "\n")
        log, wrap = page.locator("#log"), page.get_by_role("button", name="Wrap")
        await expect(log).to_contain_text("long long")
        await expect(wrap).to_have_attribute("aria-pressed", "true")
        assert await log.evaluate("e => e.scrollWidth <= e.clientWidth")
        await wrap.click()
        await expect(wrap).to_have_attribute("aria-pressed", "false")
        assert await log.evaluate("e => e.scrollWidth > e.clientWidth")
        await shot(page, "log-nowrap")
        await page.reload()
        await expect(wrap).to_have_attribute("aria-pressed", "false")


async def test_download(talking: tuple[Talking, str], browser: Browser, tmp_path: Path) -> None:
    async with opened(browser) as page:
        await page.goto(talking[1])
        await expect(page.locator("#log")).to_contain_text("to here")
        async with page.expect_download() as waited:
            await page.get_by_role("button", name="Download").click()
        download = await waited.value
        assert download.suggested_filename == "owner-name.log"
        await download.save_as(tmp_path / "log")
        text = (tmp_path / "log").read_text()
        assert text.startswith("Waiting for build to start...\nline 0 of a build\n")
        assert text.endswith("red plain blue orange navy faint link\n100 %\ngreen goes on\nto here\n")


async def test_a_log_that_is_very_long_keeps_the_page_quick(talking: tuple[Talking, str], browser: Browser) -> None:
    async with opened(browser) as page:
        await page.goto(talking[1])
        for start in range(0, 20_000, 500):
            talking[0].more.put_nowait("".join(f"row {start + at}\n" for at in range(500)))
        log = page.locator("#log")
        await expect(log).to_contain_text("row 19999", timeout=60_000)
        assert await log.evaluate("e => e.childElementCount") == 5000
        await page.locator("#find").fill("row 19999")
        await found(page, "1 of 1")
