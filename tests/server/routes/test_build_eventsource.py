"""The EventSource of a real Chromium, which reconnects by itself whatever the page does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Browser, Page
from realparts.browsing import breakable, opened

if TYPE_CHECKING:
    from tests.server.conftest import Serve

pytestmark = pytest.mark.real("chromium")

LISTEN = """
(url) => {
  const source = new EventSource(url);
  window.told = [];
  window.lost = 0;
  source.onmessage = (message) => window.told.push([message.lastEventId, JSON.parse(message.data).phase]);
  window.ended = new Promise((done) => {
    source.onerror = () => {
      window.lost += 1;
      if (source.readyState === EventSource.CLOSED) done(window.told);
    };
  });
}
"""
UNTIL = """
(phase) => new Promise((done) => {
  const look = () => (window.told.some(([, told]) => told === phase) ? done() : setTimeout(look, 20));
  look();
})
"""


async def listen(page: Page, address: str) -> None:
    """On a page of that server which starts nothing by itself."""
    await page.goto(address + "about")
    await page.evaluate(LISTEN, address + "build/fake/owner/name/main")


def is_whole(told: list[list[Any]], end: str) -> None:
    numbers = [int(id.split(".")[1]) for id, _ in told]
    assert numbers == list(range(len(told))), "nothing twice, nothing missing"
    assert len({id.split(".")[0] for id, _ in told}) == 1
    assert [phase for _, phase in told if phase in ("ready", "failed")] == [end]


@pytest.mark.parametrize("end", ["ready", "failed"])
async def test_one_that_is_never_closed_gives_up_after_the_end(serve: Serve, browser: Browser, end: str) -> None:
    faults = {"FakeBuilder.fail_at": "build"} if end == "failed" else {}
    async with serve(faults, gate=end == "ready") as live, opened(browser) as page:
        await listen(page, live.address)
        is_whole(await page.evaluate("window.ended"), end)
        assert len(live.binder.sessions.known) == 1
        if end == "ready":
            assert (len(live.gate.builds), live.gate.launches) == (1, 1)


async def test_one_that_lost_its_line_goes_on_with_the_same_launch(serve: Serve, browser: Browser) -> None:
    async with (
        serve(gate=True) as live,
        breakable(live.address) as (address, cut),
        opened(browser) as page,
    ):
        live.gate.shut()
        await listen(page, address)
        await page.evaluate(UNTIL, "building")
        cut()
        live.gate.open.set()
        is_whole(await page.evaluate("window.ended"), "ready")
        assert await page.evaluate("window.lost") >= 2
        assert (len(live.binder.sessions.known), len(live.gate.builds), live.gate.launches) == (1, 1, 1)
