"""What answers on a notebook's port is the notebook's own: no answer of it costs memory, or ends the watch over it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from ringbinder import process
from ringbinder.runtime.clock import SystemClock
from ringbinder.secret import Secret
from ringbinder_embedded import jupyter as jupyter_module
from ringbinder_embedded.jupyter import Jupyter, _Port
from ringbinder_embedded.sessions import Session
from ringbinder_embedded.watch import Watch, last_activity

_SENT_LIMIT: Final = 32 * 1024**2
"""Bytes that may be under way in the buffers of both sides."""
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_MEBIBYTE: Final = b"1," * 512 * 1024

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
statuses = plain | st.fixed_dictionaries(
    {}, optional={"last_activity": plain | st.datetimes().map(str), "connections": plain, "kernels": plain}
)
kernels = plain | st.lists(plain | st.fixed_dictionaries({"execution_state": plain}), max_size=4)


@asynccontextmanager
async def jupyter_on(port: int, tmp_path: Path) -> AsyncIterator[Jupyter]:
    command = await process.start(["sleep", "600"], cwd=tmp_path, env=process.minimal_env())
    try:
        yield Jupyter(command, _Port("127.0.0.1", port, None), Secret("planted-token"), deque(), None)
    finally:
        await command.stop(grace=0)


class Endless:
    """A server that answers every request with `chunks`, and counts the bytes until its client has gone."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.sent = 0
        self.gone = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            for chunk in self.chunks:
                writer.write(chunk)
                await writer.drain()
                self.sent += len(chunk)
        writer.close()
        self.gone.set()


ENDLESS: dict[str, list[bytes]] = {
    "body": [_HEAD + b"\r\n[", _MEBIBYTE],
    "body of a length": [_HEAD + b"Content-Length: 99999999999999\r\n\r\n[", _MEBIBYTE],
    "chunks": [_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + _MEBIBYTE + b"\r\n"],
    "one-byte chunks": [_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n1\r\n" * 10_000],
    "headers": [_HEAD, b"".join(b"X-%d: y\r\n" % number for number in range(10_000))],
    "one header": [_HEAD + b"X: ", _MEBIBYTE],
    "interim answers": [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10_000],
    "status line": [b"HTTP/1.1 200 ", _MEBIBYTE],
    "no HTTP": [_MEBIBYTE],
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_answer_without_end_is_left(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *first, repeated = ENDLESS[name]
    endless = Endless(itertools.chain(first, itertools.repeat(repeated)))
    monkeypatch.setattr(jupyter_module, "_ANSWER_SECONDS", 2.0)
    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with server, jupyter_on(server.sockets[0].getsockname()[1], tmp_path) as jupyter:
        assert await jupyter.ask("api/status") is None
        await endless.gone.wait()
    assert endless.sent < _SENT_LIMIT


async def test_redirect_is_not_followed(tmp_path: Path) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path.startswith("/api/"):
            raise web.HTTPFound("/build/gh/evil/repo/HEAD")
        return web.json_response({})

    async with serving(elsewhere) as port, jupyter_on(port, tmp_path) as jupyter:
        assert await jupyter.ask("api/status") is None
    assert asked == ["/api/status"]


async def test_compressed_answer_is_not_unpacked(tmp_path: Path) -> None:
    async def bomb(_: web.Request) -> web.Response:
        answer = web.Response(body=b"[" + b"1," * 50_000_000 + b"1]", content_type="application/json")
        answer.enable_compression(web.ContentCoding.gzip)
        return answer

    async with serving(bomb) as port, jupyter_on(port, tmp_path) as jupyter:
        assert await jupyter.ask("api/status") is None


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@given(status=statuses, kernels=kernels)
def test_any_answer_gives_a_time_or_none(status: Any, kernels: Any) -> None:
    last = last_activity(status, kernels)

    assert last is None or isinstance(last, float)


HOSTILE: tuple[tuple[bytes, bytes], ...] = (
    (b'{"last_activity": 5}', b"[]"),
    (b"{}", b"[]"),
    (b'{"last_activity": "0001-01-01T00:00:00"}', b"[]"),
    (b'{"last_activity": "2020-01-01T00:00:00Z", "connections": "0"}', b'["a", "b"]'),
    (b'{"last_activity": "2020-01-01T00:00:00Z"}', b'{"a": []}'),
    (b'{"last_activity": "2020-01-01T00:00:00Z"}', b"[[]]"),
    (b"[" * 200_000, b"[" * 200_000),
    (b"9" * 200_000, b'"\\ud800"'),
    (b"\xff\xfe", b""),
)


@pytest.mark.parametrize(("status", "kernels"), HOSTILE)
async def test_watch_outlives_any_answer(status: bytes, kernels: bytes, tmp_path: Path) -> None:
    asked = asyncio.Queue[str]()

    async def answer(request: web.Request) -> web.Response:
        asked.put_nowait(request.path)
        content = status if request.path == "/api/status" else kernels
        return web.Response(body=content, content_type="application/json")

    session = Session("0" * 16, tmp_path / "session")
    (tmp_path / "session" / "box").mkdir(parents=True)
    async with serving(answer) as port, jupyter_on(port, tmp_path) as jupyter:
        watch = Watch(jupyter, session, 0.4, 3600.0, disk_limit=0, clock=SystemClock())
        ends = asyncio.create_task(watch.until_end())
        seen = [await asked.get() for _ in range(6)]
        assert seen == ["/api/status", "/api/kernels"] * 3
        watch.stop.set()
        assert (await ends).reason == "stopped"


async def test_good_answer_reports_the_last_activity(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/api/kernels":
            return web.Response(body=json.dumps([{"execution_state": "idle"}] * 900).encode())
        return web.json_response({"last_activity": "2020-01-01T00:00:00Z", "connections": 0})

    async with serving(answer) as port, jupyter_on(port, tmp_path) as jupyter:
        status, kernels = await jupyter.ask("api/status"), await jupyter.ask("api/kernels")
    assert last_activity(status, kernels) == 1577836800.0
    assert last_activity({**status, "connections": 1}, kernels) is None
