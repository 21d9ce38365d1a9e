"""How the shared HTTP client reaches others: httpx's interface over aiohttp's connections."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import httpx
from attrs import define, field
from httpx_aiohttp import AiohttpTransport


@define(eq=False)
class Transport(httpx.AsyncBaseTransport):
    """httpx's own pool breaks down at some thirty concurrent requests; aiohttp's without a limit does not.

    Proxies are the environment's. aiohttp would read `~/.netrc` as well where it is told to believe the environment:
    in a thread for each request, and a password found there is an error where we send a token. `socket_factory` makes
    the sockets of connections without a proxy: it is called with the address that is going to be connected to.
    """

    socket_factory: Callable[[Any], socket.socket] | None = None
    _proxies: Mapping[str, str] = field(factory=urllib.request.getproxies, init=False)
    _by_proxy: dict[str, AiohttpTransport] = field(factory=dict, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = self._proxy_for(request.url)
        if proxy not in self._by_proxy:
            factory = None if proxy else self.socket_factory
            self._by_proxy[proxy] = AiohttpTransport(
                proxy=httpx.Proxy(proxy) if proxy else None,
                client=lambda: aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, socket_factory=factory)
                ),
            )
        return await self._by_proxy[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._by_proxy.values():
            await transport.aclose()

    def _proxy_for(self, url: httpx.URL) -> str:
        """Its address (``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy``), or empty."""
        found = self._proxies.get(url.scheme) or self._proxies.get("all", "")
        if not found or urllib.request.proxy_bypass(url.host):
            return ""
        return found if "://" in found else f"http://{found}"
