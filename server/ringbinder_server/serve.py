"""Runs the application on Hypercorn, and ends it so that no one waits in vain and nothing is left running."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import quote

import hypercorn.asyncio
import hypercorn.config
import hypercorn.logging
from ringbinder.app import Ringbinder, running
from ringbinder.config.folders import folder_problems
from ringbinder.config.loading import Config
from ringbinder.errors import ConfigError
from ringbinder.runtime.log import Logger
from ringbinder.secret import HIDDEN, Secret, redact_decoded

from .app import create_app
from .connections import ExhaustionReports, Listening, raise_descriptor_limit, refuse_h2c
from .routes.build_logs import BUILD_LOG
from .routes.login import BACK
from .security.access_token import check_public, token_of

_WRITING: Final = 3.0
"""Seconds that open connections have to take their last bytes when the server ends."""
ANY_ADDRESS: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""What means every address of this machine, and the one of them that is for its own programs."""
_LONGEST_LOGGED: Final = 4096
"""Characters of a request's path and query that the log shows."""
_QUIET: Final = frozenset({"health", "versions", "metrics"})
_LOGIN = re.compile(rf"(?<=/{BACK}\?).*")
_LOG_CAPABILITY = re.compile(r"(?:(?<=/api/v1/builds/)|(?<=/api/v1/launches/))[^/?]+")


