"""What the API server may do to a build without a line of its log lost or doubled, and without a second pod."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from ringbinder.runtime import silence
from ringbinder.testing import RecordingLog
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Act, Exit, Hold, Line, Wait

from .conftest import Replica, make_plan, target

PLAN = make_plan()
COUNT = 200


def said(text: str) -> Line:
    return Line(json.dumps({"message": f"{text}\n", "phase": "building"}))


def talkative(pauses: float = 0.02) -> list[Act]:
    """A build of about two seconds with many lines, some of them the same, and a last one without a newline."""
    acts: list[Act] = []
    for number in range(COUNT):
        acts += [said(f"line {number}"), said("again and again")]
        if number % 4 == 0:
            acts.append(Wait(pauses))
    return [*acts, Line(json.dumps({"message": "the end", "phase": "building"}), end=""), Exit(0)]


def assert_whole(log: RecordingLog) -> None:
    expected = [text for number in range(COUNT) for text in (f"line {number}\n", "again and again\n")]
    assert [text for phase, text in log.lines if phase == "building"] == [*expected, "the end"]


@asynccontextmanager
async def building(api: KubeApi, replica: Replica, log: RecordingLog) -> AsyncIterator[None]:
    """A talkative build runs while this is entered; on leaving it has succeeded, with all that it has said."""
    api.script = lambda pod: talkative()
    async with replica() as builder:
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await log.until("line 20")
        yield
        await build
    assert_whole(log)
    assert api.created == [PLAN.build]


async def test_the_log_is_cut_off_again_and_again(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    api.cut_logs = 0.15
    async with building(api, replica, log):
        pass
    assert api.requests["get pods/log"] > 3


async def test_the_api_server_is_gone_for_a_while(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    async with building(api, replica, log):
        await api.down()
        await asyncio.sleep(1.0)
        await api.up()


async def test_it_is_gone_when_the_build_ends(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    async with building(api, replica, log):
        await api.down()
        async with asyncio.timeout(30):
            while (pod := api.pod(PLAN.build)) is None or pod["status"]["phase"] != "Succeeded":
                await asyncio.sleep(0.02)
        await api.up()


async def test_it_is_gone_when_the_build_begins(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    api.script = lambda pod: talkative()
    async with replica() as builder:
        await api.down()
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await asyncio.sleep(0.5)
        await api.up()
        await build
    assert_whole(log)
    assert api.created == [PLAN.build]


async def test_it_answers_500_for_a_while(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    async with building(api, replica, log):
        api.fail(500)
        await api.down()  # so that what is open is asked for anew
        await api.up()
        await asyncio.sleep(0.5)
        api.fail(0)


async def test_the_answer_to_a_create_gets_lost(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    """The pod is there, and ours: no second one, and no waiting for somebody else's."""
    api.script = lambda pod: talkative(0.0)
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
    async with building(api, replica, log):
        api.forget()


async def test_its_watch_ends_again_and_again(api: KubeApi, replica: Replica, log: RecordingLog) -> None:
    async with building(api, replica, log):
        for _ in range(5):
            api.forget()
            await api.down()
            await api.up()
            await asyncio.sleep(0.05)


async def test_the_log_cannot_be_read_at_all(
    api: KubeApi, replica: Replica, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build goes on, says so, and succeeds by the status of its pod."""
    monkeypatch.setattr(silence, "_FIRST_SECONDS", 0.3)
    go_on = asyncio.Event()
    api.forbidden = {("get", "pods/log")}
    api.script = lambda pod: [said("unheard"), Hold(go_on), Exit(0)]
    async with replica(idle_timeout=0.2) as builder:
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await log.until("cannot be read just now")
        go_on.set()
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
    api: KubeApi, replica: Replica, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 s are 0.3 here: first no node takes the pod, then it prints nothing, then the API server is gone."""
    monkeypatch.setattr(silence, "_FIRST_SECONDS", 0.3)
    go_on = asyncio.Event()
    api.start_seconds, api.script = 1.0, lambda pod: [said("begun"), Hold(go_on), said("the end"), Exit(0)]
    async with replica() as builder:
        build = asyncio.create_task(builder.build(PLAN, target(PLAN), log))
        await log.until("The build has not started (no node has taken it, for no reason given) for 0 s.")
        await log.until("begun")
        await log.until("The build runs, and has printed nothing for 0 s.")
        await api.down()
        await log.until("The Kubernetes API server has not answered for")
        await api.up()
        go_on.set()
        await build
    assert log.lines[0][0] == "waiting"
