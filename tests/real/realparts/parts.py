"""Starting the real registry and a real docker engine, on loopback, and ending them."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import psutil
import yaml
from attrs import define, field, frozen

_SECONDS: Final = 60.0

HTPASSWD: Final = "builder:$2y$04$30pwENT78fjQVTggTUHA1.Mbo6NNgx5qSICu4dka/gF0CBm//UCoG\n"
"""``builder`` with the password `PASSWORD`; bcrypt, as the registry wants it, at its least cost."""
PASSWORD: Final = "s3cret-word"


@frozen
class RealRegistry:
    url: str
    data: Path
    """The folder with everything that it holds."""

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")


@contextmanager
def registry(folder: Path, auth: Mapping[str, Any] | None = None, *, read_only: bool = False) -> Iterator[RealRegistry]:
    """The CNCF distribution registry on a free port, with its data in `folder`."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
            "maintenance": {"readonly": {"enabled": read_only}},
        },
        "http": {"addr": address},
    }
    if auth:
        config["auth"] = dict(auth)
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump(config))
    with (
        (folder / "log").open("wb") as log,
        _ended(subprocess.Popen(["docker-registry", "serve", str(file)], stdout=log, stderr=log)) as process,
    ):
        made = RealRegistry(f"http://{address}", folder / "data")
        _until(lambda: _answers(f"{made.url}/v2/"), process, folder / "log")
        yield made


@contextmanager
def registry_of_users(folder: Path, users: str) -> Iterator[RealRegistry]:
    """`registry` for those alone whom `users` names, a file as htpasswd writes it."""
    folder.mkdir(parents=True)
    file = folder / "htpasswd"
    file.write_text(users)
    with registry(folder / "registry", {"htpasswd": {"realm": "x", "path": str(file)}}) as running:
        yield running


@define(eq=False)
class RealEngine:
    folder: Path
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def address(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        """Starts it, also after `kill`: with the images that it had."""
        command = [
            "dockerd", "--iptables=false", "--bridge=none", "--data-root", f"{self.folder}/data",
            "--exec-root", f"{self.folder}/exec", "--pidfile", f"{self.folder}/pid", "--host", self.address,
        ]  # fmt: skip
        for file in ("pid", "exec/containerd/containerd.pid"):  # a number may belong to somebody else by now
            (self.folder / file).unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        _until(self.answers, self.process, self.folder / "log")

    def answers(self) -> bool:
        try:
            self.ask("/info")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def kill(self) -> None:
        """Ends it and all that it has started at once, as when its machine fails."""
        engine = psutil.Process(self.process.pid)
        for process in (engine, *engine.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        self.end_containers()

    def end_containers(self) -> None:
        """Ends what holds its containers, and what runs in them: they are no children of its, and outlive it."""
        for holder in psutil.process_iter(["cmdline"]):
            if f"{self.folder}/exec/containerd/containerd.sock" in (holder.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    for process in (*holder.children(recursive=True), holder):
                        process.kill()

    def ask(self, path: str, method: str = "GET") -> Any:
        """The engine's answer, from JSON."""
        connection = _OverSocket(self.address.removeprefix("unix://"))
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
            assert response.status < 300, body
            return json.loads(body) if body else None
        finally:
            connection.close()

    def containers(self) -> list[str]:
        """Ids of all that it has, also of those that have ended."""
        return [str(container["Id"]) for container in self.ask("/containers/json?all=1")]

    def tags(self) -> set[str]:
        """Names of its images."""
        return {tag for image in self.ask("/images/json") for tag in image["RepoTags"] or ()}

    def make_image(self, name: str, content: bytes) -> None:
        """An image of one layer with one file."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            member = tarfile.TarInfo("file")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        repository, _, tag = name.rpartition(":")
        self._create({"fromSrc": "-", "repo": repository, "tag": tag}, layer.getvalue())

    def pull(self, name: str) -> Any:
        """Gets an image from its registry; returns what the engine knows of it."""
        repository, _, tag = name.rpartition(":")
        self._create({"fromImage": repository, "tag": tag})
        return self.ask(f"/images/{name}/json")

    def _create(self, query: Mapping[str, str], body: bytes = b"") -> None:
        connection = _OverSocket(self.address.removeprefix("unix://"))
        try:
            connection.request("POST", f"/images/create?{urlencode(query)}", body)
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            assert b"errorDetail" not in answer, answer
        finally:
            connection.close()


class _OverSocket(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


@contextmanager
def engine(folder: Path) -> Iterator[RealEngine]:
    """A docker engine of its own, without networks; needs root."""
    folder.mkdir(parents=True)
    made = RealEngine(folder)
    try:
        try:
            made.start()
            yield made
        finally:
            _end(made.process)
    finally:
        made.end_containers()
        for mount in (f"{folder}/exec/netns/default", *sorted(_mounts_below(folder), reverse=True)):
            subprocess.run(["umount", mount], check=False, capture_output=True)
        shutil.rmtree(folder / "data", ignore_errors=True)  # gigabytes


def _mounts_below(folder: Path) -> list[str]:
    """What an engine that was killed has left."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [mount for mount in mounts if mount.startswith(f"{folder}/")]


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


def _until(done: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)
