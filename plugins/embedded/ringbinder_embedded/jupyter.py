"""JupyterLab: its shared environment, and one process of it until it answers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen
from ringbinder import Context, Log, Secret, TransientError, UserError, process, redact
from ringbinder.folder_image import FolderImage
from ringbinder.untrusted import MalformedError, UntrustedError, UntrustedTree, parse_json, read_json
from ringbinder_recipe.causes import telling_line
from ringbinder_recipe.uv import Uv

from . import wholeness
from .lock import LEFT_OUT, LOCK
from .relay import Relay
from .store import Store

_NO_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_INSTALL_SECONDS: Final = 900.0
_NICE: Final = 10
_ANSWER_SECONDS: Final = 10.0
_ANSWER_BYTES: Final = 256 * 1024
"""As much as is parsed in a few milliseconds; a thousand kernels need no more."""
_LINE_CHARACTERS: Final = 1000
_POLL_SECONDS: Final = 0.02
_LAST_LINES: Final = 20
_SOCKET: Final = "s"
_MAX_NAMES: Final = 1000
_SERVER_CONFIG: Final = Path(__file__).with_name("_server_config.py")
_SMALL_BYTES: Final = 64 * 1024
_ATTEMPTS: Final = 3
_CORS: Final = "{'headers': {'Access-Control-Allow-Origin': '*'}}"
_SETTINGS: Final = {
    # A session is new every time, and its first page must not ask about news.
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
    # Dark where the launch page was dark.
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},
}
_PORT_TAKEN: Final = re.compile(
    r"port \d+ is already in use|address already in use|no available port could be found", re.IGNORECASE
)


@define(eq=False)
class SharedServer:
    """The environment from which notebooks are served whose repository has no Jupyter server: made once."""

    requirements: tuple[str, ...]
    """What to install in place of what `LOCK` lists, if anything."""
    uv: Uv
    context: Context
    apart: bool = False
    """Made apart from the one that code outside of a sandbox could have changed."""
    _lock_digest: str = field(factory=lambda: hashlib.sha256(LOCK.read_bytes()).hexdigest(), init=False)
    _making: asyncio.Task[None] | None = field(default=None, init=False)
    _settling: asyncio.Task[None] | None = field(default=None, init=False)
    _damaged: bool = field(default=False, init=False)

    @property
    def entry(self) -> FolderImage:
        python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        own = [*sorted(self.requirements), *(f"without {package}" for package in LEFT_OUT)]
        name = " ".join([python, *(own if self.requirements else ("locked", self._lock_digest))])
        name += " sandbox" if self.apart else ""
        return Store(self.context.paths.state / "server").entry(name)

    def prepare(self) -> None:
        """Begins to make it in the background, if it is not there."""
        if self.entry.read() is None and (self._making is None or self._making.done()):
            self._making = self.context.tasks.start(self._make(), "prepare JupyterLab")

    async def get(self, log: Log) -> FolderImage:
        """The environment. Raises `UserError` (``server-not-installed``) if it cannot be made."""
        self.prepare()
        if self._making is not None and not self._making.done():
            log.line("Preparing JupyterLab (only once)...\n")
            await asyncio.shield(self._making)
        return self.entry

    async def renew(self, log: Log) -> bool:
        """Installs it again if something of it has gone since; False: it is whole, and nothing was done."""
        entry = self.entry
        lack = await self._damage()
        if not lack:
            return False
        log.line(f"The shared JupyterLab is damaged: {lack}. It is installed again.\n")
        self.context.log.warning("shared JupyterLab damaged, installing it again", damage=lack)
        async with entry.locked(on_wait=lambda: None):
            if await self._damage():  # not yet done by another launch
                await entry.start_over()
        self._settling, self._damaged = None, True
        await self.get(log)
        return True

    async def _damage(self) -> str:
        facts = self.entry.read()
        if facts is None:
            return "it is not there any more"
        return await wholeness.damage(self.entry, facts.get("packages", ()))

    def settle(self) -> None:
        """Begins what the first notebook need not wait for: all is compiled, and reaches the disk."""
        if self._settling is None:
            self._settling = self.context.tasks.start(self._settle(), "compile JupyterLab")

    async def _make(self) -> None:
        entry = self.entry
        async with entry.locked(on_wait=lambda: None):
            if entry.read() is not None:
                return
            await entry.start_over()
            home = entry.home.place
            home.mkdir(parents=True)
            await self._run(home, "venv", "--no-project", "--python", self.uv.python_for("", ""), entry.env.place)
            entry.note_interpreter()
            # Files of the cache can be the very ones that were damaged: uv links them.
            cache, self._damaged = ["--no-cache"] if self._damaged else [], False
            await self._run(home, "pip", "install", "--python", entry.python, *cache, *self._packages(home))
            packages = await asyncio.to_thread(wholeness.packages, entry)
            entry.finish({"requirements": self.requirements, "packages": packages})
            await asyncio.to_thread(entry.publish)
        # Compiles most of what a start imports, usually while the image is still being built.
        modules = "jupyterlab.labapp, notebook.app, nbgitpuller"
        self.context.tasks.start(self._run_python("-c", f"import {modules}"), "import JupyterLab")

    def _packages(self, home: Path) -> list[str | Path]:
        if not self.requirements:
            # The list is whole: nothing is resolved, and nothing comes along.
            return ["--no-deps", "--require-hashes", "--requirement", LOCK]
        overrides = home / "overrides.txt"
        overrides.write_text("".join(f"{package} ; sys_platform == 'never'\n" for package in LEFT_OUT))
        return ["--override", overrides, *self.requirements]

    async def _settle(self) -> None:
        entry = self.entry
        if not entry.is_settled():
            await self._run_python("-m", "compileall", "-q", "-j", "0", entry.env.place / "lib")
            await asyncio.to_thread(entry.settle)

    async def _run_python(self, *arguments: str | Path) -> None:
        """Gives way to the build and the notebook. What it does may fail: it only saves time later."""
        argv = [str(self.entry.python), *(str(argument) for argument in arguments)]
        home = self.entry.home.place
        env = process.minimal_env() | {"HOME": str(home)}
        command = await process.start(argv, cwd=home, env=env, nice=_NICE)
        try:
            await command.wait()
        finally:
            await command.stop(grace=0)

    async def _run(self, home: Path, *arguments: str | Path) -> None:
        try:
            done = await process.run(
                self.uv.command(*arguments), cwd=home, env=self.uv.env(home), timeout=_INSTALL_SECONDS
            )
        except TimeoutError as error:
            raise TransientError(f"JupyterLab could not be installed: {error}") from error
        if done.returncode:
            what = ", ".join(self.requirements) or "as this release lists it"
            raise UserError(
                "server-not-installed",
                f"JupyterLab ({what}; LocalLauncher.server_requirements) could not "
                f"be installed: {redact(telling_line(done.errors.splitlines()))}",
            )


@define(eq=False)
class Jupyter:
    """One running JupyterLab. Made by `Start`."""

    command: process.Process
    port: _Port
    token: Secret
    _tail: deque[str]
    _relay: Relay | None

    @property
    def last_lines(self) -> str:
        """What it has written last, without secrets."""
        return redact("\n".join(self._tail))

    @property
    def url(self) -> str:
        """Its address for clients: cookie jars keep no cookie for a bare IP address (as aiohttp's)."""
        return f"http://localhost:{self.port.number}/"

    def free_port(self) -> None:
        """Lets others have the port, once the server has ended."""
        if self._relay:
            self._relay.close()
        self.port.free()

    async def ask(self, path: str) -> Any:
        """JSON answer of its REST API, or None if it gives none; never counts as activity.

        Everything that it answers, which any code in it can decide, is read within bounds, and sends us nowhere.
        """
        import aiohttp

        # Not the shared client, which honours proxies: none of them reaches this machine's loopback.
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Authorization": f"token {self.token.reveal()}", "Accept-Encoding": "identity"},
        ) as client:
            try:
                async with client.get(
                    f"{self.port.address}{path}?no_track_activity=1", allow_redirects=False
                ) as answer:
                    if answer.status != 200:
                        return None
                    return await read_json(answer.content.iter_any(), _ANSWER_BYTES)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, MalformedError):
                return None


