"""Runs: one build for all who want it, in the cases that a chance would seldom find."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from attrs import define, field
from ringbinder import BuildError, Event, GitSource, Image, LaunchRequest, Plan, Repo, Secret
from ringbinder.launches.event_buffer import EventLog
from ringbinder.launches.runs import LogWriter, Run, Runs
from ringbinder.protocol import failed
from ringbinder.testing.stepped import SteppedLoop

REPO = Repo("https://x.invalid", GitSource("https://x.invalid", "1"), "1", "s", "", "s")
REQUEST = LaunchRequest("t", "s")
IMAGE = Image("a", "oci")


def plan(image: str = "a") -> Plan:
    return Plan(REPO, image, f"build-{image}")


@define
class Site:
    """Runs whose builds do what the next function of `builds` does."""

    loop: SteppedLoop
    builds: list[Callable[[Run], Awaitable[Image]]] = field(factory=list)
    kept: list[tuple[Run, Event | None]] = field(factory=list)
    trouble: list[str] = field(factory=list)
    explain: Callable[[Run, Exception], Awaitable[Event]] = field(init=False)
    runs: Runs = field(init=False)

    def __attrs_post_init__(self) -> None:
        async def work(run: Run) -> Image:
            return await self.builds.pop(0)(run)

        async def explain(run: Run, error: Exception) -> Event:
            return await self.explain(run, error)

        async def keep(run: Run) -> None:
            self.kept.append((run, run.log.newest))

        async def simply(run: Run, error: Exception) -> Event:
            return failed(str(error))

        self.explain = simply
        self.runs = Runs(work, explain, keep)
        self.loop.set_exception_handler(lambda loop, context: self.trouble.append(context["message"]))

    def join(self, image: str = "a") -> Run:
        run: list[Run] = []
        self.loop.step(lambda: run.append(self.runs.join(plan(image), REQUEST)))
        return run[0]

    def end(self, run: Run) -> Event:
        """The one terminal event, which is the last, and was kept."""
        assert run.log.closed
        assert [event for kept, event in self.kept if kept is run] == [run.log.newest]
        assert run.log.newest is not None
        return run.log.newest


@pytest.fixture
def site() -> Iterator[Site]:
    loop = SteppedLoop()
    yield Site(loop)
    loop.finish(_nothing())
    assert not asyncio.all_tasks(loop)
    assert not loop.timers
    loop.close()


async def _nothing() -> None:
    pass


async def succeed(run: Run) -> Image:
    run.append(Event("building", "one\n"))
    await asyncio.sleep(0)
    return IMAGE


async def wait(run: Run) -> Image:
    await asyncio.Event().wait()
    return IMAGE


async def clean_up_long(run: Run) -> Image:
    try:
        return await wait(run)
    finally:
        await asyncio.sleep(30)


async def fail(run: Run) -> Image:
    raise BuildError("no such package")


def test_a_build_ends_as_built_and_all_who_want_it_share_it(site: Site) -> None:
    site.builds = [wait, succeed, succeed]
    run = site.join()
    assert site.join() is run
    other = site.join("b")
    site.loop.settle()
    assert site.end(other).phase == "built"
    assert other.image is IMAGE
    assert other.tail() == ["one\n", "Built image, launching...\n"]
    run.cancel("over")
    site.loop.settle()
    assert site.end(run).message == "over\n"
    assert site.join() is not run
    site.loop.settle()
    assert not site.runs.active


def test_a_failed_build_is_tried_again_by_who_comes_later(site: Site) -> None:
    site.builds = [fail, succeed]
    first = site.join()
    site.loop.settle()
    assert site.end(first) == first.log.newest
    assert site.end(first).message == "no such package\n"
    second = site.join()
    site.loop.settle()
    assert site.end(second).phase == "built"


def test_cancelled_before_its_first_step(site: Site) -> None:
    run: list[Run] = []

    def act() -> None:
        run.append(site.runs.join(plan(), REQUEST))
        run[0].cancel("never mind")

    site.builds = [succeed]
    site.loop.step(act)
    site.loop.settle()
    assert site.end(run[0]).message == "never mind\n"
    assert len(site.builds) == 1, "it never began"


def test_cancelled_while_its_failure_is_explained(site: Site) -> None:
    async def explain(run: Run, error: Exception) -> Event:
        await asyncio.sleep(30)
        return failed("too late")

    site.explain, site.builds = explain, [fail]
    run = site.join()
    site.loop.settle()
    assert not run.log.closed
    run.cancel("over")
    site.loop.settle()
    assert site.end(run).message == "over\n"


@pytest.mark.parametrize("swallows", ["raises", "succeeds"])
def test_a_builder_that_answers_its_cancellation(site: Site, swallows: str) -> None:
    async def answer(run: Run) -> Image:
        try:
            return await wait(run)
        except asyncio.CancelledError:
            if swallows == "raises":
                raise BuildError("exit status -15") from None
            return IMAGE

    site.builds = [answer]
    run = site.join()
    site.loop.settle()
    run.cancel("over")
    site.loop.settle()
    assert site.end(run).phase == ("failed" if swallows == "raises" else "built")
    assert "exit status" not in site.end(run).message


@pytest.mark.parametrize("error", [SystemError("x"), BaseException("x")], ids=["explain fails", "crash"])
def test_what_no_one_catches_ends_the_run_and_is_logged(site: Site, error: BaseException) -> None:
    async def crash(run: Run) -> Image:
        raise error

    async def explain(run: Run, error: Exception) -> Event:
        raise error

    site.explain, site.builds = explain, [crash]
    run = site.join()
    site.loop.settle()
    assert site.end(run).message == "The build ended without a result. Please try again.\n"
    assert site.trouble == ["a build failed, and so did its explanation"]


def test_a_new_build_waits_until_cancelled_ones_have_cleaned_up(site: Site) -> None:
    site.builds = [clean_up_long, succeed]
    first = site.join()
    site.loop.settle()
    first.cancel("over")
    second = site.join()
    assert second is not first
    site.loop.settle()
    second.cancel("over")
    site.loop.settle()
    assert site.end(second).message == "over\n"
    third = site.join()
    site.loop.settle()
    assert site.builds == [succeed], "nothing builds beside the first, though the second has ended"
    site.loop.advance(30)
    assert site.end(first).message == "over\n"
    assert site.end(third).phase == "built"


def test_close_waits_for_all_that_clean_up(site: Site) -> None:
    site.builds = [clean_up_long, clean_up_long]
    first = site.join()
    site.loop.settle()
    first.cancel("over")
    second, other = site.join(), site.join("b")
    site.loop.settle()
    closing = site.loop.create_task(site.runs.close("closing"))
    site.loop.settle()
    assert not closing.done()
    site.loop.advance(30)
    assert closing.done()
    assert [site.end(run).message for run in (first, second, other)] == ["over\n", "closing\n", "closing\n"]


def test_a_log_that_cannot_be_kept_is_no_harm(site: Site) -> None:
    async def keep(run: Run) -> None:
        raise OSError("disk full")

    site.runs.keep, site.builds = keep, [succeed]
    run = site.join()
    site.loop.settle()
    assert run.log.newest is not None
    assert run.log.newest.phase == "built"
    assert site.trouble == ["the log of a build could not be kept"]


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_build_that_no_one_watches(site: Site, comes_back: bool) -> None:
    site.runs.cancel_unwatched, site.builds = 10.0, [wait]
    run = site.join()
    watching = ExitStack()
    site.loop.step(watching.enter_context, site.runs.following(run))
    site.loop.advance(100)
    site.loop.step(watching.close)
    site.loop.advance(9)
    assert not run.log.closed
    if comes_back:
        site.loop.step(watching.enter_context, site.runs.following(run))
    site.loop.advance(1)
    assert run.log.closed is not comes_back
    run.cancel("over")
    site.loop.settle()
    assert site.end(run).message == ("over\n" if comes_back else "No one waits for this build any more.\n")
    site.loop.step(watching.close)


def test_late_lines_have_no_effect(site: Site) -> None:
    site.builds = [succeed]
    run = site.join()
    site.loop.settle()
    end = run.log.end
    run.append(Event("building", "too late\n"))
    assert run.log.end == end


# -- the log that plugins write to --------------------------------------------------------------------------


def writer(log: EventLog) -> LogWriter:
    return LogWriter(log.append, "building")


async def test_only_core_ends_a_stage_and_only_known_phases_go_out() -> None:
    log = EventLog()
    phases: list[Any] = ["fetching", "ready", "failed", "built", "unknown", "terminating", None]
    for phase in phases:
        writer(log).line("x\n", phase)
    assert [event.phase for _, event in log.read(0, log.end)] == ["fetching", *["building"] * 6]


async def test_a_log_never_raises_and_shows_no_secret() -> None:
    log, secret = EventLog(), Secret("correct horse")
    anything: list[Any] = ["a correct horse\n", b"bytes", None, "\ud800", 5]
    for message in anything:
        writer(log).line(message)
    layers: dict[Any, Any] = {"correct horse": {"current": float("inf"), "total": object()}, secret: "Pushed"}
    writer(log).progress(layers)
    text = b"\n".join(event.json for _, event in log.read(0, log.end))
    assert b"correct horse" not in text
    assert log.end == len(anything) + 1
    assert log.newest is not None
    assert log.newest.phase == "pushing"


async def test_threads_write_in_their_order() -> None:
    log = EventLog()
    write = writer(log)

    def work(name: int) -> None:
        for number in range(500):
            write.line(f"{name} {number}")

    await asyncio.gather(*(asyncio.to_thread(work, name) for name in range(4)))
    lines = [event.message.split() for _, event in log.read(0, log.end)]
    for name in range(4):
        assert [int(number) for by, number in lines if by == str(name)] == list(range(500)), "all is there by now"


def test_a_thread_that_outlives_the_loop_is_no_harm() -> None:
    log = EventLog()

    async def make() -> LogWriter:
        return writer(log)

    write = asyncio.run(make())
    errors: list[BaseException] = []

    def work() -> None:
        try:
            write.line("nobody hears this")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors
    assert log.end == 0
