"""Whatever takes the place of a notebook's socket, the relay connects to nothing outside of the notebook's box."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder_embedded.relay import Relay


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"hello")
    writer.close()


@asynccontextmanager
async def relay_to(tree: UntrustedTree) -> AsyncIterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    relay = await Relay.start("127.0.0.1", port, tree, "s")
    try:
        yield port
    finally:
        relay.close()
        relay.close()


async def answer(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /?token=planted HTTP/1.1\r\n\r\n")
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.fixture
def box(tmp_path: Path) -> UntrustedTree:
    (tmp_path / "box" / "runtime").mkdir(parents=True)
    return UntrustedTree(tmp_path / "box").subtree("runtime")


async def test_socket_of_the_notebook_is_reached(box: UntrustedTree) -> None:
    async with relay_to(box) as port:
        assert await answer(port) == b""
        async with await asyncio.start_unix_server(_greet, box.place / "s"):
            assert await answer(port) == b"hello"


async def test_socket_that_is_reset_ends_the_connection(box: UntrustedTree) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()  # with what was sent to it unread

    async with relay_to(box) as port, await asyncio.start_unix_server(reset, box.place / "s"):
        assert await answer(port) == b""


@pytest.mark.parametrize("replaced", ["s", "runtime", "to a folder within"])
async def test_link_to_another_socket_is_not_followed(box: UntrustedTree, tmp_path: Path, replaced: str) -> None:
    reached: list[bytes] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read())
        writer.close()

    (tmp_path / "elsewhere").mkdir()
    async with (
        await asyncio.start_unix_server(other, tmp_path / "elsewhere" / "s"),
        relay_to(box) as port,
    ):
        if replaced == "s":
            (box.place / "s").symlink_to(tmp_path / "elsewhere" / "s")
        elif replaced == "runtime":
            box.place.rename(box.place.with_name("gone"))
            box.place.symlink_to(tmp_path / "elsewhere")
        else:
            (box.place / "inner").symlink_to(tmp_path / "elsewhere")
            (box.place / "s").symlink_to("inner/s")
        assert await answer(port) == b""
    assert reached == []


async def test_file_and_pipe_are_no_sockets(box: UntrustedTree) -> None:
    async with relay_to(box) as port:
        (box.place / "s").touch()
        assert await answer(port) == b""
        (box.place / "s").unlink()
        os.mkfifo(box.place / "s")
        assert await answer(port) == b""
