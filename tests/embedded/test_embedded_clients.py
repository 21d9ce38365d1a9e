"""What programs and pages of other sites need of a launched server, and what they must not get."""

from __future__ import annotations

import asyncio
import socket
import time
from urllib.parse import urlsplit

import aiohttp
import pytest
from ringbinder.model import Server
from ringbinder.testing.kernel import api
from ringbinder_embedded.launcher import LocalLauncher

from .conftest import PLAN, Embedded, request

pytestmark = pytest.mark.real("uv", "jupyterlab")

PATIENCE = 90.0
ELSEWHERE = "https://pages.example"


@pytest.fixture
async def server(embedded: Embedded, launcher: LocalLauncher) -> Server:
    image = await embedded.build(embedded.plan({"a.txt": "a"}))
    return await launcher.launch(image, request(), PLAN, embedded.log)


async def test_a_cookie_jar_keeps_the_login(server: Server) -> None:
    token = server.token.reveal()
    for first in ({"headers": {"Authorization": f"token {token}"}}, {"params": {"token": token}}):
        async with aiohttp.ClientSession(server.url) as client:
            async with client.get("/api/kernels") as refused:
                assert refused.status == 403
            async with client.get("/api/kernels", **first) as answer:  # type: ignore[arg-type]
                assert answer.status == 200
                assert "SameSite=Lax" in str(answer.headers.getall("Set-Cookie"))
            async with client.get("/api/kernels") as answer:
                assert answer.status == 200, "the login cookie was not kept or not taken"
            async with client.ws_connect("/api/events/subscribe") as channel:
                assert not channel.closed


async def test_pages_of_other_sites_need_the_token(server: Server) -> None:
    token = server.token.reveal()
    foreign = {"Origin": ELSEWHERE}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with aiohttp.ClientSession(server.url) as client:
        async with client.options("/api/kernels", headers={**foreign, **asks}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == ELSEWHERE
        authorized = {**foreign, "Authorization": f"token {token}"}
        async with client.post("/api/kernels", headers=authorized) as answer:
            assert answer.status == 201, await answer.text()
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            kernel = (await answer.json())["id"]
        async with client.get("/api/kernels", params={"token": token}, headers=foreign) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        channels = f"/api/kernels/{kernel}/channels"
        async with client.ws_connect(channels, params={"token": token}, headers=foreign) as channel:
            assert not channel.closed
        # The jar holds the login now, as a browser's does: it must not open anything to another site.
        # The star is for requests without credentials: a browser shows the page nothing that a cookie opened.
        async with client.get("/api/kernels", headers=foreign) as answer:
            assert "Access-Control-Allow-Credentials" not in answer.headers
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(channels, headers=foreign)
        assert refused.value.status == 403


async def test_a_client_may_end_its_server(server: Server, launcher: LocalLauncher) -> None:
    async with api(server) as client, client.post("/api/shutdown") as answer:
        assert answer.status == 200
    deadline = time.monotonic() + PATIENCE
    while await launcher.servers():
        assert time.monotonic() < deadline, "the server was not ended"
        await asyncio.sleep(0.05)


async def test_no_one_else_can_have_localhost_while_it_runs(server: Server, launcher: LocalLauncher) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    addresses = [("127.0.0.1", socket.AF_INET)]
    if socket.has_ipv6:
        addresses.append(("::1", socket.AF_INET6))
    for address, family in addresses:
        with socket.socket(family) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match=r"in use|Cannot assign"):
                stranger.bind((address, port))
    await launcher.stop(server)
    with socket.socket(socket.AF_INET6) as next_one:
        try:
            next_one.bind(("::1", port))
        except OSError as error:
            assert "Cannot assign" in str(error), "the port is still held"  # noqa: PT017 - no IPv6 here
