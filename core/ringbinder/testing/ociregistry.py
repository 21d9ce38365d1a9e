"""An OCI registry in memory, on loopback: for tests of registries, and of builders that push.

It speaks what the distribution specification says of manifests, blobs, uploads and tags, open, with passwords or with
tokens, and can misbehave as registries do. Needs aiohttp, which Ringbinder brings.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Literal
from urllib.parse import parse_qs, urlencode

from aiohttp import ClientPayloadError, web
from attrs import define, field, frozen

from ..model import Manifest, digest_of
from .stall import Stall

Authentication = Literal["none", "basic", "token"]

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_TAGS_OF_A_PAGE: Final = 3


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
    breaks: list[int] = field(factory=list)
    """The connections of the next blobs, sent or read, are closed after so many bytes, one each."""
    keeps_broken_uploads: bool = True
    """What has arrived of an upload that broke off can be resumed; the CNCF registry 2.8 does not know it any more."""
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
    _manifests: dict[tuple[str, str], Manifest] = field(factory=dict, init=False)
    _blobs: dict[tuple[str, str], bytes] = field(factory=dict, init=False)
    _tokens: dict[str, frozenset[str]] = field(factory=dict, init=False)
    _uploads: dict[str, bytearray] = field(factory=dict, init=False)
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

    def put(self, name: str, tag: str, content: bytes = b"{}", media_type: str = _MANIFEST) -> str:
        """Puts an image there; returns its digest."""
        manifest = Manifest(media_type, content)
        digest = manifest.descriptor.digest
        self._manifests[name, tag] = self._manifests[name, digest] = manifest
        return digest

    def put_blob(self, name: str, content: bytes) -> str:
        """Puts a blob there; returns its digest."""
        digest = digest_of(content)
        self._blobs[name, digest] = content
        return digest

    def remove(self, name: str, tag: str) -> None:
        del self._manifests[name, tag]

    def tags(self, name: str) -> list[str]:
        """Sorted."""
        return sorted(tag for of, tag in self._manifests if of == name and ":" not in tag)

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
        if self._down:
            _close(request)
            return web.Response(status=503)
        if request.path == self.token_path:
            return await self._token(request)
        if self.answers:
            return self.answers.pop(0)
        return await self._registry(request)

    async def _registry(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v2/")
        name, kind, reference = path, "", ""
        for kind in ("/manifests/", "/blobs/uploads/", "/blobs/", "/tags/"):
            name, found, reference = path.partition(kind)
            if found:
                break
        actions = _actions(request.method, kind)
        if not self._allowed(request, f"{name}:{actions[-1]}" if path else ""):
            return self._challenge(f"repository:{name}:{','.join(actions)}" if path else "")
        match kind if path else "":
            case "":
                return web.json_response({})
            case "/manifests/":
                return await self._manifest(request, name, reference)
            case "/blobs/uploads/":
                return await self._upload(request, name, reference)
            case "/blobs/":
                return await self._blob(request, name, reference)
            case _:
                return self._list(request, name)

    async def _manifest(self, request: web.Request, name: str, reference: str) -> web.Response:
        if request.method == "PUT":
            return self._put_manifest(request, name, reference, await request.read())
        if request.method == "HEAD" and self.refuses_head:
            return web.Response(status=405)
        manifest = self._manifests.get((name, reference))
        if manifest is None:
            return self._missing(request, name, "MANIFEST_UNKNOWN")
        if request.method == "DELETE":
            gone = [at for at, known in self._manifests.items() if at[0] == name and known == manifest]
            for at in gone if ":" in reference else [(name, reference)]:
                del self._manifests[at]
            return web.Response(status=202)
        headers = {"Docker-Content-Digest": manifest.descriptor.digest, **self.headers}
        return web.Response(body=manifest.content, content_type=manifest.media_type, headers=headers)

    def _put_manifest(self, request: web.Request, name: str, reference: str, content: bytes) -> web.Response:
        if ":" in reference and reference != digest_of(content):
            return _error(400, "DIGEST_INVALID", "the manifest is not what its digest says")
        named = json.loads(content)
        for blob in (*[named[key] for key in ("config",) if key in named], *named.get("layers", ())):
            if (name, blob["digest"]) not in self._blobs:
                return _error(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", detail=blob["digest"])
        digest = self.put(name, reference, content, request.content_type)
        return web.Response(status=201, headers={"Docker-Content-Digest": digest, **self.headers})

    async def _blob(self, request: web.Request, name: str, digest: str) -> web.StreamResponse:
        content = self._blobs.get((name, digest))
        if content is None:
            return self._missing(request, name, "BLOB_UNKNOWN")
        if request.method == "DELETE":
            del self._blobs[name, digest]
            return web.Response(status=202)
        headers = {"Docker-Content-Digest": digest, **self.headers}
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start:
            if start >= len(content):
                return web.Response(status=416)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        status = 206 if start else 200
        if request.method == "HEAD" or not self.breaks:
            return web.Response(body=content, status=status, headers=headers)
        response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: self.breaks.pop(0)])
        _close(request)
        return response

    async def _upload(self, request: web.Request, name: str, id: str) -> web.StreamResponse:
        mounted, source, digest = (request.query.get(key, "") for key in ("mount", "from", "digest"))
        if request.method == "POST":
            if (source, mounted) in self._blobs and self._allowed(request, f"{source}:pull"):
                self._blobs[name, mounted] = self._blobs[source, mounted]
                return _stored(name, mounted)
            id = secrets.token_hex(8)
            self._uploads[id] = bytearray()
        upload = self._uploads.get(id)
        if upload is None:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
        if request.method == "DELETE":
            del self._uploads[id]
            return web.Response(status=204)
        if request.method in ("PATCH", "PUT") or digest:
            if request.headers.get("Content-Range", f"{len(upload)}-").partition("-")[0] != str(len(upload)):
                return _error(416, "RANGE_INVALID", "out of order")
            if not await self._receive(request, upload):
                if not self.keeps_broken_uploads:
                    del self._uploads[id]
                return web.Response(status=400)
        if request.method == "PUT" or digest:
            del self._uploads[id]
            if digest_of(upload) != digest:
                return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            self._blobs[name, digest] = bytes(upload)
            return _stored(name, digest, self.headers)
        headers = {"Location": f"/v2/{name}/blobs/uploads/{id}", "Range": f"0-{max(0, len(upload) - 1)}"}
        return web.Response(status=204 if request.method == "GET" else 202, headers=headers)

    async def _receive(self, request: web.Request, upload: bytearray) -> bool:
        """Adds the body to the upload; returns whether all of it has arrived."""
        left = self.breaks.pop(0) if self.breaks else None
        try:
            async for piece in request.content.iter_any():
                upload += piece[:left]
                if left is not None:
                    left -= len(piece)
                    if left <= 0:
                        _close(request)
                        return False
        except (ConnectionError, ClientPayloadError):  # the client has closed it
            return False
        return True

    def _list(self, request: web.Request, name: str) -> web.Response:
        if not any(of == name for of, _ in (*self._manifests, *self._blobs)):
            return self._missing(request, name, "NAME_UNKNOWN")
        left = [tag for tag in self.tags(name) if tag > request.query.get("last", "")]
        page = left[:_TAGS_OF_A_PAGE]
        link = f"</v2/{name}/tags/list?{urlencode({'last': page[-1], 'n': len(page)})}>" if page != left else ""
        headers = {"Link": f'{link}; rel="next"'} if link else {}
        return web.json_response({"name": name, "tags": page}, headers=headers)

    def _missing(self, request: web.Request, name: str, code: str) -> web.Response:
        if self.missing_is_401 and request.method in ("GET", "HEAD"):
            return self._challenge(f"repository:{name}:pull", error="insufficient_scope")
        return _error(404, code, "not known here")

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


def _actions(method: str, kind: str) -> tuple[str, ...]:
    """The rights that a request needs."""
    if method in ("GET", "HEAD") and kind != "/blobs/uploads/":
        return ("pull",)
    return ("delete",) if method == "DELETE" and kind != "/blobs/uploads/" else ("pull", "push")


def _stored(name: str, digest: str, headers: Mapping[str, str] | None = None) -> web.Response:
    about = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest, **(headers or {})}
    return web.Response(status=201, headers=about)


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None, detail: str | None = None
) -> web.Response:
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]})
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
