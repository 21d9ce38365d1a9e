"""Whatever is sent to `/build`: the path is taken as it is, and there is always an answer."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

CACHED = {"FakeRegistry.cached": "true"}
UNLIMITED = {"RateLimiter.limit": "0", "Ringbinder.max_sessions_per_client": "10000"}


def exchange(live: Live, target: bytes, headers: bytes = b"Host: localhost\r\n") -> bytes:
    """The answer to a GET of exactly `target` with exactly `headers`; in another thread than the server's."""
    address = urlsplit(live.address)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=60) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\n%sConnection: close\r\n\r\n" % (target, headers))
        with connection.makefile("rb") as answer:
            return answer.read()


PATH = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?"), min_size=1)
ENCODED = st.one_of(
    PATH,
    st.lists(st.sampled_from(["%2F", "%2f", "/", "a", "..", ".", "%", "%0A", "%00", "#"]), min_size=1).map("".join),
)


async def test_the_spec_is_the_raw_path(serve: Serve) -> None:
    async with serve({**UNLIMITED, "BinderHub.base_url": "/bin/"}, gate=True) as live:

        @settings(max_examples=200)
        @given(spec=ENCODED)
        @example(spec="foo%2Fbar/ref")
        @example(spec="https%3A%2F%2Fx.example%2Fy/main")
        @example(spec="%2Fx")
        @example(spec="//a//b")
        @example(spec="a/../b")
        @example(spec="x//")
        def check(spec: str) -> None:
            live.gate.requests.clear()
            exchange(live, b"/bin/build/fake/" + spec.encode())
            assert [request.spec for request in live.gate.requests] == [spec.rstrip("/")]
            assert live.gate.requests[0].provider == "fake"

        await asyncio.to_thread(check)


READ = (
    "Host", "Accept", "Origin", "Sec-Fetch-Site", "User-Agent", "Last-Event-ID", "Authorization", "Cookie",
    "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-Ip", "X-Scheme", "X-Request-ID", "X-Xsrftoken",
)  # fmt: skip
ODD = st.one_of(
    st.binary(max_size=40).map(lambda value: value.translate(None, b"\r\n\0")),
    st.sampled_from(
        [
            b"", b"null", b"*", b"*/*;q=", b"text/event-stream;q=nan", b"text/event-stream;q=1e999", b";,;,", b"[",
            b"[::1", b"localhost:99999999", b"a@b", b"http://[", b"https://localhost:x",
            b"0" * 32 + b".9" * 20, b"x.1.end",
            b"." * 9, b"1.2.3.4, , ::", b"Bearer", b"ringbinder-access=\xff", b"9" * 5000,
        ]
    ),
)  # fmt: skip


async def test_any_headers_get_an_answer(serve: Serve) -> None:
    async with serve({**CACHED, **UNLIMITED, "Ringbinder.trusted_proxies": "[127.0.0.0/8]"}) as live:

        @settings(max_examples=200)
        @given(headers=st.lists(st.tuples(st.sampled_from(READ), ODD), max_size=6))
        def check(headers: list[tuple[str, bytes]]) -> None:
            host = b"" if any(name == "Host" for name, _ in headers) else b"Host: localhost\r\n"
            sent = host + b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in headers)
            answer = exchange(live, b"/build/fake/owner/name/main", sent)
            status = int(answer.split(b" ", 2)[1])
            # 400: it was no HTTP; 204: an id whose stream has ended.
            assert status in (200, 204, 400), sent
            if status == 200:
                assert answer.count(b'"phase": "ready"') + answer.count(b'"phase": "failed"') == 1, sent

        await asyncio.to_thread(check)
        assert not [entry for entry in live.logged if entry["event"] == "internal error"]


async def test_a_target_with_scheme_and_host_is_the_same(serve: Serve) -> None:
    async with serve(CACHED, gate=True) as live:
        answer = await asyncio.to_thread(exchange, live, b"http://localhost/build/fake/a%2Fb/c/d")
        assert b'"phase": "ready"' in answer
        assert live.gate.requests[0].spec == "a%2Fb/c/d"


@pytest.mark.parametrize("host", [b"." * 9, b".", b"a..b:8585", b"a" * 64, b"." * 9 + b":80"])
async def test_a_host_that_is_no_name_is_reported(serve: Serve, host: bytes) -> None:
    async with serve(CACHED, gate=True) as live:
        for path in (b"/build/fake/a/b/c", b"/", b"/v2/fake/a/b/c", b"/health", b"/nope"):
            for accept in (b"text/html", b"application/json"):
                headers = b"Host: %s\r\nAccept: %s\r\n" % (host, accept)
                answer = await asyncio.to_thread(exchange, live, path, headers)
                assert answer.startswith(b"HTTP/1.1 400 "), (path, answer)
                assert b"The header Host of this request is not the name of a host." in answer
                assert b"content-type: " + accept in answer.lower()
                assert b"content-security-policy: default-src 'self'" in answer.lower()
        assert live.gate.requests == []
        assert not [entry for entry in live.logged if entry["event"] == "internal error"]
