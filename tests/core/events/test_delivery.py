"""Delivery to sinks: in order, counted, and never in anybody's way."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringbinder.config.event_settings import DeliverySettings
from ringbinder.errors import EventsRejected
from ringbinder.protocol import SinkEvent
from ringbinder.runtime.clock import SystemClock
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from structlog.testing import capture_logs

from .delivering import delivering

COUNTER = "ringbinder_sink_events_total"
NOWHERE = Paths(Path("/nonexistent/state"), Path("/nonexistent/cache"))


class ImpatientClock(SystemClock):
    """Waits for nothing, but lets others run."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def make_services() -> Services:
    return Services(structlog.get_logger(), NOWHERE, ImpatientClock())


def counts(services: Services, sink: str = "s", *outcomes: str) -> dict[str, int]:
    value = services.metrics.registry.get_sample_value
    wanted = outcomes or ("sent", "dropped", "failed")
    return {o: int(value(COUNTER, {"sink": sink, "outcome": o}) or 0) for o in wanted}


def one(**settings: Any) -> dict[str, DeliverySettings]:
    """The sink `s` alone."""
    return {"s": DeliverySettings(**settings)}


def event(number: int) -> SinkEvent:
    return SinkEvent("example.org/test", 1, {"number": number})


def numbers(events: Sequence[SinkEvent]) -> list[int]:
    return [event.fields["number"] for event in events]


@define
class Model:
    """What the queue must look like, and a scripted sink that holds each batch against it."""

    limit: int
    batch_limit: int
    script: deque[str]
    queue: deque[SinkEvent] = field(factory=deque)
    dropped: list[SinkEvent] = field(factory=list)
    taken: list[SinkEvent] = field(factory=list)
    refused: list[SinkEvent] = field(factory=list)
    gate: asyncio.Event = field(factory=asyncio.Event)

    def emit(self, event: SinkEvent) -> None:
        self.queue.append(event)
        if len(self.queue) > self.limit:
            self.dropped.append(self.queue.popleft())

    async def send(self, sink: str, batch: Sequence[SinkEvent]) -> None:
        assert sink == "s"
        size = min(len(self.queue), self.batch_limit)
        assert list(batch) == [self.queue.popleft() for _ in range(size)]
        behaviour = self.script.popleft() if self.script else "take"
        if behaviour == "wait":
            await self.gate.wait()
        if behaviour in ("raise", "cancel"):
            self.refused += batch
            raise RuntimeError("no") if behaviour == "raise" else asyncio.CancelledError
        self.taken += batch


@given(
    limit=st.integers(1, 8),
    batch_limit=st.integers(1, 5),
    script=st.lists(st.sampled_from(["take", "wait", "raise", "cancel"]), max_size=12),
    steps=st.lists(st.tuples(st.sampled_from(["emit", "turn", "open", "shut"]), st.integers(1, 7)), max_size=25),
    early=st.integers(0, 10),
)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_interleaving_keeps_order_and_counts_agree(
    limit: int, batch_limit: int, script: list[str], steps: list[tuple[str, int]], early: int
) -> None:
    services = make_services()
    model = Model(limit, batch_limit, deque(script))
    delivery = delivering(one(queue=limit, batch=batch_limit), model.send, services)
    emitted: list[SinkEvent] = []

    def emit() -> None:
        emitted.append(event(len(emitted)))
        model.emit(emitted[-1])
        delivery.emit(emitted[-1])

    for _ in range(early):
        emit()
    with capture_logs():
        async with delivery.running():
            for step, times in steps:
                for _ in range(times):
                    if step == "emit":
                        emit()
                    elif step == "turn":
                        await asyncio.sleep(0)
                    elif step == "open":
                        model.gate.set()
                    else:
                        model.gate.clear()
            model.gate.set()
    assert counts(services) == {
        "sent": len(model.taken), "dropped": len(model.dropped), "failed": len(model.refused),
    }  # fmt: skip
    assert counts(services, "s", "queued") == {"queued": len(emitted)}
    for group in (model.taken, model.dropped, model.refused):
        assert numbers(group) == sorted(numbers(group))
    assert sorted(numbers([*model.taken, *model.dropped, *model.refused])) == list(range(len(emitted)))
    await services.close()


async def test_a_batch_that_fails_is_given_up() -> None:
    services = make_services()
    seen: list[list[str]] = []

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        seen.append([event.id for event in batch])
        raise OSError("down")

    delivery = delivering(one(), send, services)
    with capture_logs() as logs:
        async with delivery.running():
            for number in range(4):
                delivery.emit(event(number))
    assert len(seen) == 1
    assert counts(services) == {"sent": 0, "dropped": 0, "failed": 4}
    assert [entry["event"] for entry in logs] == ["a sink does not take its events; they are lost"]
    assert isinstance(logs[0]["exc_info"], OSError)
    await services.close()


