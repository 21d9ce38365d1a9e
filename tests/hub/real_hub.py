"""Real JupyterHubs of the tests: installed once a session for each version, and started on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import ringbinder_launchers
import uv
from attrs import define, field, frozen

SPAWNER: Final = Path(ringbinder_launchers.__file__).with_name("spawner.py")
"""The hub's side, which is copied beside the hub's configuration, so that nothing else of ours is in reach."""
_SECONDS: Final = 120.0
_MARK: Final = "RINGBINDER_TEST_HUB"
_PACKAGES: Final = (
    "jupyterlab>=4.4,<5", "jupyterhub-idle-culler>=1.4", "jupyterhub-kubespawner>=7", "dockerspawner>=14",
)  # fmt: skip
TOKEN: Final = "hub-token-of-ringbinder-4711"
ADMIN_TOKEN: Final = "hub-token-of-the-tests-4712"
PROXY_TOKEN: Final = "proxy-token-4713"

# `image` says how a server behaves: these hubs run no containers.
_CONFIG: Final = """
import asyncio, os, sys
import requests
from tornado import web

sys.path.insert(0, os.environ["HUB_FOLDER"])
from jupyterhub.spawner import SimpleLocalProcessSpawner
from spawner import BinderAuthenticator, BinderSpawnerMixin


class WithoutEngine(SimpleLocalProcessSpawner):
    async def start(self):
        if self.user_options.get("image", "").startswith("unreachable"):
            raise requests.ConnectionError("connection refused")
        return await super().start()


class BinderSpawner(BinderSpawnerMixin, WithoutEngine):
    async def start(self):
        image = self.user_options.get("image", "")
        if image.startswith("refused"):
            raise web.HTTPError(403, "images of this name are not allowed here")
        if image.startswith("endless"):
            await asyncio.sleep(3600)
        if image.startswith("slow"):
            await asyncio.sleep(3)
        if image.startswith("unlucky"):
            raise RuntimeError("the node has gone")
        if image.startswith("broken"):
            self.cmd = ["false"]
        elif not image.startswith("jupyter"):
            self.cmd = [sys.executable, os.path.join(folder, "light_server.py")]
        return await super().start()


