"""A package index of the tests' own, with wheels made here, and what can go wrong with it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from attrs import define, field

_JSON: Final = "application/vnd.pypi.simple.v1+json"
_MADE: Final = (1980, 1, 1, 0, 0, 0)


def wheel(
    name: str, version: str, *, requires: Sequence[str] = (), python: str = "", files: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
) -> bytes:  # fmt: skip
    """Return a wheel with one module, the same bytes each time."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Python: {python}"] if python else []
    metadata += [f"Requires-Dist: {line}" for line in requires]
    contents = {f"{name}/__init__.py": f"__version__ = {version!r}\n"} if files is None else dict(files)
    contents[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(text.encode())])
    rows.writerow([f"{info}/RECORD", "", ""])
    contents[f"{info}/RECORD"] = record.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path, _MADE), text)
    return buffer.getvalue()


@define
class IndexedFile:
    """A file of the index: `content` is sent, `digest` is what the index claims."""

    name: str
    content: bytes
    digest: str
    metadata: bytes | None
    python: str
    yanked: bool = False
    redirect: str = ""
    """Address that its request is answered with."""
    url: str = ""
    """Where the index says that it is; empty: at the index."""


@define(eq=False)
class PackageIndex:
    """Serve it with `serving`. All of it may be changed meanwhile."""

    files: dict[str, dict[str, IndexedFile]] = field(factory=dict)
    """By project, then by name."""
    login: str = ""
    """``user:password`` without which nothing is answered."""
    requests: list[tuple[str, str | None]] = field(factory=list)
    """Path and Authorization of each request."""
    stalled: threading.Event = field(factory=threading.Event)
    """What is in `stalls` waits for this."""
    stalls: set[str] = field(factory=set)
    """Files whose downloads stop in their middle, and projects whose pages never come."""
    channels: Path | None = None
    """Folder whose folders are conda channels, below ``/conda``."""
    broken: set[str] = field(factory=set)
    """Projects for which each request is answered with 400."""
    down: bool = False
    """Each request is answered with 503."""
    root: str = ""
    """``http://127.0.0.1:PORT``."""

    @property
    def url(self) -> str:
        return f"{self.root}/simple"

    def with_login(self) -> str:
        return self.url.replace("://", f"://{self.login}@")

    def add(
        self, name: str, version: str, *, requires: Sequence[str] = (), python: str = "", tag: str = "py3-none-any",
        files: Mapping[str, str] | None = None,
    ) -> IndexedFile:  # fmt: skip
        content = wheel(name, version, requires=requires, python=python, tag=tag, files=files)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            metadata = archive.read(f"{name}-{version}.dist-info/METADATA")
        return self.add_file(name, f"{name}-{version}-{tag}.whl", content, metadata, python)

    def add_sdist(self, name: str, version: str) -> IndexedFile:
        """One that would make a mark if any of its code ran: it is no archive."""
        return self.add_file(name, f"{name}-{version}.tar.gz", b"no archive", None, "")

    def add_file(self, name: str, file: str, content: bytes, metadata: bytes | None, python: str) -> IndexedFile:
        made = IndexedFile(file, content, hashlib.sha256(content).hexdigest(), metadata, python)
        self.files.setdefault(name.replace("_", "-"), {})[file] = made
        return made

    @contextmanager
    def serving(self) -> Iterator[PackageIndex]:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.index = self
        self.root = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.stalled.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def project(self, name: str) -> dict[str, Any]:
        return {
            "meta": {"api-version": "1.1"},
            "name": name,
            "versions": [],
            "files": [
                {
                    "filename": file.name,
                    "url": file.url or f"{self.root}/files/{name}/{file.name}",
                    "hashes": {"sha256": file.digest},
                    "size": len(file.content),
                    "upload-time": "2020-01-01T00:00:00Z",
                    "yanked": file.yanked,
                }
                | ({"requires-python": file.python} if file.python else {})
                | ({"core-metadata": True} if file.metadata else {})
                for file in self.files[name].values()
            ],
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    index: PackageIndex


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        index = self.server.index
        login = self.headers.get("Authorization")
        index.requests.append((self.path, login))
        if index.down:
            return self._send(503, b"")
        if index.login and login != f"Basic {base64.b64encode(index.login.encode()).decode()}":
            return self._send(401, b"", {"WWW-Authenticate": "Basic"})
        match unquote(self.path).strip("/").split("/"):
            case ["simple", name] if name in index.broken:
                return self._send(400, b"")
            case ["simple", name] if name in index.files:
                if name in index.stalls:
                    index.stalled.wait()
                return self._send(200, json.dumps(index.project(name)).encode(), {"Content-Type": _JSON})
            case ["files", name, file] if name in index.files:
                if known := index.files[name].get(file):
                    return self._send_file(known)
                if (known := index.files[name].get(file.removesuffix(".metadata"))) and known.metadata:
                    return self._send(200, known.metadata)
            case ["conda", *path] if index.channels and (place := index.channels.joinpath(*path)).is_file():
                return self._send(200, place.read_bytes())
        return self._send(404, b"")

    do_HEAD = do_GET

    def _send_file(self, file: IndexedFile) -> None:
        if file.redirect:
            return self._send(302, b"", {"Location": file.redirect})
        if file.name not in self.server.index.stalls:
            return self._send(200, file.content)
        self._send(200, file.content[:10], {"Content-Length": str(len(file.content))})
        self.wfile.flush()
        self.server.index.stalled.wait()
        self.close_connection = True
        return None

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Logs nothing."""
