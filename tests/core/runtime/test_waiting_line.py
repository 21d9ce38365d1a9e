"""Builds that wait in line."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.runtime.waiting_line import WaitingLine


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_is_first_served_and_sees_those_before() -> None:
    line, received, served = WaitingLine(1), list[tuple[str, int]](), list[str]()
    done = {name: asyncio.Event() for name in "abc"}

    async def build(name: str) -> None:
        async with line.place(lambda before: received.append((name, before))):
            served.append(name)
            await done[name].wait()

    tasks = [asyncio.create_task(build(name)) for name in "abc"]
    await _settle()
    assert served == ["a"]
    assert received == [("b", 0), ("c", 1)]
    done["a"].set()
    await _settle()
    assert served == ["a", "b"]
    assert received[2:] == [("c", 0)]
    for event in done.values():
        event.set()
    await asyncio.gather(*tasks)
    assert served == ["a", "b", "c"]


async def test_position_far_back_in_a_line_is_shown_in_tens() -> None:
    line, received, first = WaitingLine(1), list[int](), asyncio.Event()

    async def build(gate: asyncio.Event | None, tell: Callable[[int], None]) -> None:
        async with line.place(tell):
            if gate is not None:
                await gate.wait()

    tasks = [asyncio.create_task(build(first, lambda before: None))]
    tasks += [asyncio.create_task(build(None, lambda before: None)) for _ in range(25)]
    tasks.append(asyncio.create_task(build(None, received.append)))
    await _settle()
    first.set()
    await asyncio.gather(*tasks)
    assert received == [25, 20, *range(10, -1, -1)]


async def test_place_that_is_kept_on_is_given_to_no_other() -> None:
    line, received = WaitingLine(1), list[int]()
    async with line.place(received.append):
        kept = line.taken()
        kept.__enter__()

    async def wait() -> None:
        async with line.place(received.append):
            pass

    task = asyncio.create_task(wait())
    await _settle()
    assert received == [0]
    assert not task.done()
    kept.__exit__(None, None, None)
    await task


@given(
    st.lists(st.tuples(st.sampled_from(["come", "leave", "cancel"]), st.sampled_from(["", "a", "b"])), max_size=40),
    st.integers(1, 3),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 2)),
)
async def test_places_are_neither_lost_nor_given_twice(
    steps: list[tuple[str, str]], places: int, limits: dict[str, int]
) -> None:
    line, inside, waiting = WaitingLine(places, limits), Counter[str](), Counter[str]()
    tasks: list[asyncio.Task[None]] = []
    gates: list[asyncio.Event] = []

    async def build(gate: asyncio.Event, group: str) -> None:
        waiting[group] += 1
        try:
            async with line.place(lambda before: None, group):
                waiting[group] -= 1
                inside[group] += 1
                try:
                    await gate.wait()
                finally:
                    inside[group] -= 1
                    waiting[group] += 1
        finally:
            waiting[group] -= 1

    for step, group in steps:
        if step == "come":
            gates.append(asyncio.Event())
            tasks.append(asyncio.create_task(build(gates[-1], group)))
        elif tasks and step == "leave":
            gates[len(gates) // 2].set()
        elif tasks:
            tasks[len(tasks) // 2].cancel()
        await _settle()
        full = {group for group, most in limits.items() if inside[group] >= most}
        assert inside.total() <= places
        assert all(inside[group] <= most for group, most in limits.items())
        assert inside.total() == places or {group for group, number in waiting.items() if number} <= full
        assert all(line.full_for(group) == (inside.total() == places or group in full) for group in ("", "a", "b"))
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside.total() == 0
    async with asyncio.timeout(5), line.place(lambda before: pytest.fail("nobody is before")):
        assert line._taken.total() == 1


async def test_cancelled_turn_at_a_leave_keeps_the_place() -> None:
    """Who waits is cancelled in the moment in which a place is free: before its task has run."""
    line, leave = WaitingLine(1), asyncio.Event()

    async def build() -> None:
        async with line.place(lambda before: None):
            await leave.wait()

    tasks = [asyncio.create_task(build()) for _ in range(3)]
    await _settle()
    leave.set()
    tasks[1].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError, type(None)]
    assert not line.full


async def test_turn_that_comes_as_its_waiter_is_cancelled_goes_on() -> None:
    line, served = WaitingLine(1), list[str]()

    async def build(name: str) -> None:
        async with line.place(lambda before: None):
            served.append(name)

    async with line.place(lambda before: None):
        cancelled, last = (asyncio.create_task(build(name)) for name in "ab")
        await _settle()
    cancelled.cancel()  # before it has run with the place that it was given
    await asyncio.wait({cancelled, last}, timeout=60)
    assert served == ["b"]
    assert not line.full
