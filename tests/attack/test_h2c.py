"""HTTP/2 without TLS: a proxy that lets it through would no longer see the requests behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from ringbinder_server.connections import refuse_h2c

from .raw_requests import entries, talk

if TYPE_CHECKING:
    from realparts.serving import Serve

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
UPGRADE = (
    "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: {protocol}\r\n"
    "Connection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
)


@pytest.mark.parametrize("request_", [PREFACE + SETTINGS, PREFACE, b"GET /health HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n"])
async def test_h2c_prior_knowledge_is_refused(serve: Serve, request_: bytes) -> None:
    async with serve() as live:
        answer = await talk(live, request_)
        assert answer.startswith(b"HTTP/1.1 505 ")
        assert SETTINGS[3:5] not in answer, "a frame of HTTP/2"
        assert entries(live) == []


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "h2c, websocket"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_h2c_upgrade_is_answered_by_http1(serve: Serve, protocol: str, method: str) -> None:
    async with serve() as live:
        answer = await talk(live, UPGRADE.format(method=method, path="/versions", protocol=protocol).encode())
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"upgrade" not in answer.lower()
        assert {entry["event"] for entry in entries(live)} <= {"request"}


@pytest.mark.parametrize(("negotiated", "protocol"), [("h2", H2Protocol), ("http/1.1", H11Protocol)])
async def test_h2_by_tls_is_still_spoken(negotiated: str, protocol: type) -> None:
    refuse_h2c()
    unused: Any = None
    wrapper = ProtocolWrapper(
        unused, Config(), WorkerContext(None), unused, unused, True, None, None, unused, negotiated
    )
    assert isinstance(wrapper.protocol, protocol)
    assert "h2" in Config().alpn_protocols
