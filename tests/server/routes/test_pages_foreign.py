"""A foreign page in a real Chromium must not run code on the machine of whoever visits it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, expect
from realparts.browsing import LINK, LOOKS, opened, shot, web

if TYPE_CHECKING:
    from tests.server.conftest import Serve

pytestmark = pytest.mark.real("chromium")

CACHED = {"FakeRegistry.cached": "true"}


ATTACKS = """<title>evil</title><p>evil</p><img src="{at}"><iframe src="{page}"></iframe><script>
new EventSource("{at}");
fetch("{at}").catch(() => 0); fetch("{at}", {{mode: "no-cors"}}).catch(() => 0);
fetch("{at}", {{mode: "no-cors", headers: {{Accept: "text/event-stream"}}}}).catch(() => 0);
</script><form action="{at}"><button id="form">form</button></form><a id="link" href="{page}">link</a>"""


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_foreign_page_runs_nothing(serve: Serve, browser: Browser, host: str) -> None:
    async with serve(CACHED, gate=True) as live:
        here = live.address.replace("127.0.0.1", host)  # the same site as the foreign page's, or another one
        evil = ATTACKS.format(at=here + "build/fake/owner/name/main", page=here + LINK)
        async with web(lambda path: evil) as (foreign, _), opened(browser) as page:
            live.gate.url = foreign
            await page.goto(foreign)
            async with asyncio.timeout(30):
                while sum(entry["event"] == "a build was refused" for entry in live.logged) < 5:
                    await asyncio.sleep(0.05)
            await page.locator("#form").click()
            await expect(page.locator("body")).to_contain_text("403")
            await page.goto(foreign)
            await page.locator("#link").click()
            await expect(page.locator("#ask")).to_be_visible()
            await shot(page, f"ask-{host}")
            assert live.gate.requests == []
            # The visitor decides; the button is the next that the keyboard comes to.
            await expect(page.locator("#start")).to_be_enabled()
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await page.wait_for_url(f"{foreign}s1/?token=*")
            assert live.gate.launches == 1


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("look", LOOKS)
async def test_on_ones_own_computer_it_asks_once_per_repository(serve: Serve, browser: Browser, look: str) -> None:
    async with serve(CACHED, gate=True) as live, web(lambda path: "<title>notebook</title>") as (notebook, _):
        live.gate.url = notebook
        async with opened(browser, **LOOKS[look]) as page:
            await page.goto(live.address + LINK)
            await expect(page.locator("#ask")).to_contain_text("Run code from owner/name on this computer?")
            await expect(page.locator("#start")).to_be_enabled()
            await shot(page, f"consent-{look}")
            assert live.gate.requests == []
            await page.locator("#start").click()
            await page.wait_for_url(f"{notebook}s1/?token=*")
            assert list(live.binder.services.store.consents()) == ["fake/owner/name"]
            # Known now, at any ref, as from a bookmark.
            await page.goto(live.address + LINK.replace("main", "other"))
            await page.wait_for_url(f"{notebook}s2/?token=*")
            await page.goto(live.address + LINK.replace("name", "another"))
            await expect(page.locator("#ask")).to_be_visible()
            assert live.gate.launches == 2
            # It clones another one, which has been allowed by nobody.
            cloned = "git-pull%3Frepo%3Dhttps%253A%252F%252Fx.example%252F" + "r" * 300
            await page.goto(f"{live.address}{LINK}?urlpath={cloned}")
            name = "https://x.example/" + "r" * 182 + "..."
            await expect(page.locator("#ask")).to_contain_text(f"also brings the files of {name}")
            await expect(page.locator("#start")).to_be_enabled()
            await shot(page, f"consent-other-{look}")
            assert live.gate.launches == 2
