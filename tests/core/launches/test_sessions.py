"""Sessions: who comes back goes on, who leaves is waited for, and no server is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from ringbinder import Event, LaunchRequest, Secret, Server
from ringbinder.launches.event_buffer import EventLog
from ringbinder.launches.sessions import BATCH, LARGE_BATCH, LargeBatches, Session, Sessions
from ringbinder.protocol import failed
from ringbinder.testing.stepped import SteppedLoop

GRACE, MEMORY = 60.0, 600.0
READY = Event("ready", "server running at http://h/\n", {"url": "http://h/"})
LEFT = "The client left before the launch was done.\n"


@define
class Hall:
    """Sessions whose work is `work`; the servers that were taken down."""

    loop: SteppedLoop
    work: Callable[[Session], Coroutine[Any, Any, None]] = field(init=False)
    down: list[str] = field(factory=list)
    trouble: list[str] = field(factory=list)
    sessions: Sessions = field(init=False)

    def __attrs_post_init__(self) -> None:
        async def work(session: Session) -> None:
            await self.work(session)

        async def take_down(server: Server) -> None:
            await asyncio.sleep(3)
            self.down.append(server.id)

        self.work = launch
        self.sessions = Sessions(work, take_down, GRACE, MEMORY)
        self.loop.set_exception_handler(lambda loop, context: self.trouble.append(context["message"]))

    def open(self) -> Session:
        opened: list[Session] = []
        self.loop.step(lambda: opened.append(self.sessions.open(lambda n: LaunchRequest("t", "s", session=n))))
        return opened[0]

    def read(self, session: Session, after: int = -1) -> Reader:
        reader = Reader(session, after)
        reader.task = self.loop.create_task(reader.read())
        self.loop.settle()
        return reader


@define
class Reader:
    session: Session
    after: int
    got: list[tuple[int, Event]] = field(factory=list)
    task: asyncio.Task[None] = field(init=False)

    async def read(self) -> None:
        async with aclosing(self.session.read(self.after)) as batches:
            async for batch in batches:
                self.got += batch

    @property
    def messages(self) -> list[str]:
        return [event.message for _, event in self.got]


@pytest.fixture
def hall() -> Iterator[Hall]:
    loop = SteppedLoop()
    hall = Hall(loop)
    yield hall
    closing = loop.create_task(hall.sessions.close("closing"))
    loop.advance(1000)
    closing.result()
    assert not asyncio.all_tasks(loop)
    assert not loop.timers
    loop.close()


async def launch(session: Session) -> None:
    """Ready after 100 seconds."""
    session.notify(Event("waiting", "wait\n"))
    await asyncio.sleep(100)
    session.server = Server(session.name, "http://h/", Secret("s" * 20))
    session.notify(READY)


async def never_end(session: Session) -> None:
    await asyncio.Event().wait()


async def launch_at_once(session: Session) -> None:
    session.server = Server(session.name, "http://h/", Secret("s" * 20))
    session.notify(READY)


def test_a_client_that_never_comes_is_not_launched_for(hall: Hall) -> None:
    session = hall.open()
    hall.loop.advance(GRACE - 1)
    assert not session.ended
    hall.loop.advance(1)
    assert session.terminal is not None
    assert session.terminal.message == LEFT
    hall.loop.advance(1000)
    assert not hall.down, "nothing was launched"


def test_a_client_that_comes_back_in_time_goes_on(hall: Hall) -> None:
    session = hall.open()
    first = hall.read(session)
    hall.loop.step(first.task.cancel)
    hall.loop.advance(GRACE - 1)
    second = hall.read(session, after=first.got[-1][0])
    hall.loop.advance(1000)
    assert second.got == [(1, READY)]
    assert second.task.done()
    assert session.delivered
    assert not hall.down


def test_each_leaving_restarts_the_grace_one_reader_is_enough(hall: Hall) -> None:
    hall.work = never_end
    session = hall.open()
    first, second = hall.read(session), hall.read(session)
    hall.loop.step(first.task.cancel)
    hall.loop.advance(GRACE + 1)
    assert not session.ended
    hall.loop.step(second.task.cancel)
    hall.loop.advance(GRACE - 1)
    assert session.cancel_event is None
    hall.loop.advance(2)
    assert session.cancel_event is not None


def test_ready_that_was_never_delivered_is_taken_down_once(hall: Hall) -> None:
    hall.work = launch_at_once
    session = hall.open()
    hall.loop.advance(GRACE - 1)
    assert not hall.down
    assert hall.sessions.find(f"{session.id}.0") is session
    hall.loop.advance(1 + 3)
    assert hall.down == [session.name]
    assert hall.sessions.find(f"{session.id}.0") is None, "who comes now needs a new server"
    hall.loop.advance(2000)
    assert hall.down == [session.name]


def test_reader_that_dropped_on_ready_has_not_seen_it(hall: Hall) -> None:
    hall.work = launch_at_once

    async def drop_on_first(session: Session) -> None:
        async with aclosing(session.read()) as batches:
            await anext(batches)

    session = hall.open()
    hall.loop.finish(drop_on_first(session))
    assert not session.delivered
    hall.loop.advance(GRACE + 3)
    assert hall.down == [session.name]


def test_delivered_ready_is_never_taken_down_and_forgotten(hall: Hall) -> None:
    hall.work = launch_at_once
    session = hall.open()
    assert hall.read(session).task.done()
    hall.loop.advance(MEMORY - 1)
    again = hall.read(session, after=0)
    assert again.task.done()
    assert not again.got
    hall.loop.advance(MEMORY - 1)
    assert hall.sessions.find(f"{session.id}.0.end") is session
    hall.loop.advance(1)
    assert not hall.sessions.known
    hall.loop.finish(hall.sessions.close("closing"))
    assert not hall.down


def test_server_of_a_failed_launch_is_taken_down_at_once(hall: Hall) -> None:
    async def work(session: Session) -> None:
        await launch_at_once_quietly(session)
        session.notify(failed("a slot could not be left"))

    hall.work = work
    session = hall.open()
    reader = hall.read(session)
    hall.loop.advance(3)
    assert hall.down == [session.name]
    assert reader.messages == ["a slot could not be left\n"]


async def launch_at_once_quietly(session: Session) -> None:
    session.server = Server(session.name, "http://h/", Secret("s" * 20))


def test_a_take_down_that_fails_is_logged(hall: Hall) -> None:
    async def take_down(server: Server) -> None:
        raise OSError("no answer")

    hall.work, hall.sessions.take_down = launch_at_once, take_down
    hall.open()
    hall.loop.advance(GRACE)
    assert hall.trouble == ["a server that no client knows of could not be stopped"]


@pytest.mark.parametrize("error", [RuntimeError("x"), BaseException("x"), None], ids=["bug", "crash", "no end"])
def test_work_that_ends_without_a_word_ends_the_session(hall: Hall, error: BaseException | None) -> None:
    async def work(session: Session) -> None:
        if error is not None:
            raise error

    hall.work = work
    reader = hall.read(hall.open())
    assert reader.messages == ["The launch ended without a result. Please try again.\n"]
    assert hall.trouble == ([] if error is None else ["a session failed"])


def test_cancelled_before_its_first_step_and_twice(hall: Hall) -> None:
    opened: list[Session] = []

    def act() -> None:
        opened.append(hall.sessions.open(lambda name: LaunchRequest("t", "s", session=name)))
        hall.sessions.cancel(opened[0], "never mind")
        hall.sessions.cancel(opened[0], "again")

    hall.loop.step(act)
    assert hall.read(opened[0]).messages == ["never mind\n"]


def test_a_clean_up_is_not_disturbed_by_the_end(hall: Hall) -> None:
    cleaned: list[str] = []

    async def work(session: Session) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(30)
            cleaned.append(session.name)

    hall.work = work
    session = hall.open()
    hall.loop.advance(GRACE)
    closing = hall.loop.create_task(hall.sessions.close("closing"))
    hall.loop.advance(29)
    assert not closing.done()
    hall.loop.advance(1)
    assert cleaned == [session.name]
    assert hall.read(session).messages == [LEFT]


def test_close_ends_all_and_takes_down_undelivered_servers(hall: Hall) -> None:
    waiting = hall.open()
    reader = hall.read(waiting)
    hall.work = launch_at_once
    reported, untold = hall.open(), hall.open()
    hall.read(reported)
    closing = hall.loop.create_task(hall.sessions.close("closing"))
    hall.loop.advance(2)
    assert not closing.done(), "a server is still being stopped"
    hall.loop.advance(1)
    assert closing.done()
    assert reader.messages == ["wait\n", "closing\n"]
    assert hall.down == [untold.name]
    late = hall.open()
    assert hall.read(late).messages == ["closing\n"]
    assert late.task is None
    assert not hall.loop.timers


def test_a_beat_breaks_a_silence(hall: Hall) -> None:
    session, batches = hall.open(), []

    async def listen() -> None:
        async for batch in session.read(beat=40):
            batches.append([event.phase for _, event in batch])

    task = hall.loop.create_task(listen())
    hall.loop.advance(100)
    assert task.done()
    assert batches == [["waiting"], [], [], ["ready"]]


@given(st.text(), st.integers(0, 10**13), st.booleans())
def test_an_id_is_read_for_its_own_session_only(text: str, number: int, end: bool) -> None:
    session = Session(LaunchRequest("t", "s"), "ab" * 16, "name")
    assert session.number_of(text) is None
    session.notify(Event("waiting", "a"))
    session.notify(READY)
    label = f"{session.id}.{number}" + (".end" if end else "")
    assert session.number_of(label) == (min(number, 1) if number < 10**11 else None)
    for wrong in ("", ".", ".-1", ".1.end.end", ".1x", ".0x1", ".\ud800"):
        assert session.number_of(session.id + wrong) is None


async def test_large_batches_are_for_few_readers_at_a_time() -> None:
    log, large = EventLog(), LargeBatches()
    for number in range(2 * LARGE_BATCH):
        log.append(Event("building", f"{number}"))
    readers, sizes = [], []
    for _ in range(9):
        session = Session(LaunchRequest("t", "s"), "id", "name", large=large)
        session._next(log, own=False)
        readers.append(session.spans())
        span = await anext(readers[-1])
        assert span is not None
        sizes.append(span.stop - span.start)
    assert sizes == [LARGE_BATCH] * 8 + [BATCH]
    await readers[0].aclose()
    span = await anext(readers[-1])
    assert span is not None
    assert (span.start, span.stop) == (BATCH, LARGE_BATCH), "larger, and still of those that others get"
    for reader in readers:
        await reader.aclose()
    assert large.free == 8


def test_the_bearer_secret_is_in_no_repr(hall: Hall) -> None:
    session = hall.open()
    for shown in (session, session.task, hall.sessions, hall.loop.timers):
        assert session.id not in repr(shown)
    assert session.id not in session.name
