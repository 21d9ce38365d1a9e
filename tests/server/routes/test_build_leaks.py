"""What is left when clients have gone: nothing."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from ringbinder.launches.event_buffer import EventLog, Render
from ringbinder.launches.sessions import LARGE_BATCH

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

CLIENTS = 1000
AT_ONCE = 100
GAUGES = ("ringbinder_open_streams", "binderhub_inprogress_builds", "binderhub_inprogress_launches")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def leave_at_random(live: Live, chance: random.Random, limit: asyncio.Semaphore) -> str:
    """One client that goes away: before it has asked, in the midst, or after the end; or it stays to the end."""
    address = urlsplit(live.address)
    async with limit:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            request = (
                f"GET /build/fake/owner/name{chance.randrange(40)}/main HTTP/1.1\r\n"
                f"Host: {address.netloc}\r\nAccept: text/event-stream\r\n\r\n"
            ).encode()
            if chance.random() < 0.1:
                writer.write(request[: chance.randrange(len(request))])
                return "half a request"
            writer.write(request)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.2)
                return "some time"
            text, stop = b"", chance.randrange(8000)
            while chunk := await reader.read(1 + chance.randrange(4000)):
                text += chunk
                if len(text) > stop:
                    return "in the midst"
                if b'"phase": "ready"' in text or b'"phase": "failed"' in text:
                    return "the end"
            return "closed"
        finally:
            if chance.random() < 0.5:
                writer.transport.abort()
            writer.close()


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_a_thousand_clients_that_leave_at_random_leave_nothing(serve: Serve, seed: int) -> None:
    sets = {
        "FakeBuilder.lines": "60", "FakeBuilder.lines_per_second": "200", "FakeLauncher.launch_seconds": "0.05",
        "Ringbinder.session_grace": "0.2", "Ringbinder.session_memory": "0.3", "Ringbinder.keepalive": "0.1",
        "LaunchQuota.total_quota": "100000", "Ringbinder.max_sessions_per_client": "1000",
    }  # fmt: skip
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard) if hard > 0 else 4096, hard))
    try:
        async with serve(sets, hold=60) as live:
            async with live.stream("build/fake/owner/before/main") as stream:
                await stream.until("ready")  # opens what is opened once
            await live.client.get(live.address + "metrics")
            while live.binder.runs._unkept or live.binder.sessions.known:
                await asyncio.sleep(0.02)
            tasks, files = len(asyncio.all_tasks()), descriptors()
            chance, limit = random.Random(seed), asyncio.Semaphore(AT_ONCE)
            seeds = [random.Random(chance.random()) for _ in range(CLIENTS)]
            ends = await asyncio.gather(*(leave_at_random(live, each, limit) for each in seeds))
            assert {"half a request", "some time", "in the midst", "the end"} <= set(ends)

            async def settled() -> None:
                sessions = live.binder.sessions
                while (
                    sessions.known or sessions._timers or sessions._endings or live.binder.runs._unended
                    or live.binder.runs._unkept or len(asyncio.all_tasks()) > tasks or descriptors() > files
                ):  # fmt: skip
                    await asyncio.sleep(0.05)

            try:
                await asyncio.wait_for(settled(), 60)
            except TimeoutError:
                names = [task.get_name() for task in asyncio.all_tasks()]
                pytest.fail(f"{tasks} tasks, now {names}; {files} files, now {descriptors()}")
            text = (await live.client.get(live.address + "metrics")).text
            for gauge in GAUGES:
                assert f"\n{gauge} 0.0" in text, gauge
            reported = ends.count("the end")
            assert len(await live.binder.servers.running()) >= reported > 0, "who was told of a server has it"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def deaf(live: Live, path: str) -> socket.socket:
    """A client that has asked for `path` and reads nothing."""
    loop, address = asyncio.get_running_loop(), urlsplit(live.address)
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(client, (address.hostname, address.port))
    request = f"GET /{path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    await loop.sock_sendall(client, request.encode())
    return client


async def test_client_that_closes_unread_gets_no_more_written(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def rendered(log: EventLog, start: int, stop: int, offset: int, render: Render) -> bytes:
        made.append(stop - start)
        return make(log, start, stop, offset, render)

    make = EventLog.rendered
    monkeypatch.setattr(EventLog, "rendered", rendered)
    lines, clients = 40_000, 5
    async with serve({"FakeBuilder.lines": str(lines), "FakeBuilder.line_bytes": "300"}, hold=60) as live:
        opened = [await deaf(live, "build/fake/owner/name/main") for _ in range(clients)]
        while not live.binder.runs.ended:
            await asyncio.sleep(0)
        before = -1
        while before != len(made):  # until all of them wait for their clients to read
            before = len(made)
            for _ in range(500):
                await asyncio.sleep(0)
        left = clients * lines - sum(made)
        assert left > clients * lines / 3
        made.clear()
        for client in opened:
            client.close()
        registry = live.binder.services.metrics.registry
        while registry.get_sample_value("ringbinder_open_streams"):
            await asyncio.sleep(0)
        assert sum(made) <= clients * LARGE_BATCH
