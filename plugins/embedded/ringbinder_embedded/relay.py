"""A port of this machine that leads to a server's Unix socket: the way into a sandbox that has no network."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from attrs import define, field
from ringbinder.errors import UserError

_CHUNK: Final = 65536
_LONGEST_PATH: Final = 100
"""Bytes; the system has no more than 107 for the path of a socket."""


@define(eq=False)
class Relay:
    """Made by `start`."""

    socket: Path
    _server: asyncio.Server = field(init=False)
    _connections: set[asyncio.Task[None]] = field(factory=set, init=False)

    @classmethod
    async def start(cls, port: int, socket: Path) -> Relay:
        """Listens on `port` of 127.0.0.1; what comes before `socket` is there is refused.

        Raises `UserError` (``path-too-long``), and OSError if the port is taken.
        """
        if len(str(socket).encode()) > _LONGEST_PATH:
            raise UserError(
                "path-too-long",
                f"A notebook without network is reached through a socket, and {socket} is too long a path for one: "
                "put Ringbinder.state_folder elsewhere, or allow the network (LocalLauncher.sandbox_network).",
            )
        relay = cls(socket)
        relay._server = await asyncio.start_server(relay._accept, "127.0.0.1", port)
        return relay

    def close(self) -> None:
        """Ends it, and every connection."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(reader, writer), name="relay")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))
        finally:
            writer.close()
            inner_writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
