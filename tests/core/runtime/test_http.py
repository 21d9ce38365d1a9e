"""The shared HTTP client and what the environment says of proxies and passwords."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from ringbinder.runtime.http import open_transport
from ringbinder.testing import make_context

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


@asynccontextmanager
async def listening(content: bytes = ANSWER) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server's address, and the heads of the requests that it has got."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def get(url: str, token: str = "") -> str:
    headers = {"Authorization": f"token {token}"} if token else {}
    async with httpx.AsyncClient(transport=open_transport()) as client:
        return (await client.get(url, headers=headers)).text


@pytest.mark.parametrize("form", ["http://{}", "{}", "http://me:word@{}"])
async def test_the_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    async with listening() as (proxy, heads):
        monkeypatch.setenv("http_proxy", form.format(proxy))
        assert await get("http://elsewhere.example/page") == "hi"
    assert heads[0].startswith(b"GET http://elsewhere.example/page HTTP/1.1")
    assert (b"Proxy-Authorization: Basic" in heads[0]) is ("@" in form)


async def test_who_needs_no_proxy_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with listening() as (host, heads):
        assert await get(f"http://{host}/page") == "hi"
    assert heads[0].startswith(b"GET /page HTTP/1.1")


async def test_a_password_in_netrc_is_not_sent_beside_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password from-netrc\n")
    async with listening() as (host, heads):
        assert await get(f"http://{host}/", token="ours") == "hi"
        assert await get(f"http://{host}/") == "hi"
    assert b"authorization: token ours\r\n" in heads[0]
    assert b"authorization" not in heads[1].lower()


async def test_shared_client_sends_no_cookie_back(tmp_path: Path) -> None:
    answer = ANSWER.replace(b"Content-Length", b"Set-Cookie: session=one; Path=/\r\nContent-Length")
    context = make_context(tmp_path, "shelf")
    async with listening(answer) as (host, heads):
        url = f"http://localhost:{host.partition(':')[2]}/"  # for a bare address aiohttp keeps none
        for headers in ({}, {}, {"Cookie": "own=two"}):
            assert (await context.http.get(url, headers=headers)).text == "hi"
    await context.services.close()
    cookies = [line.lower() for head in heads for line in head.split(b"\r\n") if line.lower().startswith(b"cookie")]
    assert cookies == [b"cookie: own=two"]


async def test_answer_that_is_no_http_is_an_error_of_httpx() -> None:
    async with listening(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as (host, _):
        with pytest.raises(httpx.RemoteProtocolError):
            await get(f"http://{host}/")
