"""Connections of the HTTP server: what Hypercorn and asyncio leave open or unbounded there."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import sys
import weakref
from contextlib import suppress
from typing import Any, Final

import h11
import hypercorn.protocol
from attrs import define, field
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Body, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from ringbinder.runtime.log import Logger

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_QUIET_SECONDS: Final = 60.0
_MOST_DESCRIPTORS: Final = 65_536
_RESERVE: Final = 256
"""Descriptors that connections leave to launches, sinks and the store; of a small limit, a quarter."""
_HTTP_VERSION_NOT_SUPPORTED: Final = 505


class Listening(socket.socket):
    """A listening socket that knows its connections: Hypercorn has no way to end one that does not read."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.setblocking(False)
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._resting = False
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = sys.maxsize if limit == resource.RLIM_INFINITY else limit - min(_RESERVE, limit // 4)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; raises OSError if that would take the last descriptors, which launches need."""
        # Until Python 3.14 at least, asyncio goes on accepting after EMFILE, up to the backlog, and reports each time.
        if self._resting:
            raise BlockingIOError
        try:
            connection, address = self._next()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._resting = True
                asyncio.get_running_loop().call_soon(self._wake_up)
            raise
        self._connections.add(connection)
        return connection, address

    def _next(self) -> tuple[socket.socket, Any]:
        if len(self._connections) >= self._most:
            # Closed ones are there until they are collected, which is seldom.
            self._connections = weakref.WeakSet(each for each in self._connections if each.fileno() != -1)
        if len(self._connections) >= self._most:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()

    def cut_off(self) -> None:
        """Ends all connections that are open, with everything that has not been sent."""
        for connection in list(self._connections):
            with suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def _wake_up(self) -> None:
        self._resting = False


class Disconnected(OSError):
    """Raised by ASGI's `send` once the client has gone, as the ASGI specification asks for."""


class _Http1(H11Protocol):
    """HTTP/1 and nothing else on a connection without TLS: Hypercorn has no option for that.

    h2c has no use here, and a proxy that passes an upgrade on would no longer see the requests behind it.
    """

    _gone = False

    async def handle(self, event: Event) -> None:
        self._gone = self._gone or isinstance(event, Closed)
        await super().handle(event)
        if isinstance(self.stream, WSStream) and self.stream.closed:
            # Hypercorn (0.18) refuses a malformed handshake, and then keeps the connection for ever.
            await self._maybe_recycle()

    async def stream_send(self, event: StreamEvent) -> None:
        """Sends a part of a response; raises Disconnected if that could not be written."""
        await super().stream_send(event)
        if self._gone and isinstance(event, (Response, Body)):
            # Hypercorn (0.18) drops what is written to a client that has gone, and awaits nothing: an application
            # would write all that it has, while the loop stands still and each failure keeps its bytes in memory.
            raise Disconnected

    async def _check_protocol(self, event: h11.Request) -> None:
        """Leaves ``Upgrade: h2c`` unanswered: the request is one of HTTP/1.1."""

    async def _create_stream(self, request: h11.Request) -> None:
        if not request.http_version.startswith(b"1."):
            await self._send_error_response(_HTTP_VERSION_NOT_SUPPORTED)
            await self.send(Closed())
            return
        await super()._create_stream(request)


def refuse_h2c() -> None:
    """Makes Hypercorn speak HTTP/2 over TLS only, in this whole process."""
    # The class is a global there, until Hypercorn has an option.
    hypercorn.protocol.H11Protocol = _Http1  # type: ignore[attr-defined]  # imported there


@define
class ExhaustionReports:
    """The event loop's exception handler: says once a minute that connections cannot be accepted."""

    log: Logger
    _quiet_until: float = field(default=0.0, init=False)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _EXHAUSTED and "socket" in context):
            loop.default_exception_handler(context)
        elif loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + _QUIET_SECONDS
            self.log.error(
                "new connections wait: the system gives no file descriptor",
                reason=error.strerror,
                limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                advice="raise the limit of open files (ulimit -n, LimitNOFILE), or let fewer clients connect",
            )


def raise_descriptor_limit() -> None:
    """Raises the soft limit of open files to the hard one: an event stream takes a descriptor as long as it is open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with suppress(ValueError, OSError):  # macOS has a limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
