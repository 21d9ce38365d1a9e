"""What the API server may do to a build without a line of its log lost or doubled, and without a second pod."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from attrs import define, evolve, field
from realparts.turned import TurnedClock
from ringbinder.runtime.wakeup import Wakeup
from ringbinder.testing import RecordingLog
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Act, Exit, Hold, Line, Object

from .conftest import QuickBuilder, Replica, make_plan, target

Turn = Callable[[float], None]

PLAN = make_plan()
PART = 70


def said(text: str) -> Line:
    return Line(json.dumps({"message": f"{text}\n", "phase": "building"}))


@define
class Talkative:
    """A build with many lines, some of them the same, and a last one without a newline.

    It prints them in three parts: the first at once, the others when the test lets it.
    """

    _go_on: tuple[asyncio.Event, asyncio.Event] = field(factory=lambda: (asyncio.Event(), asyncio.Event()))
    _half: asyncio.Event = field(factory=asyncio.Event)

    def __call__(self, pod: Object) -> Iterator[Act]:
        for part in range(3):
            for number in range(PART):
                yield said(f"line {part * PART + number}")
                yield said("again and again")
            if part == 1:
                self._half.set()
            if part < 2:
                yield Hold(self._go_on[part])
        yield Line(json.dumps({"message": "the end", "phase": "building"}), end="")
        yield Exit(0)

    async def print_more(self) -> None:
        """Returns when it has printed the second part."""
        self._go_on[0].set()
        await self._half.wait()

    def go_on(self) -> None:
        """Lets it print all that it has not printed yet, and end."""
        for event in self._go_on:
            event.set()


@define
class Failures:
    """The requests that have failed and are made again."""

    count: int = 0
    _news: Wakeup = field(factory=Wakeup)

    def pause(self, low: float, high: float) -> float:
        """Counts one. It is what `Retry` draws its pauses with."""
        self.count += 1
        self._news.notify_all()
        return high

    async def more(self, count: int) -> None:
        """Returns after so many more of them."""
        last = self.count + count
        async with asyncio.timeout(60):
            while self.count < last:
                await self._news.wait()


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Failures:
    """Those of the builders that the test starts."""
    found = Failures()
    monkeypatch.setattr(QuickBuilder, "patience", evolve(QuickBuilder.patience, random=found.pause))
    return found


def assert_whole(log: RecordingLog) -> None:
    expected = [text for number in range(3 * PART) for text in (f"line {number}\n", "again and again\n")]
    # On a busy machine it also says that the log cannot be read just now.
    printed = [text for phase, text in log.lines if phase == "building" and not text.startswith("The ")]
    assert printed == [*expected, "the end"]


def ended(api: KubeApi) -> bool:
    pod = api.pod(PLAN.build)
    return pod is not None and pod["status"]["phase"] == "Succeeded"


async def asked_again(api: KubeApi, what: str, times: int = 1) -> None:
    """Returns after so many more requests of this kind."""
    last = api.requests[what] + times
    await api.until(lambda: api.requests[what] >= last)


@asynccontextmanager
async def building(api: KubeApi, replica: Replica, log: RecordingLog) -> AsyncIterator[Talkative]:
    """A talkative build has begun when this is entered; on leaving it has succeeded, with all that it has printed."""
    api.script = talkative = Talkative()
    async with replica() as builder:
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await log.until(f"line {PART // 2}")
        yield talkative
        talkative.go_on()
        await build
    assert_whole(log)
    assert api.created == [PLAN.build]


async def test_the_log_is_cut_off_again_and_again(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    api.cut_logs = 0.05
    async with building(api, replica, log) as talkative:
        await api.until(lambda: api.requests["get pods/log"] > 2)
        await talkative.print_more()
        await asked_again(api, "get pods/log", 3)


async def test_the_api_server_is_gone_for_a_while(
    api: KubeApi, replica: Replica, log: RecordingLog, failures: Failures
) -> None:
    async with building(api, replica, log) as talkative:
        await api.down()
        await talkative.print_more()
        await failures.more(4)
        await api.up()


async def test_it_is_gone_when_the_build_ends(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    async with building(api, replica, log) as talkative:
        await api.down()
        talkative.go_on()
        await api.until(lambda: ended(api))
        await api.up()


async def test_it_is_gone_when_the_build_begins(
    api: KubeApi, replica: Replica, log: RecordingLog, failures: Failures
) -> None:
    api.script = talkative = Talkative()
    talkative.go_on()
    async with replica() as builder:
        await api.down()
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await failures.more(4)
        await api.up()
        await build
    assert_whole(log)
    assert api.created == [PLAN.build]


async def test_it_answers_500_for_a_while(
    api: KubeApi, replica: Replica, log: RecordingLog, failures: Failures
) -> None:
    async with building(api, replica, log) as talkative:
        api.fail(500)
        await api.down()  # so that what is open is asked for again
        await api.up()
        await talkative.print_more()
        await failures.more(4)
        api.fail(0)


async def test_the_answer_to_a_create_gets_lost(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    """The pod is there, and ours: no second one, and no waiting for somebody else's."""
    api.script = talkative = Talkative()
    talkative.go_on()
    api.lose_answers = {"create pods"}
    async with replica() as builder:
        await builder.build(PLAN, target(PLAN), log)
    assert_whole(log)
    assert api.created == [PLAN.build]
    assert "built already" not in log.text


