"""The countdown in JupyterLab before an idle notebook is stopped, in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest
from attrs import define, field
from playwright.async_api import Page, Request, expect
from realparts.browser import chromium
from realparts.turned import TurnedClock
from ringbinder.testing.kernel import api
from ringbinder_embedded.launcher import LocalLauncher
from ringbinder_embedded.sessions import Session
from ringbinder_embedded.watch import last_activity

from .conftest import PLAN, Embedded, request

pytestmark = [pytest.mark.real("uv", "jupyterlab", "chromium"), pytest.mark.timeout(600)]

PATIENCE = 240_000
IDLE = 3600.0
# What a page sees of itself when another tab is in front of it; JupyterLab then asks its server nothing.
HIDE = """
    Object.defineProperty(Document.prototype, "visibilityState", { get: () => "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
"""


async def check_look(page: Page) -> None:
    """The banner fits a phone, and is one stop of the keyboard away from being kept."""
    await page.set_viewport_size({"width": 360, "height": 640})
    banner = page.locator("#ringbinder-idle")
    box = await banner.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert box["y"] + box["height"] <= 640
    await expect(page.get_by_role("alert").filter(has_text="will be stopped at")).to_be_visible()
    await expect(banner.get_by_role("timer")).to_have_text(re.compile(r"[0-4]:\d\d"))


@define
class Turned:
    """The time of the launcher, of its notebook's server, and of a page: all of them are turned together."""

    clock: TurnedClock
    page: Page
    _turns: list[tuple[float, float]] = field(factory=list)
    """When, by the machine's clock, and by how many seconds."""

    async def forward(self, seconds: float) -> None:
        self._turns.append((time.time(), seconds))
        self.clock.turn(seconds)
        await self.page.clock.fast_forward(1000 * int(seconds))

    def last_activity(self, status: Any, kernels: Any) -> float | None:
        """What the notebook's server would say, were its clock turned as well."""
        last = last_activity(status, kernels)
        return None if last is None else last + sum(seconds for at, seconds in self._turns if at <= last)


async def hide(page: Page) -> None:
    """Returns when JupyterLab asks its server nothing more."""
    asked: set[Request] = set()
    answered = asyncio.Event()

    def end(request: Request) -> None:
        asked.discard(request)
        answered.set()

    page.on("request", lambda request: asked.add(request))
    page.on("requestfinished", end)
    page.on("requestfailed", end)
    await page.wait_for_load_state("networkidle")
    await page.evaluate(HIDE)
    while asked:
        answered.clear()
        await answered.wait()


async def until_announced(launcher: LocalLauncher, announced: bool) -> None:
    """Returns when the end of the one server is near, or is not any more."""
    async with asyncio.timeout(PATIENCE / 1000):
        while ("stops_at" in (await launcher.servers())[0].extra) is not announced:
            await asyncio.sleep(0.02)


async def test_an_idle_page_counts_down_and_can_be_kept(
    embedded: Embedded, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await embedded.build(embedded.plan({"requirements.txt": "six==1.16.0\n"}))
    launcher = embedded.launcher(idle_timeout=IDLE)
    async with launcher.lifespan(), chromium() as browser:
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE)
        await page.clock.install()
        turned = Turned(clock, page)
        monkeypatch.setattr("ringbinder_embedded.watch.last_activity", turned.last_activity)
        await page.goto(f"{server.url}lab?token={server.token.reveal()}")
        await page.locator(".jp-Launcher").wait_for()
        banner = page.locator("#ringbinder-idle")
        await banner.wait_for(state="attached")
        await expect(banner).to_be_hidden()

        await hide(page)
        await turned.forward(IDLE - 280)
        await until_announced(launcher, True)
        await expect(banner).to_be_visible(timeout=PATIENCE)
        await check_look(page)
        await expect(page).to_have_title(re.compile(r"^\([0-4]:\d\d\) "))
        keep = banner.get_by_role("button", name="Keep it running")
        await keep.focus()
        await page.keyboard.press("Enter")
        await expect(banner).to_be_hidden(timeout=PATIENCE)
        await expect(page).to_have_title(re.compile(r"^[^(]"))
        await turned.forward(60)
        await until_announced(launcher, False)

        await turned.forward(IDLE - 280)
        await until_announced(launcher, True)
        await expect(banner).to_be_visible(timeout=PATIENCE)
        await turned.forward(280)
        await expect(banner).to_contain_text("was stopped, since it was not used", timeout=PATIENCE)
        await expect(keep).to_be_hidden()
    assert await launcher.servers() == []


async def test_what_the_page_asks_is_no_use_of_the_notebook(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan({"requirements.txt": "six==1.16.0\n"}))
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        Session(server.id, embedded.state / "sessions" / server.id).tell_stop(4711.0)

        async def last_activity() -> str:
            async with client.get("/api/status?no_track_activity=1") as answer:
                return str((await answer.json())["last_activity"])

        async with api(server) as client:
            before = await last_activity()
            async with client.get("/lab/extensions/ringbinder-idle/stops.json") as answer:
                assert json.loads(await answer.read()) == {"stops_at": 4711.0}
                assert "immutable" not in answer.headers.get("Cache-Control", "")
            assert await last_activity() == before
