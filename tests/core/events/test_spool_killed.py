"""kill -9 at any point, with a receiver that fails half of the time and restarts: nothing stored is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from attrs import define, field
from ringbinder.secret import Secret
from ringbinder_sinks.webhook import SIGNATURE, signature

KILLS = 10
RATE = 500


@define
class Receiver:
    """Takes half of the batches. Of the others, some it has taken, and its answer is lost on the way."""

    chance: random.Random
    bodies: dict[str, str] = field(factory=dict)
    """What came under an id."""
    numbers: list[int] = field(factory=list)
    """In the order in which they were first seen."""
    seen: int = 0
    batches: int = 0
    answers: int = 0
    port: int = 0
    honest: bool = False
    """From now on it takes everything."""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/events", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        (address,) = self._runner.addresses
        self.port = address[1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.batches += 1
        body = await request.read()
        moment, _, given = request.headers[SIGNATURE].removeprefix("t=").partition(",v1=")
        assert given == signature(Secret("a key of the test"), int(moment), body)
        luck = 1.0 if self.honest else self.chance.random()
        if luck < 0.3:
            raise web.HTTPServiceUnavailable
        for record in json.loads(body)["events"]:
            self.seen += 1
            text = json.dumps(record["event"], sort_keys=True)
            assert self.bodies.setdefault(record["id"], text) == text
            number = record["event"]["number"]
            if number not in self._known:
                self._known.add(number)
                self.numbers.append(number)
        if luck < 0.5:
            assert request.transport is not None
            request.transport.abort()
        self.answers += 1
        return web.Response()

    _known: set[int] = field(factory=set)


@asynccontextmanager
async def emitting(receiver: Receiver, state: Path, first: int, count: int = 0) -> AsyncIterator[Emitter]:
    program = Path(__file__).with_name("emitting.py")
    url = f"http://127.0.0.1:{receiver.port}/events"
    words = [url, str(state), str(first), str(count), str(RATE)]
    with (state / "stderr").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), *words, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    emitter = Emitter(process)
    reading = asyncio.create_task(emitter.read())
    try:
        yield emitter
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


@define
class Emitter:
    process: asyncio.subprocess.Process
    stored: int = -1
    drained: bool = False
    heard: asyncio.Event = field(factory=asyncio.Event)

    async def has_stored(self, number: int) -> None:
        while self.stored < number and self.process.returncode is None:
            self.heard.clear()
            await self.heard.wait()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(b"stored ") and line.endswith(b"\n"):
                self.stored = int(line.split()[1])
            self.drained = self.drained or line == b"drained\n"
            self.heard.set()
        self.heard.set()


async def _restart_now_and_then(receiver: Receiver) -> None:
    while True:
        await asyncio.sleep(receiver.chance.uniform(0.5, 2))
        await receiver.stop()
        await asyncio.sleep(receiver.chance.uniform(0, 0.5))
        await receiver.start()


@pytest.mark.slow
async def test_nothing_stored_is_missing_and_duplicates_share_an_id(tmp_path: Path) -> None:
    seed = int(os.environ.get("RINGBINDER_TEST_SEED", random.randrange(10**6)))
    receiver = Receiver(random.Random(seed))
    await receiver.start()
    restarting = asyncio.create_task(_restart_now_and_then(receiver))
    stored: set[int] = set()
    for kill in range(KILLS):
        first = kill * 1_000_000
        async with emitting(receiver, tmp_path, first) as emitter:
            # By what is stored, not by time: a busy machine stores less in a second. One is killed at once.
            least = receiver.chance.randrange(60, 500) if kill else 0
            await asyncio.wait_for(emitter.has_stored(first + least), 120)
            await asyncio.sleep(receiver.chance.uniform(0, 0.05))
            emitter.process.send_signal(signal.SIGKILL)
        assert emitter.process.returncode == -signal.SIGKILL, (tmp_path / "stderr").read_text()
        stored |= set(range(first, emitter.stored + 1))
    restarting.cancel()
    await asyncio.wait({restarting})
    await receiver.stop()
    await receiver.start()
    receiver.honest = True
    async with emitting(receiver, tmp_path, KILLS * 1_000_000, count=100) as emitter:
        code = await asyncio.wait_for(emitter.process.wait(), 120)
    await receiver.stop()
    assert code == 0, (tmp_path / "stderr").read_text()
    assert emitter.drained
    stored |= set(range(KILLS * 1_000_000, emitter.stored + 1))

    message = f"seed {seed}"
    assert stored - set(receiver.numbers) == set(), message
    assert len(receiver.bodies) == len(receiver.numbers), message
    assert receiver.numbers == sorted(receiver.numbers), message
    assert len(stored) > KILLS * 50, message
    assert receiver.seen > len(receiver.numbers), f"no duplicate was sent, {message}"
    print(
        f"{KILLS} kills at {RATE} events/s: {len(stored)} stored, 0 missing, "
        f"{receiver.seen - len(receiver.numbers)} duplicates, {receiver.batches} requests, "
        f"{receiver.answers} answered well ({message})"
    )
    leftovers = [path.name for path in (tmp_path / "spool" / "webhook").rglob("*.events")]
    assert len(leftovers) <= 1
