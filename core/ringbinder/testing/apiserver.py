"""A web API on the loopback that can be slow, broken, out of quota and down; for tests of providers.

    class Mine(ApiServer):
        def content(self, path, request):
            return {"id": 1} if path == "/things/1" else None

    async with Mine.running() as api:
        api.fail(503, times=1)
        ... api.address ...

Answers have an ETag, and a request that names it is answered with 304.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

from aiohttp import web
from attrs import define, field, frozen

from .stall import Stall


@frozen
class Reply:
    """What an API answers: JSON, or `body` as is."""

    status: int = 200
    """HTTP's."""
    content: Any = None
    """Anything that is JSON."""
    headers: Mapping[str, str] = field(factory=dict)
    """Beside the usual ones."""
    body: bytes | None = None
    """Sent instead of `content`, if it is there."""


@frozen
class Seen:
    """A request that has come."""

    path: str
    """As it stood in the request: percent-encoded, with its query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    status: int
    """What it was answered with."""
    body: bytes = b""
    """As it was sent."""


@define(eq=False)
class ApiServer:
    """See the module."""

    address: str = ""
    """``http://127.0.0.1:port``."""
    requests: list[Seen] = field(factory=list)
    """Those that were answered, in order."""
    quota: int | None = None
    """How many more requests are answered; 304 costs nothing."""
    reset: float = 0.0
    """Unix seconds: when the quota is renewed."""
    delay: float = 0.0
    """Seconds before each answer."""
    _failure: Reply | None = None
    _failures: int = 0
    stall: Stall = field(factory=Stall)
    """Holds answers back. Servers that are given one stall together."""

    @classmethod
    @asynccontextmanager
    async def running(cls, **fields: Any) -> AsyncIterator[Self]:
        server = cls(**fields)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield server
        finally:
            await runner.cleanup()

    def content(self, path: str, request: web.Request) -> Any:
        """What `path` (percent-encoded, without query) means: JSON, a `Reply`, or None if there is no such thing.

        May be `async`. The body of the request is what ``await request.read()`` gives; `requests` keeps it as well.
        """
        return None

    def fail(
        self, status: int, content: Any = None, *, times: int = 1_000_000, body: bytes | None = None, **headers: str
    ) -> None:
        """The next `times` requests are answered so; underscores in header names stand for dashes. 0 ends it."""
        self._failure = Reply(status, content, {k.replace("_", "-"): v for k, v in headers.items()}, body)
        self._failures = times if status else 0

    def stalled(self) -> AbstractAsyncContextManager[asyncio.Event]:
        """While entered, nothing is answered. The event is set once somebody has asked."""
        return self.stall.held()

    @property
    def paths(self) -> list[str]:
        return [seen.path for seen in self.requests]

    async def _answer(self, request: web.Request) -> web.Response:
        sent = await request.read()
        await self.stall.wait()
        await asyncio.sleep(self.delay)
        reply = await self._reply(request)
        body = json.dumps(reply.content).encode() if reply.body is None else reply.body
        status, headers = reply.status, dict(reply.headers)
        if status == 200:
            headers["ETag"] = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
            if request.headers.get("If-None-Match") == headers["ETag"]:
                status, body = 304, b""
        if self.quota is not None:
            self.quota -= status != 304 and self.quota > 0
            headers |= {"x-ratelimit-limit": "60", "x-ratelimit-remaining": str(self.quota)}
            headers["x-ratelimit-reset"] = str(int(self.reset or time.time() + 3600))
        lower = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Seen(request.raw_path, lower, status, sent))
        return web.Response(status=status, body=body, headers=headers, content_type="application/json")

    async def _reply(self, request: web.Request) -> Reply:
        if self._failures and self._failure:
            self._failures -= 1
            return self._failure
        if self.quota == 0:
            return Reply(403, {"message": "API rate limit exceeded for 192.0.2.1."})
        found = self.content(request.rel_url.raw_path, request)
        if inspect.isawaitable(found):
            found = await found
        if isinstance(found, Reply):
            return found
        return Reply(404, {"message": "Not Found"}) if found is None else Reply(content=found)
