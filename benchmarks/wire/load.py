"""Servers in processes of their own, and clients that cost as little as they can."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from attrs import define

_FAKES = {
    "Ringbinder.builder": "fake",
    "Ringbinder.registry": "fake",
    "Ringbinder.launcher": "fake",
    "Ringbinder.extra_plugins": "[fake]",
    "Ringbinder.max_sessions_per_client": "5000",
}


@define
class Target:
    """A server under load."""

    host: str
    port: int
    process: psutil.Process

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it has taken."""
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def memory(self) -> int:
        """Bytes of memory that are its own."""
        return int(self.process.memory_full_info().uss)


@asynccontextmanager
async def ringbinder(sets: Mapping[str, object]) -> AsyncIterator[Target]:
    """`ringbinder serve` with the fake plugins."""
    with tempfile.TemporaryDirectory() as folder:
        given = {
            **_FAKES,
            "Ringbinder.state_folder": f"{folder}/state",
            "Ringbinder.cache_folder": f"{folder}/cache",
            **sets,
        }
        words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        program = str(Path(sys.executable).with_name("ringbinder"))
        command = [program, "serve", "--port", "0", *words]
        async with _started(command) as target:
            yield target


@asynccontextmanager
async def floor(watchers: int, lines: int, size: int, batch: int) -> AsyncIterator[Target]:
    """A bare asyncio writer of as many bytes to as many clients, `batch` lines a write."""
    script = str(Path(__file__).with_name("floor.py"))
    async with _started(
        [sys.executable, script, *(str(number) for number in (watchers, lines, size, batch))]
    ) as target:
        yield target


@asynccontextmanager
async def _started(command: list[str]) -> AsyncIterator[Target]:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        address = urlsplit(line.split()[-1])
        yield Target(address.hostname or "127.0.0.1", address.port or 0, psutil.Process(process.pid))
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@define
class Watcher:
    """One open stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def opened(cls, target: Target, spec: str, *, buffer: int = 1 << 18, build_only: bool = False) -> Watcher:
        reader, writer = await asyncio.open_connection(target.host, target.port, limit=buffer)
        writer.write(
            f"GET /build/fake/{spec}{'?build_only=true' * build_only} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        return cls(reader, writer)

    async def until(self, *words: bytes) -> tuple[list[float], int]:
        """Seconds (monotonic) at which each of `words` was there, in order, and the number of log lines before."""
        times: list[float] = []
        lines, tail = 0, b""
        while len(times) < len(words):
            chunk = await self.reader.read(1 << 18)
            if not chunk:
                raise ConnectionError("the stream ended early")
            text = tail + chunk
            lines += text.count(b"Fake build: line ") - tail.count(b"Fake build: line ")
            tail = text[-200:]
            while len(times) < len(words) and words[len(times)] in text:
                times.append(time.monotonic())
        return times, lines

    def close(self) -> None:
        self.writer.close()