async def test_rest_of_a_batch_is_offered_again_in_order() -> None:
    services = make_services()
    offered: list[list[int]] = []

    async def send(sink: str, batch: Sequence[SinkEvent]) -> int | None:
        offered.append(numbers(batch))
        return 2 if len(batch) > 2 else None

    delivery = delivering(one(), send, services)
    async with delivery.running():
        for number in range(5):
            delivery.emit(event(number))
    assert offered == [[0, 1, 2, 3, 4], [2, 3, 4], [4]]
    assert counts(services) == {"sent": 5, "dropped": 0, "failed": 0}
    await services.close()


@pytest.mark.parametrize(
    ("answer", "words"), [(0, "took none of the events"), (9, "it took 9 of 2 events"), (-1, "-1")]
)
async def test_sink_that_took_none_or_too_many_has_failed(answer: int, words: str) -> None:
    services = make_services()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> int | None:
        return answer

    delivery = delivering(one(), send, services)
    with capture_logs() as logs:
        async with delivery.running():
            for number in range(2):
                delivery.emit(event(number))
    assert counts(services) == {"sent": 0, "dropped": 0, "failed": 2}
    assert words in str(logs[0]["exc_info"])
    await services.close()


async def test_one_rejected_event_takes_no_other_with_it() -> None:
    services = make_services()
    taken: list[int] = []

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        if 2 in numbers(batch):
            raise EventsRejected("number 2 is bad")
        taken.extend(numbers(batch))

    delivery = delivering(one(), send, services)
    with capture_logs() as logs:
        async with delivery.running():
            for number in range(5):
                delivery.emit(event(number))
    assert taken == [0, 1, 3, 4]
    assert counts(services, "s", "sent", "rejected", "failed") == {"sent": 4, "rejected": 1, "failed": 0}
    assert [entry["event"] for entry in logs] == ["a sink's receiver rejects an event"]
    await services.close()


async def test_each_sink_gets_what_its_filter_lets_pass() -> None:
    services = make_services()
    got: dict[str, list[str]] = {}

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        got.setdefault(sink, []).extend(event.fields["name"] for event in batch)

    sinks = {
        "all": DeliverySettings(),
        "builds": DeliverySettings(schemas=("x/build-*", "y/*")),
        "trouble": DeliverySettings(level="warning"),
        "github": DeliverySettings(providers=("GitHub", "Gi?t")),
        "none": DeliverySettings(schemas=()),
    }
    delivery = delivering(sinks, send, services)
    async with delivery.running():
        for name, schema, level, provider in (
            ("a", "x/build-started", "info", "GitHub"),
            ("b", "x/build-failed", "warning", "GitLab"),
            ("c", "y/z", "error", "Gist"),
            ("d", "x/launch", "info", None),
        ):
            fields = {"name": name} | ({"provider": provider} if provider else {})
            delivery.emit(SinkEvent(schema, 1, fields, level=level))
    assert got == {
        "all": ["a", "b", "c", "d"],
        "builds": ["a", "b", "c"],
        "trouble": ["b", "c"],
        "github": ["a", "c", "d"],
    }
    assert counts(services, "none", "queued") == {"queued": 0}
    await services.close()


async def test_a_batch_may_wait_to_grow() -> None:
    services = make_services()
    batches: list[list[int]] = []
    full = asyncio.Event()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        batches.append(numbers(batch))
        if len(batches) == 2:
            full.set()

    delivery = delivering(one(batch=3, linger=300.0), send, services, flush_timeout=60)
    async with delivery.running():
        for number in range(7):
            delivery.emit(event(number))
            await asyncio.sleep(0.01)
        await asyncio.wait_for(full.wait(), 60)
    assert batches == [[0, 1, 2], [3, 4, 5], [6]]  # the end does not wait
    await services.close()


async def test_a_sink_that_is_down_is_logged_once_and_its_return_too() -> None:
    services = make_services()
    answers = deque(["bad"] * 4 + ["good"] * 2)
    arrived = asyncio.Event()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        if answers.popleft() == "bad":
            raise OSError("down")
        if not answers:
            arrived.set()

    delivery = delivering(one(batch=1), send, services)
    with capture_logs() as logs:
        async with delivery.running():
            for number in range(6):
                delivery.emit(event(number))
            await asyncio.wait_for(arrived.wait(), 60)
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert {entry["sink"] for entry in logs} == {"s"}
    assert counts(services) == {"sent": 2, "dropped": 0, "failed": 4}
    await services.close()