@frozen(kw_only=True)
class Start:
    """How a JupyterLab is started from the environment of `server`, on a free loopback port."""

    server: FolderImage
    wrapper: list[str]
    """What comes before the command."""
    cwd: Path
    env: Mapping[str, str]
    runtime: UntrustedTree
    """An empty folder for Jupyter's own use."""
    settings: Path
    """A folder that `write_settings` has made."""
    token: Secret
    patience: float
    """Seconds."""
    network: bool
    """Without it the port is ours, and leads to the server's socket in `runtime`."""

    async def run(self) -> Jupyter:
        """Returns when it answers.

        Raises `UserError`: ``server-died`` with its last lines, ``server-slow``, ``path-too-long``.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with asyncio.timeout(self.patience):
                    return await self._once()
            except _DiedError as died:
                if attempt == _ATTEMPTS or not _PORT_TAKEN.search(died.said):
                    raise UserError("server-died", died.message) from None
            except TimeoutError:
                raise UserError(
                    "server-slow",
                    f"JupyterLab did not answer within {self.patience:g} seconds (LocalLauncher.start_timeout).",
                ) from None
        raise AssertionError("the last attempt returns or raises")

    async def _once(self) -> Jupyter:
        tail: deque[str] = deque(maxlen=_LAST_LINES)
        # The token goes through the environment: a command line can be read by every user of the machine.
        own = {"JUPYTER_TOKEN": self.token.reveal(), "JUPYTER_RUNTIME_DIR": str(self.runtime.place)}
        own["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
            filter(None, (str(self.settings), self.env.get("JUPYTER_CONFIG_PATH")))
        )

        def on_line(line: str) -> None:
            tail.append(line[:_LINE_CHARACTERS])

        port = _Port.found()
        place = [f"--ServerApp.sock={self.runtime.place / _SOCKET}"]
        if self.network:
            place = [f"--ServerApp.ip={port.host}", f"--ServerApp.port={port.number}", "--ServerApp.port_retries=0"]
        argv = [*self.wrapper, *_arguments(self.server, self.cwd), *place]
        relay: Relay | None = None
        try:
            if not self.network:
                relay = await Relay.start(port.host, port.number, self.runtime, _SOCKET)
            command = await process.start(argv, cwd=self.cwd, env={**self.env, **own}, on_line=on_line)
        except OSError as error:
            port.free()
            if relay:
                relay.close()
            raise _DiedError(f"JupyterLab could not be started: {error.strerror or error}", "") from error
        jupyter = Jupyter(command, port, self.token, tail, relay)
        try:
            while command.running:
                # Jupyter writes this file when it has bound its port: before, the port could be somebody else's.
                if await asyncio.to_thread(_is_bound, self.runtime) and await jupyter.ask("api/status") is not None:
                    return jupyter
                await asyncio.sleep(_POLL_SECONDS)
        except BaseException:
            await command.stop(grace=1.0)
            jupyter.free_port()
            raise
        jupyter.free_port()
        code = await command.wait()
        reason = jupyter.last_lines
        raise _DiedError(
            f"JupyterLab ended while it was starting (exit code {code}). Its last lines:\n{reason}", reason
        )


def write_settings(folder: Path) -> None:
    """Makes a folder of configuration with our defaults, which the user's own settings override."""
    file = folder / "labconfig" / "default_setting_overrides.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(_SETTINGS))
    (folder / "jupyter_server_config.py").write_bytes(_SERVER_CONFIG.read_bytes())