async def serve(
    config: Config,
    log: Logger,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_to_all: bool = False,
    demand_token: bool = True,
    on_ready: Callable[[str, Secret | None], None],
) -> None:
    """Serves until SIGTERM or SIGINT; a second SIGINT ends the process at once.

    After SIGTERM, launches under way go on for ``Ringbinder.drain_time``.

    `on_ready` gets the address once requests are answered, and the token if one was made for this server: for a
    person's own machine, if `demand_token` and none is configured. `port` defaults to ``BinderHub.port``; 0 takes
    a free one. `open_to_all`: refuses to start without a token or an allow-list. Raises ConfigError then,
    if it cannot listen there or use its folders, and what `ringbinder.app.running` raises.
    """
    raise_descriptor_limit()
    if problems := folder_problems(config):
        raise ConfigError(problems)
    with listen(host, config.binderhub.port if port is None else port) as sock, _stopping_by_signal() as (stop, hurry):
        address = address_of(sock, host, config.binderhub.base_url)
        public = open_to_all or not _is_loopback(host)
        async with AsyncExitStack() as stack:
            binder = await stack.enter_async_context(running(config, log, public=public, build_log=BUILD_LOG))
            choice = binder.config.choice
            log.info(
                "plugins chosen", **{kind: f"{name} ({choice.reasons[kind]})" for kind, name in choice.names.items()}
            )
            for risk in config.risks:
                log.warning(risk)
            if open_to_all:
                check_public(binder)
            token = token_of(binder, demanded=demand_token)
            server = await stack.enter_async_context(serving(binder, sock, host, token=token))
            collect_seldom()
            on_ready(address, None if token == config.settings.access_token else token)
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({stopped, server}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if stop.is_set():
                await _drain(binder, hurry)


def collect_seldom() -> None:
    """Python looks for garbage less often, and not among what is there now.

    Modules and plugins stay, and so do the lines of a build for a while: looking through them again and again makes
    every client wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _drain(binder: Ringbinder, hurry: asyncio.Event) -> None:
    limit = binder.config.settings.drain_time
    waiting = [asyncio.create_task(done) for done in (binder.sessions.drained(), hurry.wait())]
    await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError with what to do if there can be none."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                problem = (
                    f"port {port} of {host} is in use: end the program that uses it, or choose another port "
                    f"with --port or the option BinderHub.port (0 takes a free one)"
                )
            case errno.EACCES:
                problem = f"port {port} of {host} is for privileged programs only: choose one above 1023"
            case errno.EADDRNOTAVAIL if host == "127.0.0.1":
                problem = (
                    "this machine has no address 127.0.0.1 to listen on: give it one (`ip addr add 127.0.0.1/8 dev "
                    "lo`), or use IPv6 with --host ::1"
                )
            case _:
                problem = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise ConfigError([problem]) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def address_of(sock: socket.socket, host: str, base_url: str = "/") -> str:
    """The address for the browser of this machine."""
    name = {**ANY_ADDRESS, "localhost": "127.0.0.1"}.get(host, host)
    port = sock.getsockname()[1]
    return f"http://[{name}]:{port}{base_url}" if ":" in name else f"http://{name}:{port}{base_url}"


@asynccontextmanager
async def serving(
    binder: Ringbinder, sock: socket.socket, bound: str, hold: float = 60.0, *, token: Secret | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Answers requests on `sock`, which it takes over; yields the task that does so.

    `token` is demanded of clients; the default is the configured one, if there is one.

    On leaving, every open stream gets its last event and ends while the server still runs; then it ends too.
    """
    app = create_app(binder, bound, hold, token)
    settings = _Settings(sock)
    settings.include_server_header = False
    settings.graceful_timeout = 2 * _WRITING
    # The public way, `logger_class`, makes a log that does not know ours.
    settings._log = _AccessLog(settings, binder.log)  # pyright: ignore[reportPrivateUsage]
    refuse_h2c()
    loop = asyncio.get_running_loop()
    handler_before = loop.get_exception_handler()
    loop.set_exception_handler(ExhaustionReports(binder.log))
    drained = asyncio.Event()
    server = asyncio.create_task(
        hypercorn.asyncio.serve(app, settings, shutdown_trigger=drained.wait), name="http server"
    )
    try:
        yield server
    finally:
        app.extensions["site"].closing.set()
        await _close(binder)
        drained.set()
        # Since Python 3.12, Hypercorn waits for open connections for ever.
        await asyncio.wait({server}, timeout=_WRITING)
        if not server.done():
            settings.listening.cut_off()
            await asyncio.wait({server})
        if (error := server.exception()) is not None:
            binder.log.error("the HTTP server failed", exc_info=error)
        loop.set_exception_handler(handler_before)


async def _close(binder: Ringbinder) -> None:
    limit = binder.config.settings.lifespan_timeout or None
    try:
        async with asyncio.timeout(limit):
            await binder.close()
    except TimeoutError:
        binder.log.warning("launches or builds take too long to end; their plugins end them", seconds=limit)


@contextmanager
def _stopping_by_signal() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """The server is to stop; and it is to do so without waiting for anybody."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def ask(number: signal.Signals) -> None:
        if number is signal.SIGINT and stop.is_set():
            # Nothing is tidied up; what plugins have started ends with this process.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        if number is signal.SIGINT or stop.is_set():
            hurry.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    try:
        yield stop, hurry
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Settings(hypercorn.config.Config):
    """Hypercorn's settings, with a socket that listens already."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.listening = Listening(sock)

    def create_sockets(self) -> hypercorn.config.Sockets:
        return hypercorn.config.Sockets([], [self.listening], [])


class _AccessLog(hypercorn.logging.Logger):
    """Hypercorn's log, written to ours: one line a request, when its answer has ended."""

    def __init__(self, settings: hypercorn.config.Config, log: Logger) -> None:
        settings.errorlog = None
        super().__init__(settings)
        self._log = log

    async def access(self, request: Any, response: Mapping[str, Any] | None, request_time: float) -> None:
        path = request["raw_path"].decode("ascii")
        query = request["query_string"].decode("ascii", "replace")
        quiet = "/static/" in path or path.rpartition("/")[2] in _QUIET
        write = self._log.debug if quiet else self._log.info
        write(
            "request",
            request=request.get("state", {}).get("request"),
            method=request.get("method", "WEBSOCKET"),
            path=loggable(f"{path}?{query}" if query else path),
            # A client that left before the answer ended has no status.
            status=response["status"] if response else None,
            seconds=round(request_time, 3),
        )

    async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.critical(message, *args)

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.error(message, *args)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.warning(message, *args)

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.debug(message, *args)

    async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.debug(message, *args)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._log.error(message, *args, exc_info=True)


def loggable(target: str) -> str:
    """A request's path and query without secrets in parameters or (encoded) addresses, or names of logs."""
    target = _LOGIN.sub(HIDDEN, _LOG_CAPABILITY.sub(HIDDEN, target))
    scrubbed = redact_decoded(target)
    shown = target if scrubbed is None else quote(scrubbed, safe="/?&=:[]@,;+~!$'()*")
    return shown if len(shown) <= _LONGEST_LOGGED else f"{shown[:_LONGEST_LOGGED]}..."
