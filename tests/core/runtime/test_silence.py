"""Within 5 s the client reads what is silent, and then less and less often, until there is an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from ringbinder.runtime.silence import Silence, speaker
from ringbinder.testing.stepped import SteppedLoop


@pytest.fixture
def loop() -> Iterator[SteppedLoop]:
    made = SteppedLoop()
    yield made
    made.close()


async def wait_for(answer: asyncio.Event, spoken: list[str]) -> None:
    speaker.set(spoken.append)
    with Silence("The hub has not answered"):
        await answer.wait()


def test_silence_has_a_word_after_five_seconds(loop: SteppedLoop) -> None:
    spoken: list[str] = []
    answer = asyncio.Event()
    task = loop.create_task(wait_for(answer, spoken))
    loop.advance(4.9)
    assert spoken == []
    loop.advance(0.1)
    assert spoken == ["The hub has not answered for 5 s.\n"]
    loop.advance(9.9)
    assert len(spoken) == 1
    loop.advance(100.0)
    assert spoken[1:] == ["The hub has not answered for 15 s.\n", "The hub has not answered for 45 s.\n"]
    answer.set()
    loop.settle()
    assert task.done()
    loop.advance(1000.0)
    assert len(spoken) == 3
    assert loop.timers == []


def test_answer_in_time_has_no_word(loop: SteppedLoop) -> None:
    spoken: list[str] = []

    async def work() -> None:
        speaker.set(spoken.append)
        with Silence("The log is silent") as silence:
            for _ in range(10):
                await asyncio.sleep(4.0)
                silence.received()
            await asyncio.sleep(6.0)
            silence.received()
            await asyncio.sleep(6.0)

    loop.create_task(work())
    loop.advance(45.5)
    assert spoken == ["The log is silent for 5 s.\n"]
    loop.advance(6.0)
    assert spoken == ["The log is silent for 5 s.\n"] * 2
    loop.advance(1.0)


def test_silence_without_a_client_has_no_word(loop: SteppedLoop) -> None:
    async def work() -> None:
        with Silence("No one waits"):
            await asyncio.sleep(100.0)

    task = loop.create_task(work())
    loop.advance(0.0)
    assert len(loop.timers) == 1, "that of the sleep"
    loop.advance(100.0)
    assert task.done()


def test_silence_within_another_speaks_alone(loop: SteppedLoop) -> None:
    spoken: list[str] = []

    async def work() -> None:
        speaker.set(spoken.append)
        with Silence("The launch is silent"):
            await asyncio.sleep(4.0)
            with Silence("The hub is silent"):
                await asyncio.sleep(7.0)
            await asyncio.sleep(6.0)

    task = loop.create_task(work())
    loop.advance(8.0)
    assert len(loop.timers) == 3, "those of both silences and of the sleep lie ahead: none spins"
    loop.advance(9.0)
    assert task.done()
    assert spoken == ["The hub is silent for 5 s.\n", "The launch is silent for 5 s.\n"]


def test_answer_after_the_end_does_not_start_over(loop: SteppedLoop) -> None:
    spoken: list[str] = []

    async def work() -> Silence:
        speaker.set(spoken.append)
        with Silence("The build is silent") as silence:
            await asyncio.sleep(6.0)
        return silence

    task = loop.create_task(work())
    loop.advance(6.0)
    loop.step(task.result().received)
    loop.advance(100.0)
    assert loop.timers == []
    assert spoken == ["The build is silent for 5 s.\n"]
