"""A port of this machine that leads to a server's Unix socket: the way into a sandbox that has no network."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from typing import Final

from attrs import define, field
from ringbinder import UserError
from ringbinder.untrusted import UntrustedTree

_CHUNK: Final = 65536
_LONGEST_PATH: Final = 100
"""Bytes; the system has no more than 107 for the path of a socket."""


@define(eq=False)
class Relay:
    """Made by `start`.

    The notebook makes the socket, and can put anything into its place at any time, such as a link to a socket of
    another program of this machine. So it is reached through a handle of its folder that was taken before any of
    the notebook's code ran, and never through a link: what is connected to was made within the sandbox.
    """

    _folder: int
    _socket: str
    _server: asyncio.Server = field(init=False)
    _connections: set[asyncio.Task[None]] = field(factory=set, init=False)

    @classmethod
    async def start(cls, host: str, port: int, folder: UntrustedTree, socket: str) -> Relay:
        """Listens on `port` of `host`; what comes before `socket` is in `folder` is refused.

        Raises `UserError` (``path-too-long``), and OSError if the port is taken.
        """
        place = folder.place / socket
        if len(str(place).encode()) > _LONGEST_PATH:
            raise UserError(
                "path-too-long",
                f"A notebook without network is reached through a socket, and {place} is too long a path for one: "
                "put Ringbinder.state_folder elsewhere, or allow the network (LocalLauncher.sandbox_network).",
            )
        with folder.handle() as handle:
            relay = cls(os.dup(handle), socket)
        try:
            relay._server = await asyncio.start_server(relay._accept, host, port)
        except BaseException:
            os.close(relay._folder)
            raise
        return relay

    def close(self) -> None:
        """Ends it, and every connection."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(reader, writer), name="relay")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await self._open()
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))
        except OSError:
            return  # one side has gone, so the other is closed
        finally:
            writer.close()
            inner_writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # O_PATH opens nothing: it holds what is there now, be it a link or a socket.
        held = os.open(  # noqa: TID251 - relative to a handle, and no link
            self._socket, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder
        )
        try:
            if not stat.S_ISSOCK(os.fstat(held).st_mode):
                raise ConnectionRefusedError(errno.ECONNREFUSED, "the notebook's socket is no socket")
            return await asyncio.open_unix_connection(f"/proc/self/fd/{held}")
        finally:
            os.close(held)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
