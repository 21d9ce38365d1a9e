"""The launch page in a real Chromium, in every state that it has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import Browser, Page, expect
from realparts.browsing import LINK, LOOKS, NOTEBOOK, breakable, opened, shot, stage, web
from ringbinder.model import Diagnosis, Failure, LaunchRequest
from ringbinder.runtime.store import KeptLog

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

pytestmark = pytest.mark.real("chromium")

CACHED = {"FakeRegistry.cached": "true"}


async def icon(page: Page) -> str:
    return re.sub(r".*/favicon-?|\.svg", "", await page.locator("#favicon").get_attribute("href") or "")


class Queue:
    """A policy that lets nobody build before it is open, and says the place."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.moved = asyncio.Event()

    async def admit(self, ticket: Any) -> Any:
        if ticket.stage == "build":
            ticket.notify("Waiting for a free place", queue={"position": 3, "eta_s": 240.0})
            await self.moved.wait()
            ticket.notify("Waiting for a free place", queue={"position": 1, "eta_s": None})
            await self.open.wait()
        return nothing()


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


class Stuck:
    """A resolve, or a push that has come half way, until it is open."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.open = asyncio.Event()

    async def resolve(self, request: Any) -> None:
        if self.at == "resolve":
            await self.open.wait()

    async def push(self, image: Any, target: Any, log: Any) -> None:
        layers: dict[str, Any] = {
            "sha256:4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1": "Layer already exists",
            "9b1ff7f2c6d0": {"current": 12_300_000, "total": 48_000_000},
            "0c1a4ad52f88": {"current": 900, "total": 950},
            "<b>odd</b>": "Preparing",
        }
        log.progress(layers)
        if self.at == "push":
            await self.open.wait()
        log.progress({**layers, "9b1ff7f2c6d0": "Pushed"})


def remember(live: Live, image: str, outcome: Any, seconds: float) -> None:
    """As if the image had been built before; nobody else writes here."""
    now = live.binder.services.clock.time()
    live.binder.services.store.keep_log(KeptLog("ab" * 16, image, outcome, now, seconds, b""))


@pytest.mark.parametrize(
    "look",
    [pytest.param(look, marks=[pytest.mark.quick] if look == "light" else []) for look in LOOKS],  # that of `make test`
)
async def test_waiting_queued_building_pushing(serve: Serve, browser: Browser, look: str) -> None:
    lookup, queue, store = Stuck("resolve"), Queue(), Stuck("push")
    async with web(lambda path: NOTEBOOK) as (notebook, _), serve(gate=True) as live:
        live.gate.url = notebook
        live.gate.shut()
        for name, plugin in (("lookup", lookup), ("queue", queue), ("store", store)):
            live.binder.plugins.hooks.register(plugin, name, general=True)
        async with opened(browser, **LOOKS[look]) as page:
            await page.goto(live.address + LINK + "?urlpath=lab/tree/index.ipynb")
            await expect(page).to_have_title("Waiting · owner/name · Ringbinder")
            await expect(page.locator("#status")).to_have_text("Looking up the repository")
            await shot(page, f"waiting-{look}")
            lookup.open.set()
            await expect(page.locator("#status")).to_have_text("Place 3 in the queue, about 4 min.")
            await expect(page).to_have_title("Queued (3) · owner/name · Ringbinder")
            await expect(page.locator("#estimate")).to_have_text("This version must be built first.")
            await shot(page, f"queued-{look}")
            queue.moved.set()
            await expect(page.locator("#status")).to_have_text("Place 1 in the queue.")
            queue.open.set()
            await expect(page.locator("#log")).to_contain_text("gate: building")
            await expect(page).to_have_title("Building · owner/name · Ringbinder")
            await expect(stage(page, "waiting")).to_have_attribute("data-state", "done")
            await expect(stage(page, "building")).to_have_attribute("aria-current", "step")
            await expect(stage(page, "building").locator(".time")).to_have_text("0:01")
            assert await icon(page) == "building"
            await shot(page, f"building-{look}")
            live.gate.open.set()
            await expect(page).to_have_title("Storing · owner/name · Ringbinder")
            layers = page.locator("#layers li")
            await expect(layers).to_have_text(
                [
                    "4f4fb700ef54Layer already exists",
                    "9b1ff7f2c6d012 MB of 48 MB",
                    "0c1a4ad52f88900 B of 950 B",
                    "<b>odd</b>Preparing",
                ]
            )
            await expect(page.locator("#status")).to_contain_text("1 of 4 layers, 25 %")
            await shot(page, f"pushing-{look}")
            store.open.set()
            await page.wait_for_url(f"{notebook}s1/lab/tree/index.ipynb?token=*")


async def test_ready_when_the_redirect_leads_nowhere(serve: Serve, browser: Browser) -> None:
    async with web(lambda path: None) as (nowhere, _), serve({**CACHED, "FakeLauncher.url": nowhere}) as live:
        for look, options in LOOKS.items():
            async with opened(browser, **options) as page:
                await page.goto(live.address + LINK)
                await expect(page.locator("#ready")).to_be_visible()
                await expect(page).to_have_title("Ready · owner/name · Ringbinder")
                href = await page.locator("#open").get_attribute("href")
                assert href is not None
                assert href.startswith(nowhere + "?token=")
                assert await icon(page) == "ready"
                await expect(stage(page, "building").locator(".time")).to_have_text("not needed")
                await expect(page.locator("#estimate")).to_be_empty()
                await shot(page, f"ready-{look}")


@pytest.mark.parametrize(
    ("urlpath", "opened_path"),
    [
        ("?urlpath=%2Flab%2Ftree%2Fa%20b.ipynb", "lab/tree/a%20b.ipynb?token=*"),
        ("?urlpath=rstudio&labpath=n%5B1%5D.ipynb%23Results", "doc/tree/n%5B1%5D.ipynb?token=*#Results"),
        ("?filepath=folder/", "tree/folder?token=*"),
        (
            "?urlpath=git-pull%3Frepo%3Dhttps%253A%252F%252Fx.example%252Fr",
            "git-pull?repo=https%3A%2F%2Fx.example%2Fr&token=*",
        ),
        ("", "?token=*"),
    ],
)
async def test_where_it_goes(serve: Serve, browser: Browser, urlpath: str, opened_path: str) -> None:
    async with (
        web(lambda path: NOTEBOOK) as (notebook, _),
        serve({**CACHED, "FakeLauncher.url": notebook + "user/x/"}) as live,
        opened(browser) as page,
    ):
        await page.goto(live.address + LINK + urlpath)
        await expect(page).to_have_title("A notebook")
        pattern = re.escape(f"{notebook}user/x/{opened_path}").replace(r"token=\*", "token=[0-9a-f]{32}")
        assert re.fullmatch(pattern, page.url), page.url


@pytest.mark.parametrize("look", ["dark", "phone"])
async def test_a_reload_goes_on_with_the_same_launch(serve: Serve, browser: Browser, look: str) -> None:
    async with web(lambda path: NOTEBOOK) as (notebook, _), serve(gate=True) as live:
        live.gate.url = notebook
        live.gate.shut()
        async with opened(browser, **LOOKS[look]) as page:
            await page.goto(live.address + LINK)
            await expect(page.locator("#log")).to_contain_text("gate: building")
            await expect(stage(page, "building").locator(".time")).to_have_text("0:01")
            before = await page.locator("#log").inner_text()
            await page.reload()
            await expect(page.locator("#log")).to_have_text(before)
            # The time goes on as well.
            await expect(stage(page, "building").locator(".time")).to_have_text(re.compile("0:0[1-9]"))
            await shot(page, f"resumed-{look}")
            live.gate.open.set()
            await page.wait_for_url(f"{notebook}s1/?token=*")
        assert (len(live.binder.sessions.known), len(live.gate.builds), live.gate.launches) == (1, 1, 1)


async def test_a_lost_connection_is_taken_up_again(serve: Serve, browser: Browser) -> None:
    async with (
        web(lambda path: NOTEBOOK) as (notebook, _),
        serve(gate=True) as live,
        breakable(live.address) as (address, cut),
        opened(browser) as page,
    ):
        live.gate.url = notebook
        live.gate.shut()
        await page.goto(address + LINK)
        await expect(page.locator("#log")).to_contain_text("gate: building")
        before = await page.locator("#log").inner_text()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/build/" in request.url else None)
        cut()
        await expect(page.locator("#status")).to_contain_text("connection was lost")
        await shot(page, "lost")
        await expect(page.locator("#status")).to_contain_text("Building the environment")
        await expect(page.locator("#log")).to_have_text(before)
        assert asked
        assert not any("build_token" in url for url in asked)  # it may be too old by then
        live.gate.open.set()
        await page.wait_for_url(f"{notebook}s1/?token=*")
        assert (len(live.binder.sessions.known), len(live.gate.builds), live.gate.launches) == (1, 1, 1)
        assert any(request.build_token for request in live.gate.requests)


@pytest.mark.parametrize("replaced", [True, False])
async def test_a_server_that_shuts_down_is_waited_for(
    serve: Serve, browser: Browser, tmp_path: Path, replaced: bool
) -> None:
    """As in a rolling upgrade: the page goes on at the server that takes its place, and nobody clicks."""
    async with (
        web(lambda path: NOTEBOOK) as (notebook, _),
        serve({"Ringbinder.state_folder": str(tmp_path / "second")}, gate=True) as second,
        AsyncExitStack() as first,
        opened(browser) as page,
    ):
        live = await first.enter_async_context(serve(gate=True))
        live.gate.shut()
        second.gate.url = notebook
        async with breakable(live.address, second.address) as (address, _):
            await page.clock.install()
            await page.goto(address + LINK)
            await expect(page.locator("#log")).to_contain_text("gate: building")
            await page.route("**/build/**", lambda route: route.abort())
            await first.aclose()
            await expect(page.locator("#status")).to_contain_text("Going on as soon as one answers")
            await shot(page, "stopped")
            if replaced:
                await page.unroute("**/build/**")
                async with page.expect_request("**/build/**"):
                    await page.clock.run_for(20_000)
                # The second server answers in its own time: the page's must not run out meanwhile.
                await page.clock.resume()
                await page.wait_for_url(f"{notebook}s1/?token=*")
                assert (len(second.gate.builds), second.gate.launches) == (1, 1)
            else:
                async with asyncio.timeout(60):
                    while await page.locator("#failed").is_hidden():
                        await page.clock.run_for(20_000)
                await expect(page.locator("#cause")).to_contain_text("Ringbinder is shutting down")


class Failing:
    """A builder that fails, and somebody who knows why."""

    def __init__(self) -> None:
        self.works = False

    async def build(self, plan: Any, target: Any, log: Any) -> Any:
        if self.works:
            return None
        for number in range(200):
            log.line(f"line {number}\n")
            if number == 20:
                log.line("\x1b[1;31mERROR: No matching distribution found for nunpy==1.0\x1b[0m\n")
        raise RuntimeError("no")

    async def diagnose(self, failure: Failure) -> Diagnosis:
        return Diagnosis(
            "Package <b>nunpy</b> does not exist.",
            line="ERROR: No matching distribution found for nunpy==1.0",
            advice='Did you mean "numpy"? Mend requirements.txt and launch again.',
            code="no-such-package",
        )


async def test_failure_shows_why_and_what_to_do(serve: Serve, browser: Browser) -> None:
    async with web(lambda path: NOTEBOOK) as (notebook, _), serve({"FakeLauncher.url": notebook}) as live:
        failing = Failing()
        live.binder.plugins.hooks.register(failing, "failing", general=True)
        for look, options in LOOKS.items():
            async with opened(browser, **options) as page:
                await page.goto(live.address + LINK)
                await expect(page.locator("#failed")).to_be_visible()
                await expect(page).to_have_title("Failed · owner/name · Ringbinder")
                await expect(stage(page, "building")).to_have_attribute("data-state", "failed")
                assert await icon(page) == "failed"
                await expect(page.locator("#cause")).to_have_text("Package <b>nunpy</b> does not exist.")
                await expect(page.locator("#advice")).to_contain_text('Did you mean "numpy"?')
                await expect(page.locator("#line")).to_contain_text("No matching distribution")
                await expect(page.locator("#failed")).to_be_focused()  # not a button that a key could press
                await expect(page.get_by_role("button", name="Try again")).to_be_enabled()
                await shot(page, f"failed-{look}")
        async with opened(browser) as page:
            await page.goto(live.address + LINK)
            await page.get_by_role("button", name="Show it in the log").click()
            await expect(page.locator("#log .hit.now")).to_contain_text("No matching distribution")
            await expect(page.locator("#log .hit.now")).to_be_in_viewport()
            await shot(page, "failed-line")
            whole = page.get_by_role("link", name="Full log of the build")
            text = await live.client.get(live.address + (await whole.get_attribute("href") or "")[1:])
            assert text.text.startswith("line 0\nline 1\n")
            failing.works = True
            await page.get_by_role("button", name="Try again").click()
            await page.wait_for_url(f"{notebook}?token=*")


async def test_honest_estimates(serve: Serve, browser: Browser) -> None:
    async with web(lambda path: NOTEBOOK) as (notebook, _), serve(gate=True) as live:
        live.gate.url = notebook
        repo = await live.binder.resolve(LaunchRequest("fake", "owner/name/main"))
        image = live.binder.pipeline.plan(repo).image
        remember(live, image, "success", 372.0)
        state = live.address + LINK.replace("v2", "api/v1/images", 1)
        assert (await live.client.get(state)).json()["usual_launch_seconds"] is None
        live.gate.shut()
        async with opened(browser) as page:
            await page.goto(live.address + LINK)
            estimate = page.locator("#estimate")
            await expect(estimate).to_have_text("About 6 min left: it took 6 min last time.")
            await shot(page, "estimate-building")
            live.gate.open.set()
            await page.wait_for_url(f"{notebook}s1/?token=*")
        async with opened(browser) as page:  # at once, while what was known before is still remembered
            live.gate.shut()
            await page.goto(live.address + LINK)
            await expect(page.locator("#status")).to_have_text("Starting your server")
            await expect(page.locator("#estimate")).to_contain_text("usual")
            await shot(page, "estimate-launching")
            live.gate.open.set()
            await page.wait_for_url(f"{notebook}s2/?token=*")


async def test_sentences_of_an_estimate(serve: Serve, browser: Browser) -> None:
    now = 1_800_000_000
    cold = {"built": False, "built_at": None, "last_build_seconds": None, "usual_launch_seconds": None}
    base = {**cold, "queue": None, "state": "cold"}
    ready = {**base, "built": True, "state": "ready"}
    sentences: list[tuple[str, float, dict[str, Any] | None, str]] = [
        ("waiting", 0, None, ""),
        ("waiting", 0, base, "This version must be built first."),
        (
            "waiting",
            0,
            {**base, "last_build_seconds": 372, "queue": {"position": 3}},
            "This version must be built: last time that took 6 min, 2 before you.",
        ),
        ("waiting", 0, {**base, "queue": {"position": 1}}, "This version must be built first, you are next."),
        (
            "waiting",
            0,
            {**base, "state": "broken"},
            "The last build of this version failed. This version must be built first.",
        ),
        (
            "waiting",
            0,
            {**base, "state": "building", "last_build_seconds": 40},
            "It is being built now: last time that took 40 s.",
        ),
        ("waiting", 0, ready, "Built already."),
        (
            "waiting",
            0,
            {**ready, "built_at": now - 3 * 86400 - 5, "usual_launch_seconds": 12.2},
            "Built 3 days ago, usually ready in 12 s.",
        ),
        ("waiting", 0, {**ready, "built_at": now - 86400}, "Built yesterday."),
        ("waiting", 0, {**ready, "built_at": now + 30}, "Built just now."),
        ("building", 60, {**base, "last_build_seconds": 7200}, "About 2 h left: it took 2 h last time."),
        ("pushing", 400, {**base, "last_build_seconds": 372}, "Any moment now: it took 6 min last time."),
        ("pushing", 600, {**base, "last_build_seconds": 372}, "This takes longer than last time (6 min)."),
        ("launching", 4, {**ready, "usual_launch_seconds": 12}, "About 8 s left: it usually takes 12 s."),
        ("launching", 14, {**ready, "usual_launch_seconds": 12}, "Any moment now: it usually takes 12 s."),
        ("launching", 19, {**ready, "usual_launch_seconds": 12}, "This takes longer than usual (12 s)."),
        ("launching", 0.5, {**ready, "usual_launch_seconds": 0}, "About 1 s left: it usually takes 1 s."),
        ("launching", 14, ready, ""),
        ("building", 14, base, ""),
    ]
    async with serve() as live, opened(browser) as page:
        await page.clock.set_fixed_time(now)
        await page.goto(live.address)
        module = re.sub(
            "page.css", "estimate.js", await page.locator("link[rel=stylesheet]").get_attribute("href") or ""
        )
        for name, elapsed, known, sentence in sentences:
            reason = await page.evaluate(
                "async ([module, ...given]) => (await import(module)).during(...given)",
                [module, name, elapsed, known],
            )
            assert reason == sentence


async def test_an_odd_path_to_open_is_refused(serve: Serve, browser: Browser) -> None:
    async with serve(gate=True) as live, opened(browser) as page:
        await page.goto(live.address + LINK + "?urlpath=https://evil.example/")
        await expect(page.locator("#failed")).to_contain_text("must be a path in the launched server")
        await shot(page, "refused")
        assert live.gate.requests == []


async def test_less_motion_where_it_is_asked_for(serve: Serve, browser: Browser) -> None:
    async with serve(gate=True) as live:
        live.gate.shut()
        for motion, turns in (("no-preference", "turn"), ("reduce", "none")):
            async with opened(browser, reduced_motion=motion) as page:
                await page.goto(live.address + LINK)
                mark = stage(page, "building").locator(".mark")
                await expect(mark).to_have_css("animation-name", turns)


async def test_the_launch_page_is_small(serve: Serve, browser: Browser) -> None:
    async with serve(gate=True) as live, opened(browser) as page:
        live.gate.shut()
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Network.enable")
        urls: dict[str, str] = {}
        sizes: dict[str, int] = {}
        devtools.on("Network.responseReceived", lambda it: urls.update({it["requestId"]: it["response"]["url"]}))
        devtools.on("Network.loadingFinished", lambda it: sizes.update({it["requestId"]: it["encodedDataLength"]}))
        await page.goto(live.address + LINK)
        await expect(page.locator("#log")).to_contain_text("gate: building")
        loaded = {urls[id].removeprefix(live.address): size for id, size in sizes.items()}
        assert {"launch.js", "page.css", "log.js"} <= {url.rpartition("/")[2] for url in loaded}
        assert all(url.startswith(("v2/", "static/", "api/")) for url in loaded), "nothing from elsewhere"
        assert sum(loaded.values()) < 60_000, loaded
