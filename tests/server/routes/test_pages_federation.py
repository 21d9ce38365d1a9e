"""The launch page behind a redirector that sends launches to several servers, in a real Chromium."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs
import pytest
from playwright.async_api import Browser, Page, expect
from realparts.browsing import LINK, LOOKS, NOTEBOOK, opened, shot, web
from realparts.federation import Front, Redirector, front, redirector, self_signed
from ringbinder.secret import Secret

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

pytestmark = pytest.mark.real("chromium")

SECRET = "ab" * 32


@attrs.frozen
class Federation:
    redirector: Redirector
    fronts: list[Front]
    members: list[Live]
    notebook: str


@asynccontextmanager
async def federation(
    serve: Serve,
    folder: Path,
    *,
    tls: bool = False,
    second: Mapping[str, str] | None = None,
    both: Mapping[str, str] | None = None,
    token: Secret | None = None,
) -> AsyncIterator[Federation]:
    """Two members, of which the second gets the launches; `second` and `both` are options that differ."""
    context = self_signed(folder) if tls else None
    async with AsyncExitStack() as stack:
        notebook, _ = await stack.enter_async_context(web(lambda path: NOTEBOOK))
        at = await stack.enter_async_context(redirector(context))
        fronts = [await stack.enter_async_context(front(context)) for _ in range(2)]
        at.members = [each.origin for each in fronts]
        at.chosen = at.members[1]
        members = []
        for number, own in enumerate(({}, second or {})):
            sets = {
                "FakeRegistry.cached": "true",
                "Ringbinder.state_folder": str(folder / f"state-{number}"),
                "BinderHub.badge_base_url": at.address,
                "BinderHub.build_token_secret": SECRET,
                "Ringbinder.federation_members": json.dumps(at.members),
                **(both or {}),
                **own,
            }
            kept = {name: value for name, value in sets.items() if value}
            member = serve(kept, gate=True, token=token if number else None)
            live = await stack.enter_async_context(member)
            live.gate.url = notebook
            fronts[number].target = live.address
            members.append(live)
        yield Federation(at, fronts, members, notebook)


async def failure(page: Page) -> tuple[str, str]:
    """Cause and advice of the launch that failed."""
    await expect(page.locator("#failed")).to_be_visible()
    return await page.locator("#cause").inner_text(), await page.locator("#advice").inner_text()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("tls", [False, True])
async def test_launch_redirected_opens_the_notebook(
    serve: Serve, browser: Browser, tmp_path: Path, look: str, tls: bool
) -> None:
    async with (
        federation(serve, tmp_path, tls=tls) as at,
        opened(browser, ignore_https_errors=tls, **LOOKS[look]) as page,
    ):
        at.members[1].gate.shut()
        await page.goto(at.redirector.address + LINK)
        await expect(page.locator("#at")).to_have_text(f"at {urlsplit(at.redirector.chosen).netloc}")
        await expect(page).to_have_title("Launching · owner/name · Ringbinder")
        await expect(page.locator("#status")).to_have_text("Starting your server")
        await shot(page, f"federation-{look}")
        at.members[1].gate.open.set()
        await page.wait_for_url(f"{at.notebook}s1/?token=*")
        assert (at.members[0].gate.launches, at.members[1].gate.launches) == (0, 1)
        # Its token is good there, and the estimate is of its own images.
        requests = at.members[1].gate.requests
        assert [request.build_token for request in requests].count(True) == 1
        assert {request.client.origin for request in requests} == {at.redirector.address.rstrip("/")}


async def test_launch_redirected_reloaded_goes_on(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    async with federation(serve, tmp_path) as at, opened(browser) as page:
        at.members[1].gate.shut()
        await page.goto(at.redirector.address + LINK)
        await expect(page).to_have_title("Launching · owner/name · Ringbinder")
        at.redirector.chosen = at.redirector.members[0]  # not for this visitor, who has a cookie
        await page.reload()
        await expect(page.locator("#at")).to_have_text(f"at {urlsplit(at.redirector.members[1]).netloc}")
        await expect(page).to_have_title("Launching · owner/name · Ringbinder")
        at.members[1].gate.open.set()
        await page.wait_for_url(f"{at.notebook}s1/?token=*")
        assert (at.members[0].gate.launches, at.members[1].gate.launches) == (0, 1)


async def test_members_own_page_launches_there(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    async with federation(serve, tmp_path) as at, opened(browser) as page:
        await page.goto(at.fronts[0].address + LINK)
        await page.wait_for_url(f"{at.notebook}s1/?token=*")
        assert (at.members[0].gate.launches, at.members[1].gate.launches) == (1, 0)


@pytest.mark.parametrize("look", LOOKS)
async def test_members_not_named_page_shows_why(serve: Serve, browser: Browser, tmp_path: Path, look: str) -> None:
    unnamed = {"Ringbinder.federation_members": ""}
    async with (
        federation(serve, tmp_path, both=unnamed) as at,
        opened(browser, blocks=True, **LOOKS[look]) as page,
    ):
        await page.goto(at.redirector.address + LINK)
        cause, advice = await failure(page)
        assert "redirected to another server, and this page may not connect to it" in cause
        assert "Ringbinder.federation_members" in advice
        await expect(page).to_have_title("Failed · owner/name · Ringbinder")
        await expect(page.locator("#log-card")).to_be_hidden()
        await shot(page, f"federation-blocked-{look}")
        assert at.members[1].gate.launches == 0


async def test_violation_of_operators_script_ends_nothing(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    counts = json.dumps({"count": 'fetch("http://127.0.0.1:1/count").catch(() => 0);'})
    async with (
        federation(serve, tmp_path, both={"BinderHub.extra_footer_scripts": counts}) as at,
        opened(browser, blocks=True) as page,
    ):
        await page.goto(at.redirector.address + LINK)
        await page.wait_for_url(f"{at.notebook}s1/?token=*")


async def test_member_unreadable_page_shows_why(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    async with (
        federation(serve, tmp_path, second={"BinderHub.badge_base_url": ""}) as at,
        opened(browser) as page,
    ):
        await page.goto(at.redirector.address + LINK)
        cause, advice = await failure(page)
        assert "redirected to another server, and this page may not read its answers (CORS)" in cause
        assert "BinderHub.cors_allow_origin" in advice
        assert at.members[1].gate.launches == 0


async def test_member_with_another_secret_is_reported(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    other = {"BinderHub.build_token_secret": "cd" * 32}
    async with federation(serve, tmp_path, second=other) as at, opened(browser) as page:
        await page.goto(at.redirector.address + LINK)
        cause, advice = await failure(page)
        assert cause == "Invalid build token"
        assert "BinderHub.build_token_secret" in advice


async def test_member_demanding_a_token_is_named(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    async with (
        federation(serve, tmp_path, token=Secret("a-token-of-the-second-member")) as at,
        opened(browser) as page,
    ):
        await page.goto(at.redirector.address + LINK)
        cause, advice = await failure(page)
        member = at.redirector.members[1]
        assert cause.startswith(f"This launch was redirected to {urlsplit(member).netloc}, which demands")
        assert advice == f"Open the link there: {member}/{LINK}"


async def test_redirector_answering_404_ends_the_launch(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    async with federation(serve, tmp_path) as at, opened(browser) as page:
        at.redirector.status = 404
        await page.goto(at.redirector.address + LINK)
        cause, _ = await failure(page)
        assert cause == "The server answers this launch with the HTTP status 404."


EMBEDDED = """(url) => new Promise((done) => {
  const source = new EventSource(url);
  source.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    if (["ready", "failed"].includes(event.phase)) { source.close(); done(event.phase); }
  };
  source.onerror = () => { source.close(); done("unreadable"); };
})"""


@pytest.mark.parametrize(
    ("origins", "end"), [("*", "ready"), ("listed", "unreadable")], ids=["any-origin", "listed-origins"]
)
async def test_embedders_origin_is_null_after_a_redirect(
    serve: Serve, browser: Browser, tmp_path: Path, origins: str, end: str
) -> None:
    async with web(lambda path: "<title>docs</title>") as (docs, _), opened(browser) as page:
        allow = {"BinderHub.cors_allow_origin": docs.rstrip("/") if origins == "listed" else origins}
        async with federation(serve, tmp_path, both=allow) as at:
            await page.goto(docs)
            assert await page.evaluate(EMBEDDED, at.redirector.address + LINK.replace("v2", "build")) == end
            if end == "ready":
                assert [each.client.origin for each in at.members[1].gate.requests] == ["null"]
            else:
                (reason,) = [e["reason"] for e in at.members[1].logged if "was refused" in e["event"]]
                assert "Origin: null" in reason
            # Without a redirector in between, the browser names the page.
            direct = at.fronts[0].address + LINK.replace("v2", "build")
            assert await page.evaluate(EMBEDDED, direct) == "ready"