folder = os.environ["HUB_FOLDER"]
c.JupyterHub.bind_url = os.environ["HUB_URL"]
c.JupyterHub.hub_bind_url = os.environ["HUB_LOCAL_URL"]
c.JupyterHub.db_url = f"sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = f"{folder}/cookie_secret"
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = os.environ["PROXY_API_URL"]
c.JupyterHub.authenticator_class = BinderAuthenticator
c.JupyterHub.spawner_class = BinderSpawner
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 1}
c.Spawner.args = ["--allow-root"]
c.Spawner.environment = {os.environ["MARK"]: folder}
# The machine of the tests may be busy.
c.Spawner.http_timeout = 240
c.Spawner.start_timeout = 240
c.Spawner.poll_interval = 1
# Jupyter asks back at SIGINT, and without an answer goes on.
c.LocalProcessSpawner.interrupt_timeout = 0
c.SimpleLocalProcessSpawner.home_dir_template = folder + "/homes/{username}"
c.JupyterHub.services = [
    {"name": "binder", "api_token": os.environ["BINDER_TOKEN"]},
    {"name": "tests", "api_token": os.environ["ADMIN_TOKEN"]},
]
c.JupyterHub.load_roles = [
    {"name": "binder", "services": ["binder"], "scopes": ["servers", "admin:users"]},
    {"name": "tests", "services": ["tests"], "scopes": ["servers", "admin:users", "read:hub", "tokens"]},
]
"""


@frozen
class Installed:
    """An environment with a JupyterHub, spawners of others, JupyterLab for its servers, and a proxy."""

    version: str
    bin: Path
    proxy: Path


def install(version: str, folder: Path) -> Installed:
    """JupyterHub `version` (``5`` is the newest 5.x) into `folder`, from PyPI and npm."""
    environment = folder / f"hub-{version}"
    packages = [f"jupyterhub=={version}.*", *_PACKAGES]
    mark = (
        environment / "installed"
    )  # a folder that outlives a session may have another one's packages, or half of them
    if not mark.exists() or mark.read_text().split() != packages:
        command: list[str | Path] = [uv.find_uv_bin(), "--quiet"]
        subprocess.run([*command, "venv", "--allow-existing", environment], check=True)
        # The hubs of the tests write no bytecode: without it, every server would compile all of JupyterLab anew.
        installing = [*command, "pip", "install", "--compile-bytecode", "--python", environment]
        subprocess.run([*installing, *packages], check=True)
        mark.write_text("\n".join(packages))
    proxy = folder / "proxy"
    if not proxy.exists():
        proxy.mkdir()
        npm: list[str | Path] = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", proxy]
        subprocess.run([*npm, "configurable-http-proxy@5"], check=True)
    return Installed(version, environment / "bin", proxy / "node_modules/.bin/configurable-http-proxy")


@define(eq=False)
class Hub:
    """A running JupyterHub behind its proxy, which outlives it, as in a cluster. `url` ends with a slash."""

    installed: Installed
    folder: Path
    url: str
    local_url: str
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with (self.folder / "hub.log").open("ab") as log:
            command: list[str | Path] = [
                self.installed.bin / "jupyterhub",
                "--config",
                self.folder / "config.py",
            ]
            self.process = subprocess.Popen(command, env=self.env, cwd=self.folder, stdout=log, stderr=log)
        _until(lambda: self.answers, self.process, self.folder / "hub.log")

    @property
    def answers(self) -> bool:
        try:
            return self.ask("GET", "health")[0] == 200
        except OSError:
            return False

    def stop(self) -> None:
        """Ends the hub alone: its proxy and its servers stay."""
        if self.process is not None:
            _end(self.process)
            self.process = None

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The hub's API, as its administrator: status and content."""
        request = urllib.request.Request(
            f"{self.url}hub/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {ADMIN_TOKEN}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content = answer.read()
                return answer.status, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")

    def users(self) -> dict[str, dict[str, Any]]:
        """The names of all users, each with its active servers."""
        status, users = self.ask("GET", "users")
        assert status == 200, users
        return {user["name"]: user["servers"] for user in users}

    def processes(self) -> list[psutil.Process]:
        """The servers' processes, whoever has started them."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    @property
    def log(self) -> str:
        return (self.folder / "hub.log").read_text(errors="replace")


@contextmanager
def hub(installed: Installed, folder: Path, more_config: str = "") -> Iterator[Hub]:
    """A JupyterHub with its data in `folder`; its servers end with it."""
    folder.mkdir(parents=True)
    port, api_port, hub_port = free_ports(3)
    (folder / "config.py").write_text(_CONFIG + more_config)
    for file in (SPAWNER, Path(__file__).with_name("light_server.py")):
        shutil.copy(file, folder)
    made = Hub(
        installed, folder, f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{hub_port}/",
        {
            "PATH": f"{installed.bin}:{os.environ['PATH']}",
            "HOME": str(folder),
            "MARK": _MARK,
            "HUB_FOLDER": str(folder),
            "HUB_URL": f"http://127.0.0.1:{port}/",
            "HUB_LOCAL_URL": f"http://127.0.0.1:{hub_port}/",
            "PROXY_API_URL": f"http://127.0.0.1:{api_port}",
            "CONFIGPROXY_AUTH_TOKEN": PROXY_TOKEN,
            "BINDER_TOKEN": TOKEN,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )  # fmt: skip
    command: list[str | Path] = [
        installed.proxy, "--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1",
        "--api-port", str(api_port), "--default-target", made.local_url, "--error-target", f"{made.local_url}hub/error",
    ]  # fmt: skip
    with ExitStack() as stack:
        log = stack.enter_context((folder / "proxy.log").open("wb"))
        proxy = subprocess.Popen(command, env={**os.environ, **made.env}, stdout=log, stderr=log)
        stack.callback(_end, proxy)
        stack.callback(_kill_all, made)
        stack.callback(made.stop)
        made.start()
        yield made


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _kill_all(made: Hub) -> None:
    for process in made.processes():
        with suppress(psutil.Error):
            process.kill()
            process.wait(10)


def _until(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)
