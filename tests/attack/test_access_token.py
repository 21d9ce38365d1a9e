"""A server on one's own machine answers only to who has the token that it printed, whatever headers say."""

from __future__ import annotations

import os
import re
import stat
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from aiohttp import web
from ringbinder.config.loading import load
from ringbinder.errors import ConfigError
from ringbinder.secret import Secret
from ringbinder.testing.clock import FakeClock
from ringbinder_embedded.jupyter import Jupyter
from ringbinder_server.app import create_app
from ringbinder_server.cli.exitcodes import ExitCode
from ringbinder_server.security.access_token import Access

if TYPE_CHECKING:
    from realparts.program import Program
    from realparts.serving import Serve

TOKEN = "planted-hunter2-access"
FORGED: tuple[dict[str, str], ...] = (
    {},
    {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "same-origin", "X-Xsrftoken": "page", "Accept": "text/event-stream"},
    {"Origin": "{origin}", "Sec-Fetch-Site": "same-origin"},
    {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1"},
    {"Authorization": "Bearer null"},
    {"Authorization": "Bearer 99999999999." + "0" * 64},
)
OPEN = {
    "api.health", "api.versions", "pages.static", "pages.badge", "pages.badge_logo", "pages.favicon",
}  # fmt: skip
BY_COOKIE = {
    "pages.home", "pages.about", "pages.launch", "redirects.repo", "notebooks.all", "builds.log",
}  # fmt: skip


def passes(page: str, response: httpx.Response) -> tuple[str, str]:
    """The cookie, as a browser sends it, and the key that opening the address with the token gives."""
    key = re.search(r'setItem\("ringbinder-access /", "([^"]+)"\)', page)
    assert key is not None
    return response.headers["set-cookie"].partition(";")[0], key[1]


def test_own_machine_demands_the_token_that_it_prints(ringbinder: Program) -> None:
    sets = ("--set", "Ringbinder.extra_plugins=[fake]", "--set", "Fake.fail_at=resolve")
    with (
        ringbinder.start("serve", "-vv", "--port", 0, *sets) as process,
        # Each request has a connection of its own: the server may just be closing one that was idle.
        httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client,
        ExitStack() as stack,
    ):
        stack.callback(process.terminate)
        assert process.stdout is not None
        assert process.stderr is not None
        printed = httpx.URL(process.stdout.readline().split()[-1])
        token = printed.params["token"]
        assert len(token) > 40
        base = str(printed.copy_remove_param("token"))
        origin, port = base.rstrip("/"), str(printed.port)
        for headers in FORGED:
            sent = {name: value.format(origin=origin, port=port) for name, value in headers.items()}
            for path in (
                "build/fake/a/b/c",
                "notebooks/0123456789abcdef/open",
                "api/v1/link?text=x",
                "metrics",
            ):
                assert client.get(base + path, headers=sent).status_code == 401, (path, sent)
            for path in ("api/v1/launches", "notebooks/0123456789abcdef/open", "notebooks/0/stop"):
                assert client.post(base + path, headers=sent, json={}).status_code == 401, (path, sent)
        assert client.get(base + "health").status_code == 200
        entered = httpx.get(printed, trust_env=False, timeout=60)  # apart: its cookie lets in
        _, key = passes(entered.text, entered)
        for good in (token, key):
            link = client.get(base + "api/v1/link?text=fake/a/b/c", headers={"Authorization": f"Bearer {good}"})
            assert link.status_code == 200
        events = client.get(base + f"build/fake/a/b/c?token={token}").text
        assert '"phase": "' in events
        seen = psutil.Process(process.pid)
        assert token not in " ".join(seen.cmdline() + list(seen.environ().values()))
        process.terminate()
        assert process.wait(60) == 0
        log = process.stderr.read()
    assert "/build/fake/a/b/c?token=[secret]" in log
    for secret in (token, key):
        assert secret not in log
        assert secret not in events


def test_the_opened_address_shows_on_no_command_line(ringbinder: Program) -> None:
    browser, pipe = ringbinder.folder / "browser", ringbinder.folder / "pipe"
    os.mkfifo(pipe)
    browser.write_text(f'#!/bin/sh\necho "$@" > {pipe}\n')
    browser.chmod(0o755)
    terminal = ringbinder.terminal(
        "serve", "--port", 0, "--set", "Ringbinder.extra_plugins=[fake]", BROWSER=str(browser)
    )
    printed = terminal.expect(r"listens at (\S+)")
    arguments = pipe.read_text().strip()
    page = Path(urlsplit(arguments).path)
    assert arguments == page.as_uri()
    assert printed in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    terminal.ctrl_c()
    assert terminal.end() == 0
    assert not page.exists()


def test_no_token_is_demanded_where_it_is_not_wanted(ringbinder: Program) -> None:
    fake = ("--set", "Ringbinder.extra_plugins=[fake]")
    with ringbinder.start("serve", "--no-token", "--port", 0, *fake) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        assert "token" not in address
        assert httpx.get(address + "api/v1/link?text=fake/a/b/c", timeout=60).status_code == 200
        process.terminate()
        assert process.wait(60) == 0
    done = ringbinder("serve", "--no-token", "--port", 0, "--set", f"Ringbinder.access_token={TOKEN}")
    assert done.returncode == ExitCode.CONFIG
    assert "Ringbinder.access_token is set, and --no-token is given" in done.stderr
    assert TOKEN not in done.stderr + done.stdout


def test_token_is_demanded_behind_a_trusted_proxy_too(ringbinder: Program) -> None:
    proxies = "Ringbinder.trusted_proxies=[127.0.0.1]"
    with ringbinder.start("serve", "--no-browser", "--port", 0, "--set", proxies) as process:
        assert process.stdout is not None
        printed = process.stdout.readline().split()[-1]
        status = httpx.get(printed.partition("?")[0], trust_env=False).status_code
        process.terminate()
        assert process.wait(60) == 0
    assert "?token=" in printed
    assert status == 401


@pytest.mark.usefixtures("local")
async def test_every_route_is_closed_without_token(serve: Serve) -> None:
    async with serve(gate=True, token=Secret(TOKEN)) as live:
        entered = await live.client.get(live.address + f"?token={TOKEN}")
        cookie, _ = passes(entered.text, entered)
        live.client.cookies.clear()
        answered: dict[bool, set[str]] = {True: set(), False: set()}
        for rule in create_app(live.binder).url_map.iter_rules():
            path = re.sub(r"<[^>]+>", "fake", rule.rule)
            for method in (rule.methods or set()) - {"OPTIONS"}:
                for with_cookie in (False, True):
                    headers = {"Sec-Fetch-Site": "same-origin"} | ({"Cookie": cookie} if with_cookie else {})
                    response = await live.client.request(method, live.address + path[1:], headers=headers)
                    if response.status_code != 401:
                        answered[with_cookie].add(rule.endpoint)
        assert answered[False] == OPEN
        assert answered[True] == OPEN | BY_COOKIE
        assert live.gate.requests == []


@pytest.mark.usefixtures("local")
async def test_the_cookie_alone_shows_no_notebook(serve: Serve) -> None:
    async with serve(token=Secret(TOKEN)) as live:
        entered = await live.client.get(live.address + f"?token={TOKEN}")
        _, key = passes(entered.text, entered)
        shell = await live.client.get(live.address + "notebooks")
        assert (shell.status_code, "data-empty" in shell.text) == (200, True)
        whole = await live.client.get(live.address + "notebooks", headers={"Authorization": f"Bearer {key}"})
        assert (whole.status_code, "data-empty" in whole.text) == (200, False)


def test_passes_expire_and_are_of_one_kind_and_one_token() -> None:
    clock = FakeClock()
    mine, other = (Access(Secret(text), clock, "/") for text in (TOKEN, TOKEN + "x"))
    cookie, key = mine.new_pass("cookie"), mine.new_pass("key")
    assert mine.is_pass("cookie", cookie)
    assert mine.is_pass("key", key)
    assert not mine.is_pass("key", cookie)
    assert not mine.is_pass("cookie", key)
    assert not other.is_pass("key", key)
    expires, _, mac = key.partition(".")
    assert not mine.is_pass("key", f"{int(expires) + 1}.{mac}")
    assert not mine.is_pass("key", f"{expires}.{mac}\n")
    clock.now += 12 * 3600 - 1
    assert mine.is_pass("key", key)
    clock.now += 1
    assert not mine.is_pass("key", key)
    assert not mine.is_pass("cookie", cookie)


@pytest.mark.parametrize("text", ["", "short"])
def test_token_that_can_be_guessed_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="access_token has at least 8 characters"):
        load((), environ={}, sets=[f"Ringbinder.access_token='{text}'"])


async def test_a_probe_of_a_notebook_follows_no_redirect(serve: Serve) -> None:
    async with serve(gate=True) as live:
        asked = []

        async def answer(request: web.Request) -> web.Response:
            asked.append(request.path)
            raise web.HTTPFound(live.address + "build/fake/a/b/c")

        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        notebook = SimpleNamespace(port=SimpleNamespace(address=f"http://127.0.0.1:{port}/"), token=Secret(TOKEN))
        assert await cast("Any", Jupyter).ask(notebook, "api/status") is None
        assert asked == ["/api/status"]
        assert live.gate.requests == []
        await runner.cleanup()
