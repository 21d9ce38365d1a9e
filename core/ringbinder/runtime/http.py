"""How the shared HTTP client reaches others: httpx's interface over aiohttp's connections."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError
from attrs import define, field
from httpx_aiohttp import AiohttpTransport

MAX_BODY: Final = 32 * 2**20
"""Bytes of a response that are read, where a request's extension `MAX_BYTES` says nothing else."""
MAX_BYTES: Final = "max_bytes"


def open_transport(socket_factory: Callable[[Any], socket.socket] | None = None) -> httpx.AsyncBaseTransport:
    """Opens a transport like that of the shared client, for ``httpx.AsyncClient(transport=...)`` of a plugin's own.

    Of a response no more than 32 MiB are read (an extension of the request, `MAX_BYTES`, gives another bound), and
    nothing that was compressed: `httpx.DecodingError`. `socket_factory` makes the sockets of connections without a
    proxy: it is called with the address to be connected to (an item of the list of `socket.getaddrinfo`).
    """
    return _Transport(socket_factory)


@define(eq=False)
class _Transport(httpx.AsyncBaseTransport):
    """httpx's own pool breaks down at some thirty concurrent requests; aiohttp's without a limit does not.

    Proxies are the environment's. aiohttp would read `~/.netrc` as well where it is set to trust the environment:
    in a thread for each request, and a password found there is an error where we send a token.

    What others have compressed is refused, since it could unpack to any size.
    """

    socket_factory: Callable[[Any], socket.socket] | None = None
    """Makes the socket of each connection, as aiohttp's connector calls it; None: the usual one."""
    _proxies: Mapping[str, str] = field(factory=urllib.request.getproxies, init=False)
    _by_proxy: dict[str, AiohttpTransport] = field(factory=dict, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, for httpx. Raises httpx's errors."""
        proxy = self._proxy_for(request.url)
        if proxy not in self._by_proxy:
            factory = None if proxy else self.socket_factory
            self._by_proxy[proxy] = AiohttpTransport(
                proxy=httpx.Proxy(proxy) if proxy else None,
                client=lambda: aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, socket_factory=factory), cookie_jar=aiohttp.DummyCookieJar()
                ),
            )
        request.headers["Accept-Encoding"] = "identity"
        with _as_httpx():
            response = await self._by_proxy[proxy].handle_async_request(request)
        response.stream = _Bounded(
            response.stream,  # type: ignore[arg-type]  # that of an asynchronous transport is asynchronous
            int(request.extensions.get(MAX_BYTES, MAX_BODY)),
            response.headers.get("content-encoding", "identity").strip().lower(),
        )
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._by_proxy.values():
            await transport.aclose()

    def _proxy_for(self, url: httpx.URL) -> str:
        """Its address (``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy``), or empty."""
        found = self._proxies.get(url.scheme) or self._proxies.get("all", "")
        if not found or urllib.request.proxy_bypass(url.host):
            return ""
        return found if "://" in found else f"http://{found}"


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Raises what httpx's callers expect for aiohttp's errors that httpx-aiohttp 0.1 lets through."""
    try:
        yield
    except (aiohttp.ClientError, HttpProcessingError) as error:
        raise httpx.RemoteProtocolError(" ".join(str(error).split()) or type(error).__name__) from error


@define(eq=False)
class _Bounded(httpx.AsyncByteStream):
    inner: httpx.AsyncByteStream
    limit: int
    encoding: str

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self.limit
        with _as_httpx():
            async for chunk in self.inner:
                if chunk and self.encoding != "identity":
                    raise httpx.DecodingError("the response is compressed, which was not asked for")
                if (left := left - len(chunk)) < 0:
                    raise httpx.ReadError(f"the response has more than {self.limit} bytes")
                yield chunk

    async def aclose(self) -> None:
        await self.inner.aclose()