def duplicate(api: KubeApi) -> None:
    api.duplicate = True


def reorder(api: KubeApi) -> None:
    api.reorder = True


def slow(api: KubeApi) -> None:
    api.latency = 0.2


def forgetful(api: KubeApi) -> None:
    api.kept_events = 1


@pytest.mark.parametrize("fault", [duplicate, reorder, slow, forgetful])
async def test_its_watches_are_bad(
    api: KubeApi, replica: Replica, log: RecordingLog, fault: Callable[[KubeApi], None]
) -> None:
    fault(api)
    async with building(api, replica, log) as talkative:
        api.forget()
        await talkative.print_more()


async def test_its_watch_ends_again_and_again(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    async with building(api, replica, log) as talkative:
        await talkative.print_more()
        for _ in range(5):
            api.forget()
            await api.down()
            await api.up()
            await asked_again(api, "watch pods")


async def test_the_log_cannot_be_read_at_all(
    api: KubeApi, replica: Replica, log: RecordingLog, clock: TurnedClock, turn_timers: Turn
) -> None:
    """The build goes on, says so, and succeeds by the status of its pod."""
    go_on = asyncio.Event()
    api.forbidden = {("get", "pods/log")}
    api.script = lambda pod: [said("unheard"), Hold(go_on), Exit(0)]
    async with replica(idle_timeout=4.0) as builder:
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await api.until(lambda: api.requests["get pods/log"] > 1)
        clock.turn(5.0)
        turn_timers(5.0)
        await log.until("cannot be read just now")
        go_on.set()
        await api.until(lambda: ended(api))
        await asked_again(api, "get pods/log", 2)
        turn_timers(5.0)
        await build
    assert "The end of this build's log could not be read." in log.text


async def test_a_pod_that_ended_and_went_unseen_is_no_success(
    api: KubeApi, replica: Replica, log: RecordingLog
) -> None:
    go_on = asyncio.Event()
    api.script = lambda pod: [said("begun"), Hold(go_on), Exit(0)]
    async with replica() as builder:
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await log.until("begun")
        await api.down()
        api.remove_pod(PLAN.build)
        api.forget()
        await api.up()
        with pytest.raises(Exception, match="deleted before"):
            await build


async def test_silence_of_each_part_has_its_word(
    api: KubeApi, replica: Replica, log: RecordingLog, clock: TurnedClock, turn_timers: Turn
) -> None:
    """First no node takes the pod, then it prints nothing, then the API server is gone."""

    def turn(seconds: float) -> None:
        clock.turn(seconds)
        turn_timers(seconds)

    go_on = asyncio.Event()
    api.start_seconds, api.script = 7.0, lambda pod: [said("begun"), Hold(go_on), said("the end"), Exit(0)]
    async with replica() as builder:
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await api.until(lambda: api.requests["list events"])  # it waits for the pod
        turn(5.0)
        await log.until("The build has not started (no node has taken it, for no reason given) for 5 s.")
        turn(2.0)
        await log.until("begun")
        turn(5.0)
        await log.until("The build runs, and has printed nothing for 5 s.")
        await api.down()
        turn(10.0)
        await log.until("The Kubernetes API server has not answered for 15 s.")
        await api.up()
        go_on.set()
        await build
    assert log.lines[0][0] == "waiting"
