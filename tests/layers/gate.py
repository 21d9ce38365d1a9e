"""A way to a registry that tests can close, and that keeps what passed."""

from __future__ import annotations

import inspect
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web
from attrs import define, field, frozen

_OF_THE_CONNECTION: Final = {"transfer-encoding", "content-length", "connection", "keep-alive"}


@frozen
class Passed:
    """A request that went through."""

    method: str
    path: str
    bytes: int
    """Of its body."""


@define(eq=False)
class Gate:
    """Passes requests on to the registry at `target`, whose answers name this address then."""

    target: str
    mounts: bool = True
    """False: the registry is asked for an upload wherever it is asked to mount, as those are that cannot mount."""
    closed: bool = False
    """No request is answered, its connection is closed."""
    before: Callable[[web.Request], Awaitable[None] | None] = lambda request: None
    """Called with each request; may close the gate."""
    refuses: Callable[[web.Request], bool] = lambda request: False
    """Whether a request is answered with 403 instead of being passed on."""
    after: Callable[[web.Request], None] = lambda request: None
    """Called when a request has its answer."""
    passed: list[Passed] = field(factory=list)
    host: str = ""

    @classmethod
    @asynccontextmanager
    async def open(cls, target: str) -> AsyncIterator[Gate]:
        """On a free port of 127.0.0.1."""
        gate = cls(target)
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", gate._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            gate.host = f"127.0.0.1:{runner.addresses[0][1]}"
            yield gate
        finally:
            await runner.cleanup()

    def count(self, method: str, part: str) -> int:
        """The requests with that method whose path contains `part`."""
        return sum(passed.method == method and part in passed.path for passed in self.passed)

    @property
    def sent(self) -> int:
        """Bytes that were sent to the registry."""
        return sum(passed.bytes for passed in self.passed)

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            return await self._answer(request)
        finally:
            self.after(request)

    async def _answer(self, request: web.Request) -> web.Response:
        if (waiting := self.before(request)) and inspect.isawaitable(waiting):
            await waiting
        if self.closed:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        body = await request.read()
        if self.refuses(request):
            return web.Response(status=403)
        self.passed.append(Passed(request.method, request.path, len(body)))
        query = "" if "mount" in request.query and not self.mounts else request.query_string
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, f"{self.target}{request.path}{query and f'?{query}'}",
                headers=headers, data=io.BytesIO(body) if body else b"", allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            content = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_THE_CONNECTION}
            if request.method == "HEAD":
                kept |= {"Content-Length": answer.headers.get("Content-Length", "0")}
            return web.Response(status=answer.status, headers=kept, body=content)
