"""A real git server on the loopback: `git http-backend` (smart HTTP) behind a small HTTP server. Needs git.

    async with GitServer.running(tmp_path) as server:
        repository = server.repository("group/name")
        first = repository.commit({"a.txt": "hello"})
        repository.tag("v1", annotated=True)
        ... server.url("group/name") ...

It can demand a password, answer never, break off, and refuse to give out single commits.
"""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from aiohttp import web
from attrs import define, field, frozen

from .stall import Stall

_WHO = {"NAME": "A Tester", "EMAIL": "tester@example.org", "DATE": "2026-01-01T00:00:00Z"}
_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "LC_ALL": "C",
    **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _WHO.items()},
}


@frozen
class Repository:
    """A repository to fill. Equal steps give equal commit ids: author and time are fixed."""

    folder: Path
    """The work tree."""

    @classmethod
    def make(cls, folder: Path) -> Self:
        folder.mkdir(parents=True)
        made = cls(folder)
        made.git("init", "--quiet", "--initial-branch=main", ".")
        return made

    def git(self, *arguments: str) -> str:
        """Runs git in the work tree; its output without the last newline. Raises CalledProcessError."""
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.devnull, **_ENV}
        done = subprocess.run(["git", *arguments], cwd=self.folder, env=env, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode().rstrip("\n")

    def commit(self, files: Mapping[str, str | bytes] | None = None, message: str = "Change") -> str:
        """Commits the work tree with `files` written into it (executable if they begin with ``#!``)."""
        for name, content in (files or {}).items():
            data = content.encode() if isinstance(content, str) else content
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755 if data.startswith(b"#!") else 0o644)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def branch(self, name: str) -> None:
        """Makes a branch here and switches to it. What is checked out is HEAD, the default branch."""
        self.git("switch", "--quiet", "--create", name)

    def switch(self, name: str) -> None:
        self.git("switch", "--quiet", name)

    def tag(self, name: str, annotated: bool = False) -> None:
        self.git("tag", *(("-a", "-m", name) if annotated else ()), name)

    def submodule(self, path: str, url: str, commit: str) -> None:
        """Adds `commit` of `url` as a submodule, without asking there; in effect with the next `commit`."""
        self.git("config", "--file", ".gitmodules", f"submodule.{path}.path", path)
        self.git("config", "--file", ".gitmodules", f"submodule.{path}.url", url)
        (self.folder / path).mkdir(parents=True)
        self.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")


@define
class GitServer:
    """See the module. All repositories lie below `root`."""

    root: Path
    """Each ``name.git`` below it is served."""
    address: str = ""
    """``http://127.0.0.1:port``."""
    user: str = ""
    """With `password`: who may read."""
    password: str = ""
    """Set both: every request must have them."""
    single_commits: bool = True
    """Give out any commit by its id, as git's protocol 2 and the large hosts do."""
    requests: list[str] = field(factory=list)
    """Paths that were asked for, with their query."""
    stall: Stall = field(factory=Stall)
    """Holds answers back. Servers that are given one stall together."""
    _runner: web.AppRunner | None = None
    _down: int = 0

    @classmethod
    @asynccontextmanager
    async def running(cls, root: Path, **fields: Any) -> AsyncIterator[Self]:
        server = cls(root, **fields)
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{path:.*}", server._answer)
        server._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await server._runner.setup()
        try:
            site = web.TCPSite(server._runner, "127.0.0.1", 0)
            await site.start()
            server.address = f"http://127.0.0.1:{server._runner.addresses[0][1]}"
            yield server
        finally:
            await server._runner.cleanup()

    @property
    def host(self) -> str:
        return urlsplit(self.address).netloc

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def repository(self, name: str) -> Repository:
        """Makes the empty repository `name` (``group/name``, served with ``.git`` behind it as well)."""
        return Repository.make(self.root / f"{name}.git")

    def fail(self, status: int) -> None:
        """From now on every request gets this HTTP status and a web page; 0 ends it."""
        self._down = status

    def stalled(self) -> AbstractAsyncContextManager[asyncio.Event]:
        """While entered, nothing is answered. The event is set once somebody has asked."""
        return self.stall.held()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        await self.stall.wait()
        if self._down:
            return web.Response(status=self._down, text="<html>No git here</html>\n", content_type="text/html")
        if self.user and not self._is_welcome(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        return await self._backend(request)

    def _is_welcome(self, request: web.Request) -> bool:
        expected = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {expected}"

    async def _backend(self, request: web.Request) -> web.Response:
        """Speaks CGI with `git http-backend`."""
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.devnull,
            **_ENV,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if self.single_commits and (protocol := request.headers.get("Git-Protocol")):
            env["GIT_PROTOCOL"] = protocol
        body = await request.read()
        backend = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            output, _ = await backend.communicate(body)
        except asyncio.CancelledError:
            backend.kill()
            await backend.wait()
            raise
        head, _, content = output.partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n"))
        headers = {name: value for name, _, value in lines}
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=content)
