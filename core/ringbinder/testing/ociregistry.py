"""An OCI registry in memory, on loopback: for tests of registries, and of builders that push.

It speaks what the distribution specification says of manifests and uploads, open, with passwords or with
tokens, and can misbehave as registries do. Needs aiohttp, which Ringbinder brings.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Literal
from urllib.parse import parse_qs

from aiohttp import web
from attrs import define, field, frozen

from .stall import Stall

Authentication = Literal["none", "basic", "token"]

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"


@frozen
class Seen:
    """A request that has arrived."""

    method: str
    """In capitals."""
    path: str
    """Without its query."""
    headers: Mapping[str, str]
    """As aiohttp has them."""
    query: str
    """Without the question mark; empty if there is none."""
    port: int
    """The client's: requests over one connection have it in common."""


@define(eq=False)
class OciServer:
    """Made by `running`. `url` is its address, `host` that without the scheme."""

    authentication: Authentication = "none"
    """How a client has to show who it is."""
    users: dict[str, str] = field(factory=dict)
    """User name -> password; these may pull and push, others nothing."""
    refuses_head: bool = False
    """Answers HEAD with 405, as some registries do."""
    missing_is_401: bool = False
    """As Docker Hub does: a repository that is not there is answered like one that is not allowed."""
    token_seconds: int | None = 300
    """What `expires_in` says; None leaves it out."""
    answers: list[web.Response] = field(factory=list)
    """The next requests (but for those to the token server) get these instead, one each."""
    seen: list[Seen] = field(factory=list)
    """In order."""
    headers: dict[str, str] = field(factory=dict)
    """Added to what is answered about manifests."""
    service: str = "oci-in-memory"
    """What the token server must be asked for."""
    token_path: str = "/token"  # noqa: S105
    """Where the token server is."""
    url: str = ""
    """``http://127.0.0.1:port``."""
    _manifests: dict[tuple[str, str], bytes] = field(factory=dict, init=False)
    _tokens: dict[str, frozenset[str]] = field(factory=dict, init=False)
    _uploads: set[str] = field(factory=set, init=False)
    _down: bool = field(default=False, init=False)
    _stall: Stall = field(factory=Stall, init=False)

    @classmethod
    @asynccontextmanager
    async def running(
        cls, authentication: Authentication = "none", users: Mapping[str, str] | None = None
    ) -> AsyncIterator[OciServer]:
        """The server, on a free port of 127.0.0.1."""
        server = cls(authentication, dict(users or {}))
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", server._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield server
        finally:
            await runner.cleanup()

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def put(self, name: str, tag: str, content: bytes = b"{}") -> str:
        """Puts an image there; returns its digest."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self._manifests[name, tag] = self._manifests[name, digest] = content
        return digest

    def remove(self, name: str, tag: str) -> None:
        del self._manifests[name, tag]

    def revoke_tokens(self) -> None:
        """No token that was given out is good any more."""
        self._tokens.clear()

    @property
    def uploads(self) -> int:
        """Uploads that were begun, and neither ended nor cancelled."""
        return len(self._uploads)

    def asked(self, method: str, part: str) -> list[Seen]:
        """The requests with that method whose path contains `part`."""
        return [seen for seen in self.seen if seen.method == method and part in seen.path]

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """While entered, connections are closed without an answer."""
        self._down = True
        try:
            yield
        finally:
            self._down = False

    def stalled(self) -> AbstractAsyncContextManager[asyncio.Event]:
        """While entered, requests are not answered; the event is set once there is one."""
        return self._stall.held()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        port = request.transport.get_extra_info("peername")[1] if request.transport else 0
        self.seen.append(Seen(request.method, request.path, headers, request.query_string, port))
        await self._stall.wait()
        if self._down and request.transport is not None:
            request.transport.close()
            return web.Response(status=503)
        if request.path == self.token_path:
            return await self._token(request)
        if self.answers:
            return self.answers.pop(0)
        return await self._registry(request)

    async def _registry(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/v2/")
        name, _, reference = path.partition("/manifests/")
        if not reference:
            name, _, reference = path.partition("/blobs/uploads")
        pull = request.method in ("GET", "HEAD")
        if not self._allowed(request, f"{name}:{'pull' if pull else 'push'}" if name else ""):
            return self._challenge(f"repository:{name}:{'pull' if pull else 'pull,push'}" if name else "")
        if not path:
            return web.json_response({})
        if "/manifests/" in path:
            return await self._manifest(request, name, reference)
        return self._upload(request, name, reference.strip("/"))

    async def _manifest(self, request: web.Request, name: str, reference: str) -> web.Response:
        if request.method == "PUT":
            digest = self.put(name, reference, await request.read())
            return web.Response(status=201, headers={"Docker-Content-Digest": digest})
        if request.method == "HEAD" and self.refuses_head:
            return web.Response(status=405)
        content = self._manifests.get((name, reference))
        if content is None and self.missing_is_401:
            return self._challenge(f"repository:{name}:pull", error="insufficient_scope")
        if content is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        headers = {"Docker-Content-Digest": digest, **self.headers}
        return web.Response(body=content, content_type=_MANIFEST, headers=headers)

    def _upload(self, request: web.Request, name: str, id: str) -> web.Response:
        if request.method == "POST":
            id = secrets.token_hex(8)
            self._uploads.add(id)
            return web.Response(status=202, headers={"Location": f"/v2/{name}/blobs/uploads/{id}"})
        if request.method == "DELETE" and id in self._uploads:
            self._uploads.discard(id)
            return web.Response(status=204)
        return _error(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")

    def _allowed(self, request: web.Request, action: str) -> bool:
        scheme, _, word = request.headers.get("Authorization", "").partition(" ")
        if self.authentication == "none":
            return True
        if self.authentication == "basic":
            return scheme == "Basic" and self._user(word) is not None
        rights = self._tokens.get(word) if scheme == "Bearer" else None
        return rights is not None and (not action or action in rights)

    def _user(self, word: str) -> str | None:
        user, _, password = base64.b64decode(word).decode().partition(":")
        return user if user in self.users and self.users[user] == password else None

    def _challenge(self, scope: str, error: str = "") -> web.Response:
        if self.authentication == "basic":
            how = 'Basic realm="in memory"'
        else:
            how = f'Bearer realm="{self.url}{self.token_path}",service="{self.service}"'
            how += f',scope="{scope}"' if scope else ""
            how += f',error="{error}"' if error else ""
        return _error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": how})

    async def _token(self, request: web.Request) -> web.Response:
        """Gives tokens to `users` alone, and only if it is asked exactly right."""
        query = parse_qs(request.query_string)
        if query.get("service") != [self.service]:
            return _error(400, "UNSUPPORTED", "exactly one service is to be named")
        _, _, word = request.headers.get("Authorization", "").partition(" ")
        if not word or self._user(word) is None:
            return _error(401, "UNAUTHORIZED", "incorrect username or password")
        rights = set()
        for scope in query.get("scope", []):
            name, _, actions = scope.removeprefix("repository:").rpartition(":")
            rights |= {f"{name}:{action}" for action in actions.split(",")}
        token = secrets.token_urlsafe(24)
        self._tokens[token] = frozenset(rights)
        lasts = {} if self.token_seconds is None else {"expires_in": self.token_seconds}
        return web.json_response({"token": token, **lasts})


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]})
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)


async def push_manifest(server: OciServer, name: str, tag: str, login: Mapping[str, str] | None) -> None:
    """Puts an image into `server` as a builder would, with `login` (`Target.credentials`) and nothing else.

    Raises PermissionError if that gives no right to.
    """
    import aiohttp

    basic = {}
    if login:
        word = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
        basic["Authorization"] = f"Basic {word}"
    async with aiohttp.ClientSession() as session:
        headers = basic
        if server.authentication == "token":
            wanted = {"service": server.service, "scope": f"repository:{name}:pull,push"}
            async with session.get(f"{server.url}{server.token_path}", params=wanted, headers=basic) as answer:
                if answer.status != 200:
                    raise PermissionError(await answer.text())
                headers = {"Authorization": f"Bearer {(await answer.json())['token']}"}
        url = f"{server.url}/v2/{name}/manifests/{tag}"
        content = json.dumps({"schemaVersion": 2, "of": name, "tag": tag}).encode()
        async with session.put(url, data=content, headers=headers) as answer:
            if answer.status != 201:
                raise PermissionError(await answer.text())
