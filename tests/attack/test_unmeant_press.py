"""A press that was not meant for the button starts no code: in a real Chromium, whose time the tests turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Browser, Page, expect
from realparts.browsing import LINK, opened, web

if TYPE_CHECKING:
    from realparts.serving import Live, Serve

pytestmark = [pytest.mark.real("chromium"), pytest.mark.usefixtures("local")]

BEGINNING = 1_000_000_000.0
CACHED = {"FakeRegistry.cached": "true"}
LURE = """<title>lure</title><p>Press Enter, or click twice</p><script>
for (const name of ["keydown", "mousedown"]) addEventListener(name, () => (location = "{at}"), {{once: true}});
</script>"""


@asynccontextmanager
async def lured(serve: Serve, browser: Browser) -> AsyncIterator[tuple[Live, Page, str]]:
    """A server, a page with a clock that the test turns, and a foreign page that goes to a launch page."""
    async with serve(CACHED, gate=True) as live:
        lure = LURE.format(at=live.address + LINK)
        async with web(lambda path: lure) as (foreign, _), opened(browser) as page:
            live.gate.url = foreign
            # It stands still but where a test turns it, however long a busy machine takes in between.
            await page.clock.install(time=BEGINNING)
            await page.clock.pause_at(BEGINNING + 1)
            yield live, page, foreign


def started(live: Live) -> tuple[int, list[str]]:
    """How many launches there were, and whose code may run."""
    return len(live.binder.sessions.known), list(live.binder.services.store.consents())


@pytest.mark.parametrize("key", ["Enter", " "])
@pytest.mark.parametrize("focused", [False, True], ids=["as-it-is", "focused"])
async def test_key_held_since_the_page_before_starts_nothing(
    serve: Serve, browser: Browser, key: str, focused: bool
) -> None:
    async with lured(serve, browser) as (live, page, foreign):
        await page.goto(foreign)
        await page.keyboard.down(key)
        await expect(page.locator("#ask")).to_be_visible()
        if focused:  # the worst case: something has put the focus there
            await page.locator("#start").focus()
        for _ in range(30):
            await page.keyboard.down(key)  # the same key once more is a repeat
            await page.clock.run_for(100)
        await page.keyboard.up(key)
        await page.clock.run_for(900)
        await expect(page.locator("#start")).to_be_disabled()
        await page.keyboard.press(key)
        assert started(live) == (0, [])
        # It was released: a second later a press is meant.
        await page.clock.run_for(1100)
        await page.locator("#start").focus()
        await page.keyboard.press(key)
        await page.wait_for_url(f"{foreign}s1/?token=*")
        assert started(live) == (1, ["fake/owner/name"])


async def test_held_key_that_repeats_late_starts_nothing(serve: Serve, browser: Browser) -> None:
    async with lured(serve, browser) as (live, page, foreign):
        await page.goto(foreign)
        await page.keyboard.down("Enter")
        await expect(page.locator("#ask")).to_be_visible()
        await page.clock.run_for(1500)  # before the first repeat
        await page.locator("#start").focus()
        for _ in range(10):
            await page.keyboard.down("Enter")
            await page.clock.run_for(100)
        await page.keyboard.up("Enter")
        assert started(live) == (0, [])


async def test_double_click_since_the_page_before_starts_nothing(serve: Serve, browser: Browser) -> None:
    async with lured(serve, browser) as (live, page, foreign):
        await page.goto(live.address + LINK)
        box = await page.locator("#start").bounding_box()
        assert box is not None
        at: Any = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await page.goto(foreign)
        await page.mouse.click(*at)
        await expect(page.locator("#ask")).to_be_visible()
        await page.mouse.click(*at, click_count=2)
        await page.clock.run_for(900)
        await page.mouse.down()  # and kept down for longer than the wait
        await page.clock.run_for(5000)
        await page.mouse.up()
        assert started(live) == (0, [])
        await page.clock.run_for(1100)
        await page.mouse.click(*at)
        await page.wait_for_url(f"{foreign}s1/?token=*")
        assert started(live) == (1, ["fake/owner/name"])


async def test_window_that_comes_to_the_front_waits_again(serve: Serve, browser: Browser) -> None:
    async with lured(serve, browser) as (live, page, _):
        await page.goto(live.address + LINK)
        start = page.locator("#start")
        for name in ("focus", "pageshow"):
            await page.clock.run_for(1100)
            await expect(start).to_be_enabled()
            await page.evaluate("name => dispatchEvent(new Event(name))", name)
            await expect(start).to_be_disabled()
        await page.clock.run_for(1100)
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(start).to_be_disabled()
        await start.dispatch_event("click")
        assert started(live) == (0, [])


async def test_a_click_by_script_starts_nothing(serve: Serve, browser: Browser) -> None:
    async with lured(serve, browser) as (live, page, _):
        await page.goto(live.address + LINK)
        await page.clock.run_for(1100)
        await expect(page.locator("#start")).to_be_enabled()
        await page.evaluate("document.getElementById('start').click()")
        await page.locator("#start").dispatch_event("click")
        assert started(live) == (0, [])


async def test_two_presses_start_one_launch(serve: Serve, browser: Browser) -> None:
    async with lured(serve, browser) as (live, page, foreign):
        live.gate.shut()
        await page.goto(live.address + LINK)
        await page.clock.run_for(1100)
        await page.locator("#start").dblclick()
        await live.gate.began.wait()
        live.gate.open.set()
        await page.wait_for_url(f"{foreign}s1/?token=*")
        assert started(live) == (1, ["fake/owner/name"])


async def test_a_consent_taken_back_is_asked_for_again(serve: Serve, browser: Browser) -> None:
    async with lured(serve, browser) as (live, page, foreign):
        live.gate.shut()
        await page.goto(live.address + LINK)
        await page.clock.run_for(1100)
        await page.locator("#start").click()
        await live.gate.began.wait()
        # Left in the midst of it, which the tab remembers.
        await page.goto(foreign)
        live.gate.open.set()
        assert live.binder.services.store.forget_consent("fake/owner/name")
        await page.goto(live.address + LINK)
        await expect(page.locator("#ask")).to_be_visible()
        assert started(live) == (1, [])
