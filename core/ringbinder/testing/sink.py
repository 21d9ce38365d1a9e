"""What every sink must do, as tests."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from attrs import frozen

from ..config.conversion import structure
from ..config.event_settings import DeliverySettings
from ..errors import EventsRejected
from ..protocol import SinkEvent
from .context import PATIENCE, descendants, left_over, started_tasks, still_running
from .rules import contract

SCHEMA = "example.org/contract"


@frozen(kw_only=True)
class SinkCase:
    """What to test a sink with."""

    sink: Any
    """The plugin, made; not started."""
    received: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]
    """What has arrived so far, oldest first: of each event a mapping that holds at least its fields."""
    down: Callable[[], AbstractAsyncContextManager[None]] | None = None
    """While entered, the other side cannot be reached; None for a sink that has no other side."""
    rejecting: Callable[[], AbstractAsyncContextManager[None]] | None = None
    """While entered, the other side answers that it will never take such events."""
    stalled: Callable[[], AbstractAsyncContextManager[asyncio.Event]] | None = None
    """While entered, the other side takes its time; the event is set once it has been asked."""
    secrets: Sequence[str] = ()
    """Passwords and tokens that the case uses: they must not show anywhere."""

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """The sink's life span, if it has one."""
        span = getattr(self.sink, "lifespan", None)
        if span is None:
            yield
            return
        async with span():
            yield

    async def numbers(self) -> list[int]:
        """The field `number` of what has arrived."""
        return [event["number"] for event in await self.received()]


def event(number: int, level: str = "info", **fields: Any) -> SinkEvent:
    """An event of the contract's own schema."""
    return SinkEvent(SCHEMA, 1, {"number": number, **fields}, 1_700_000_000.25, f"event-{number}", level)


@contract("sink")
class SinkContract:
    """Subclass it as ``Test...`` and give the fixture `case`. The sink is started by the tests."""

    @pytest.fixture
    async def case(self) -> Any:
        raise NotImplementedError("give a fixture `case` that returns or yields a SinkCase")

    async def test_events_arrive_whole_and_in_order(self, case: SinkCase) -> None:
        """A receiver can rely on all fields, in the order in which it happened."""
        events = [event(1), event(2, "warning", text="one", list=[1, 2]), event(3, "error")]
        async with case.started():
            for batch in (events, [event(4)]):
                while batch:
                    taken = await case.sink.emit(events=batch)
                    message = f"Rule: emit gives None, or how many events it took of {len(batch)}, not {taken!r}."
                    assert taken is None or (isinstance(taken, int) and 0 < taken <= len(batch)), message
                    batch = batch[taken:] if taken else []
        assert await case.numbers() == [1, 2, 3, 4], "Rule: every event arrives once, in order."
        arrived = (await case.received())[1]
        assert arrived["text"] == "one", "Rule: the fields of an event arrive with it."
        assert list(arrived["list"]) == [1, 2], "Rule: a list in an event arrives as a list."

    async def test_any_text_survives(self, case: SinkCase) -> None:
        """Names of repositories and lines of logs stand in events: they may hold anything."""
        texts = ["a\nb\r\n", '"quoted\\"', "%s {x} <b>", "äöü 🎈", "\u2028", "", "x" * 20_000]
        async with case.started():
            await case.sink.emit(events=[event(at, text=text) for at, text in enumerate(texts)])
        arrived = [found["text"] for found in await case.received()]
        for text, found in zip(texts, arrived, strict=True):
            assert found == text, f"Rule: text arrives as is; {text[:40]!r} came as {found[:40]!r}."

    async def test_events_are_not_changed(self, case: SinkCase) -> None:
        """All sinks get the same objects."""
        events = [event(1, nested={"a": [1]}), event(2)]
        before = copy.deepcopy([dict(one.fields) for one in events])
        async with case.started():
            await case.sink.emit(events=events)
        after = [dict(one.fields) for one in events]
        assert after == before, "Rule: emit does not change the events: other sinks get the same objects."

    async def test_nothing_is_no_error(self, case: SinkCase) -> None:
        """A batch may be empty, after filters."""
        async with case.started():
            await case.sink.emit(events=[])
        assert list(await case.received()) == [], "Rule: of no events, none arrives."

    async def test_failure_is_reported(self, case: SinkCase) -> None:
        """Core tries again what `emit` has raised for; what is swallowed is lost."""
        if case.down is None:
            pytest.skip("the case has no other side that could be down")
        async with case.started():
            async with case.down():
                error = await self._failure(case, [event(1)])
            message = "Rule: who cannot be reached now may take the events later; that is no EventsRejected."
            assert not isinstance(error, EventsRejected), message
            await case.sink.emit(events=[event(2)])
        assert (await case.numbers())[-1:] == [2], "Rule: after an outage, events arrive again."

    async def test_what_is_never_taken_is_rejected(self, case: SinkCase) -> None:
        """Trying again would stop the queue for ever: `EventsRejected` drops the batch, and counts it."""
        if case.rejecting is None:
            pytest.skip("the case has no other side that rejects events")
        async with case.started(), case.rejecting():
            error = await self._failure(case, [event(1)])
        message = f"Rule: what will never be taken raises EventsRejected, not {type(error).__name__}."
        assert isinstance(error, EventsRejected), message

    async def test_it_can_be_cancelled(self, case: SinkCase) -> None:
        """Core gives each delivery a time limit, and ends it at shutdown."""
        if case.stalled is None:
            pytest.skip("the case has no other side that takes its time")
        before = descendants()
        async with case.started():
            async with case.stalled() as asked:
                task = asyncio.ensure_future(case.sink.emit(events=[event(1)]))
                waiter = asyncio.ensure_future(asked.wait())
                await asyncio.wait({task, waiter}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
                assert waiter.done(), f"the other side was not asked within 60 s: {task}"
                task.cancel()
                await asyncio.wait({task}, timeout=PATIENCE)
                assert task.cancelled(), "Rule: a cancelled emit ends at once, with CancelledError."
            await case.sink.emit(events=[event(2)])
        assert (await case.numbers())[-1:] == [2], "Rule: a cancelled emit does not spoil the next one."
        assert not await left_over(before), "Rule: a cancelled emit leaves no process."

    async def test_it_leaves_nothing_behind(self, case: SinkCase) -> None:
        """After its life span no task and no process of a sink runs."""
        processes = descendants()
        with started_tasks() as tasks:
            async with case.started():
                await case.sink.emit(events=[event(1)])
        left = await still_running(tasks)
        assert not left, f"Rule: when a sink has stopped, none of its tasks runs; {left} still do."
        assert not await left_over(processes), "Rule: when a sink has stopped, none of its processes runs."

    async def test_its_delivery_is_one_that_exists(self, case: SinkCase) -> None:
        """Core reads `delivery` at the start, as it reads the options of an operator."""
        delivery = getattr(case.sink, "delivery", {})
        try:
            structure(DeliverySettings, delivery)
        except Exception as error:
            raise AssertionError(
                f"Rule: the class attribute `delivery` holds options of DeliverySettings; {delivery!r} does not."
            ) from error

    async def _failure(self, case: SinkCase, events: Sequence[SinkEvent]) -> Exception:
        caught: Exception | None = None
        try:
            await case.sink.emit(events=events)
        except Exception as error:
            caught = error
        assert caught is not None, "Rule: emit raises if the events were not taken."
        for secret in case.secrets:
            assert secret not in str(caught), "Rule: no secret shows in an error."
        return caught