def _arguments(server: FolderImage, work: Path) -> list[str]:
    return [
        # -I: a repository may have a random.py, which is for its kernels; they are started without.
        str(server.python), "-I", "-m", "jupyterlab", "--no-browser",
        f"--ServerApp.root_dir={work}", "--ServerApp.allow_root=True",
        # Firefox sends a cookie without this to any site's requests, those for a terminal's socket among them.
        "--IdentityProvider.cookie_options=samesite=Lax",
        # Pages of any origin may use the token (as on a BinderHub); `allow_origin` would do so for the cookie too.
        f"--ServerApp.tornado_settings={_CORS}",
        # Nor does the server ask about updates.
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


@define(eq=False)
class _Port:
    """A port that is the server's under the name ``localhost``, whichever of its addresses a client tries.

    The server listens on 127.0.0.1; where this machine has none, on ::1. On the other one we hold the same number
    without listening: a client that tries that address first is refused at once and goes on to the other, and
    no one else can take it.
    """

    host: str
    number: int
    _guard: socket.socket | None

    @classmethod
    def found(cls) -> _Port:
        """Raises UserError ``no-loopback`` if this machine has neither address."""
        for host, other in (("127.0.0.1", "::1"), ("::1", "127.0.0.1")):
            for _ in range(_ATTEMPTS):
                try:
                    probe = _bound(host, 0)
                except OSError as error:
                    if error.errno in _NO_ADDRESS:
                        break
                    raise
                with probe:
                    number: int = probe.getsockname()[1]
                    try:
                        return cls(host, number, _bound(other, number))
                    except OSError as error:
                        if error.errno != errno.EADDRINUSE:
                            return cls(host, number, None)  # no one else can be at an address that is not there
            else:
                raise TransientError("No free port was found on localhost; try again")
        raise UserError(
            "no-loopback",
            "Notebooks are on the loopback interface, and this machine has neither 127.0.0.1 nor ::1: bring it up "
            "(`ip link set lo up`).",
        )

    @property
    def address(self) -> str:
        """The server's own, by number."""
        return f"http://[{self.host}]:{self.number}/" if ":" in self.host else f"http://{self.host}:{self.number}/"

    def free(self) -> None:
        if self._guard is not None:
            self._guard.close()


def _is_bound(runtime: UntrustedTree) -> bool:
    """Jupyter has written, whole, where it listens."""
    try:
        for name in runtime.names(limit=_MAX_NAMES):
            if name.startswith("jpserver-") and name.endswith(".json"):
                with contextlib.suppress(MalformedError, LookupError, TypeError):  # it is being written
                    parse_json(runtime.read(name, _SMALL_BYTES))["port"]
                    return True
    except (OSError, UntrustedError):
        return False
    return False


class _DiedError(Exception):
    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.message = message
        self.said = said
