"""Answers that are remembered, and questions that are asked once for all."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.runtime.caching import Cache, SingleFlight


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 5), st.floats(0, 10)),
            st.tuples(st.sampled_from(["get", "drop"]), st.integers(0, 5), st.just(0.0)),
            st.tuples(st.just("wait"), st.just(0), st.floats(0, 5)),
        )
    )
)
def test_a_cache_against_a_plain_model(steps: list[tuple[str, int, float]]) -> None:
    clock = Clock()
    cache: Cache[int, int] = Cache(3, clock)
    model: list[tuple[int, int, float]] = []  # key, value, end; least used first
    for number, (what, key, seconds) in enumerate(steps):
        if what == "put":
            cache.put(key, number, seconds)
            model = [entry for entry in model if entry[0] != key]
            if seconds > 0:
                model.append((key, number, clock.now + seconds))
            model = model[-3:]
        elif what == "drop":
            cache.drop(key)
            model = [entry for entry in model if entry[0] != key]
        elif what == "wait":
            clock.now += seconds
        else:
            found = [entry for entry in model if entry[0] == key]
            model = [entry for entry in model if entry[0] != key]
            alive = [entry for entry in found if entry[2] > clock.now]
            assert cache.get(key) == (alive[0][1] if alive else None)
            model += alive
        assert len(cache) == len(model) <= 3


async def test_one_works_and_all_get_the_answer() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    started, go = 0, asyncio.Event()

    async def work() -> int:
        nonlocal started
        started += 1
        number = started
        await go.wait()
        return number

    asks = [asyncio.create_task(flights("a", work)) for _ in range(5)]
    other = asyncio.create_task(flights("b", work))
    await asyncio.sleep(0)
    asks[0].cancel()  # who came first and leaves takes nobody with him
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await asks[0]
    assert await asyncio.gather(*asks[1:], other) == [1] * 4 + [2]
    assert await flights("a", work) == 3


async def test_an_error_is_everybodys_and_is_not_kept() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    tries = 0

    async def work() -> int:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        if tries == 1:
            raise OSError("no")
        return tries

    results = await asyncio.gather(*(flights("a", work) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3
    assert await flights("a", work) == 2


async def test_the_work_ends_when_the_last_one_leaves() -> None:
    flights: SingleFlight[str, None] = SingleFlight()
    ended, started = asyncio.Event(), 0

    async def work() -> None:
        nonlocal started
        started += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    asks = [asyncio.create_task(flights("a", work)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for ask in asks:
        ask.cancel()
    late = asyncio.create_task(flights("a", work))  # comes while the first work is being cancelled
    await asyncio.wait(asks)
    await ended.wait()
    late.cancel()
    await asyncio.wait([late])
    assert late.cancelled()
