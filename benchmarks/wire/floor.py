"""A bare asyncio writer: it has all lines beforehand, and writes the same bytes to everybody, `batch` lines a write.

With large batches no server of streams can be quicker. With one line a write it is what a server does that tells
each line when it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_SILENCE = 1.0


async def main(watchers: int, lines: int, size: int, batch: int) -> None:
    everybody = asyncio.Barrier(watchers)
    text = b"Fake build: line ".ljust(size - 10, b".")
    frame = b'id: %032d.%d\ndata: {"phase": "building", "message": "%s"}\n\n'
    frames = [frame % (0, number, text) for number in range(lines)]
    chunks = [b"".join(frames[at : at + batch]) for at in range(0, lines, batch)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200\r\ncontent-type: text/event-stream\r\n\r\n:Fake build of nothing\n\n")
        await everybody.wait()
        await asyncio.sleep(_SILENCE)  # else it has written before they read
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
            writer.write(b'data: {"phase": "pushing"}\n\n')
            await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


asyncio.run(main(*(int(word) for word in sys.argv[1:5])))
