"""Every kind of answer that a service gives which is broken, or none at all: byte by byte, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from attrs import define, field


def http(body: bytes, status: str = "200 OK", kind: str = "application/json", **headers: object) -> bytes:
    """One response, after which the connection is closed."""
    lines = {"Content-Type": kind, "Content-Length": len(body), "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


SILENCE: Final = b"silence"
ENDLESS: Final = b"endless"
KINDS: Final[dict[str, bytes]] = {
    "list": http(b"[]"),
    "null": http(b"null"),
    "text": http(b'"users"'),
    "number": http(b"7"),
    "true": http(b"true"),
    "empty object": http(b"{}"),
    "empty body": http(b""),
    "nested": http(b"[" * 100_000 + b"]" * 100_000),
    "nested in an object": http(b'{"items":' * 5_000 + b"1" + b"}" * 5_000),
    "large number": http(b'{"metadata": {"resourceVersion": ' + b"9" * 10_000 + b"}}"),
    "truncated JSON": http(b'{"items": [{"metadata": {"na'),
    "HTML": http(b"<html><body>Sign in</body></html>", kind="text/html"),
    "invalid UTF-8": http(b'{"items": "\xff\xfe"}'),
    "error in a 200": http(b'{"kind": "Status", "status": "Failure", "code": 500, "message": "no"}'),
    "redirect": http(b"", "302 Found", Location="/elsewhere"),
    "redirect to nowhere": http(b"", "307 Temporary Redirect"),
    "not modified": b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
    "too many": http(b'{"message": "slow down"}', "429 Too Many Requests", Retry_After="0"),
    "too many, no JSON": http(b"slow down", "429 Too Many Requests", "text/plain", Retry_After="soon"),
    "error": http(b'{"message": ["oops"], "reason": {}}', "500 Internal Server Error"),
    "error that is a list": http(b"[]", "500 Internal Server Error"),
    "bad gateway": http(b"<html>", "502 Bad Gateway", "text/html"),
    "closed": b"",
    "too short": http(b"{}", Content_Length=100),
    "too long": http(b'{"a": 1} and more', Content_Length=8),
    "wrong length": http(b"{}", Content_Length="many"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "broken chunks": http(b"zz\r\n{}\r\n0\r\n\r\n", Transfer_Encoding="chunked"),
    "silence": SILENCE,
    "endless": ENDLESS,
}  # fmt: skip

GARBAGE: Final[tuple[Any, ...]] = (
    None,
    True,
    7,
    1e308,
    "",
    "x",
    [],
    [None],
    [[]],
    {},
    {"a": None},
    {"a": {"b": []}},
)


def mistyped(good: Any) -> Iterator[Any]:
    """Copies of `good`, in each of which one part has been replaced by something else."""
    yield from GARBAGE
    parts = good.items() if isinstance(good, dict) else enumerate(good) if isinstance(good, list) else ()
    for key, part in parts:
        for other in mistyped(part):
            copy = json.loads(json.dumps(good))
            copy[key] = other
            yield copy


@define(eq=False)
class Service:
    """Gives every request the answer `wrong`, where that is set; else what `good` gives for its first line."""

    good: Callable[[str], bytes]
    wrong: bytes | None = None
    address: str = ""
    asked: int = 0
    _connections: set[asyncio.Task[None]] = field(factory=set, init=False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        answer = self.good(head.split(b"\r\n")[0].decode()) if self.wrong is None else self.wrong
        if answer is ENDLESS:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
            while True:
                writer.write(b"1, " * 20_000)
                await writer.drain()
        if answer is SILENCE:
            await asyncio.Event().wait()
        writer.write(answer)
        await writer.drain()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def end(done: asyncio.Task[None]) -> None:
            self._connections.discard(done)
            # What the client of a cancelled one has not read by now it never will.
            writer.transport.abort() if done.cancelled() else writer.close()

        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(end)

    async def close(self) -> None:
        """Ends what is under way, once no more can come."""
        while self._connections:
            for connection in self._connections:
                connection.cancel()
            await asyncio.wait(self._connections)
        await asyncio.sleep(0)  # a transport closes its socket in the loop's next turn


@asynccontextmanager
async def running(good: Callable[[str], bytes]) -> AsyncIterator[Service]:
    service = Service(good)
    server = await asyncio.start_server(service.accept, "127.0.0.1", 0)
    service.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield service
    finally:
        server.close()
        await service.close()