async def test_bad_sinks_do_not_hold_up_a_good_one() -> None:
    services = make_services()
    good: list[int] = []
    done = asyncio.Event()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        if sink == "hanging":
            await asyncio.get_running_loop().create_future()
        if sink == "failing":
            raise RuntimeError("always")
        good.extend(numbers(batch))
        if len(good) == 1000:
            done.set()

    delivery = delivering(
        {name: DeliverySettings(queue=100) for name in ("hanging", "failing", "good")},
        send,
        services,
        flush_timeout=0.2,
    )
    with capture_logs():
        async with delivery.running():
            for number in range(1000):
                delivery.emit(event(number))
                if number % 50 == 49:
                    await asyncio.sleep(0)
            await asyncio.wait_for(done.wait(), 60)
            before = time.monotonic()
        assert time.monotonic() - before < 30
    assert good == list(range(1000))
    assert counts(services, "good") == {"sent": 1000, "dropped": 0, "failed": 0}
    for sink in ("failing", "hanging"):
        count = counts(services, sink)
        assert count["sent"] == 0
        assert count["failed"] > 0
        assert count["dropped"] + count["failed"] == 1000
    assert counts(services, "hanging")["dropped"] > 800
    await services.close()


async def test_a_call_that_takes_too_long_is_given_up_and_reported() -> None:
    services = make_services()
    called, second = asyncio.Event(), asyncio.Event()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        if called.is_set():
            return second.set()
        called.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    delivery = delivering(one(timeout=0.05), send, services, flush_timeout=60)
    with capture_logs() as logs:
        async with delivery.running():
            delivery.emit(event(0))
            await called.wait()
            assert delivery.health()[0].ok
            while delivery.health()[0].ok:
                await asyncio.sleep(0.01)
            (line,) = delivery.health()
            assert line.service == "sink:s"
            assert line.ignore_failure
            assert line.detail["message"] == "TimeoutError: no answer in 0.05 seconds"
            shown = services.metrics.registry.get_sample_value
            assert shown("ringbinder_sink_healthy", {"sink": "s"}) == 0
            delivery.emit(event(1))
            await second.wait()
        assert delivery.health()[0].ok
    assert counts(services) == {"sent": 1, "dropped": 0, "failed": 1}
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    await services.close()


async def test_sink_ignoring_cancellation_does_not_hold_up_the_end() -> None:
    services = make_services()
    entered, let_go = asyncio.Event(), asyncio.Event()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        entered.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    delivery = delivering(one(batch=1), send, services, flush_timeout=0.1)
    with capture_logs() as logs:
        async with delivery.running():
            for number in range(3):
                delivery.emit(event(number))
            await asyncio.wait_for(entered.wait(), 60)
            before = time.monotonic()
        assert time.monotonic() - before < 30
    assert [(entry["event"], entry["count"]) for entry in logs] == [("events are lost at the end", 2)]
    assert counts(services)["dropped"] == 2
    let_go.set()
    await services.close()


async def test_what_is_queued_goes_out_at_the_end() -> None:
    services = make_services()
    seen: list[int] = []

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        await asyncio.sleep(0.01)
        seen.extend(numbers(batch))

    delivery = delivering(one(batch=3), send, services, flush_timeout=60)

    async def live() -> None:
        async with delivery.running():
            for number in range(20):
                delivery.emit(event(number))
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        await live()
    assert seen == list(range(20))
    await services.close()


async def test_cancelled_flush_ends_at_once_and_counts_everything() -> None:
    services = make_services()
    entered = asyncio.Event()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        entered.set()
        await asyncio.get_running_loop().create_future()

    delivery = delivering(one(batch=2, timeout=300.0), send, services, flush_timeout=300)

    async def live() -> None:
        async with delivery.running():
            for number in range(5):
                delivery.emit(event(number))

    with capture_logs():
        task = asyncio.create_task(live())
        await asyncio.wait_for(entered.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await services.close()
    assert counts(services) == {"sent": 0, "dropped": 3, "failed": 2}


async def test_no_sinks_and_no_events() -> None:
    services = make_services()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        raise AssertionError("nothing to send")

    async with delivering({}, send, services).running():
        pass
    async with (delivery := delivering({"a": DeliverySettings(), "b": DeliverySettings()}, send, services)).running():
        await asyncio.sleep(0)
    assert counts(services, "a") == {"sent": 0, "dropped": 0, "failed": 0}
    shown: Any = services.metrics.registry.get_sample_value
    assert shown(COUNTER, {"sink": "b", "outcome": "failed"}) == 0.0
    delivery.emit(event(0))
    await services.close()


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


async def test_sink_whose_error_cannot_be_read_goes_on() -> None:
    services = make_services()
    taken: list[int] = []
    done = asyncio.Event()

    async def send(sink: str, batch: Sequence[SinkEvent]) -> None:
        if numbers(batch) == [0]:
            raise Unreadable
        taken.extend(numbers(batch))
        done.set()

    delivery = delivering(one(batch=1), send, services)
    async with delivery.running():
        delivery.emit(event(0))
        delivery.emit(event(1))
        async with asyncio.timeout(10):
            await done.wait()
    assert taken == [1]
    assert counts(services) == {"sent": 1, "dropped": 0, "failed": 1}
    await services.close()
