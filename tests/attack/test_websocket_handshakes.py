"""WebSocket handshakes: this server has none, and nothing is let in by one that would not be let in without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .raw_requests import entries, talk

if TYPE_CHECKING:
    from realparts.serving import Serve

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LINK = "/build/fake/owner/name/main"


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
@pytest.mark.parametrize(
    "path",
    ["/", "/nowhere", "/health", LINK, "/api/v1/launches", "//evil.example/x", "http://x/y", "*", "/%"],
)
@pytest.mark.parametrize("token", [False, True])
async def test_websocket_handshake_is_refused(serve: Serve, path: str, host: str, token: bool) -> None:
    sets = {"Ringbinder.access_token": "planted-access"} if token else {}
    async with serve(sets) as live:
        answer = await talk(live, HANDSHAKE.format(path=path, host=host))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.endswith(b"\r\n\r\n"), "a body that nobody checked"
        assert [entry["event"] for entry in entries(live)] == ["request"], "more than the access line"
        assert (entries(live)[0]["method"], entries(live)[0]["status"]) == ("WEBSOCKET", 403)
        assert live.gate.requests == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        ("Host: 127.0.0.1", "Host: not a host"),
    ],
)
async def test_websocket_handshake_malformed_is_refused(serve: Serve, before: str, after: str) -> None:
    async with serve() as live:
        request = HANDSHAKE.format(path=LINK, host="127.0.0.1").replace(before, after)
        answer = await talk(live, request)
        assert answer.partition(b"\r\n")[0] in (b"HTTP/1.1 400 ", b"HTTP/1.1 403 ")
        assert {entry["event"] for entry in entries(live)} <= {"request"}
        assert live.gate.requests == []


async def test_websocket_frames_before_the_answer_end(serve: Serve) -> None:
    async with serve() as live:
        frames = "\x01\x02hi" * 1000
        assert (await talk(live, HANDSHAKE.format(path=LINK, host="127.0.0.1") + frames))[:10] == b"HTTP/1.1 4"
        assert {entry["event"] for entry in entries(live)} <= {"request"}
