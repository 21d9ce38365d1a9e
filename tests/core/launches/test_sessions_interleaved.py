"""Runs and sessions under any interleaving: nothing is lost, repeated, reordered or left behind.

The machine drives the real pipeline over plugins whose every call waits until a rule lets it go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ringbinder import (
    Event,
    LaunchRequest,
)
from ringbinder.config.settings import RingbinderSettings
from ringbinder.config.specs import RepoOptions
from ringbinder.events.emit_rates import EmitRates
from ringbinder.events.emitter import Events
from ringbinder.launches.build_stage import BuildStage
from ringbinder.launches.builders import Builders
from ringbinder.launches.failures import Explainer
from ringbinder.launches.pipeline import Pipeline
from ringbinder.launches.reporting import StageEvents
from ringbinder.launches.runs import Run, Runs
from ringbinder.launches.servers import Servers
from ringbinder.launches.sessions import Session, Sessions
from ringbinder.launches.stages import Stages
from ringbinder.plugins.caller import HookCaller
from ringbinder.plugins.manager import Plugins
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from ringbinder.runtime.waiting_line import WaitingLine
from ringbinder.testing.stepped import SteppedLoop

from .waiting_world import ERRORS, Doorkeeper, Origin, Ramp, Reader, Shelf, Workshop, World, lines_are_whole

GRACE, MEMORY = 60.0, 600.0
NO_BOUND, MUCH = 100_000, 1_000_000
SPECS: Final = st.sampled_from(["a1", "a2", "b1"])
SILENT: Final = structlog.make_filtering_bound_logger(50)
PATHS: Final = Paths(Path("/nonexistent/state"), Path("/nonexistent/cache"))


class Interleaved(RuleBasedStateMachine):
    BOUND = NO_BOUND

    @initialize(
        stubborn=st.booleans(),
        unwatched=st.sampled_from([None, 5.0]),
        slots=st.sampled_from([1, 32]),
        until_forgotten=st.booleans(),
    )
    def begin(self, stubborn: bool, unwatched: float | None, slots: int, until_forgotten: bool) -> None:
        self.loop = SteppedLoop()
        self.trouble: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.trouble.append(context))
        self.world = World(stubborn)
        self.until_forgotten = until_forgotten
        self.opened: list[Session] = []
        self.runs_seen: list[Run] = []
        self.kept: list[Run] = []
        self.readers: list[Reader] = []
        self.numbered: dict[Session, dict[int, Event]] = {}
        self.crashes = self.bugs = 0
        log = structlog.wrap_logger(structlog.ReturnLogger(), wrapper_class=SILENT)
        hooks = HookCaller(log, timeouts={"resolve": 0, "launch": 0})
        hooks.register(Origin(self.world), "provider:t")
        hooks.register(Shelf(self.world), "registry:t")
        hooks.register(Workshop(self.world), "builder:t")
        hooks.register(Ramp(self.world), "launcher:t")
        hooks.register(Doorkeeper(self.world), "plugin:t", general=True)
        plugins = cast(Plugins, SimpleNamespace(providers=("t",), spec_options=lambda provider: RepoOptions()))
        chosen = RingbinderSettings(builder="t", registry="t", launcher="t")
        services = Services(log, PATHS)
        stages = Stages(hooks, chosen, services.metrics, log)
        emitter = Events(log, services.metrics, EmitRates(log, services.metrics, 50.0))
        reporter = StageEvents(emitter, stages.describe)
        explainer = Explainer(hooks, log, services.metrics)
        builders = Builders(("t",), WaitingLine(slots))
        builds = BuildStage(stages, services, explainer, reporter, builders)

        async def explain(run: Run, error: Exception) -> Event:
            await asyncio.sleep(0)
            return await builds.explain(run, error)

        async def keep(run: Run) -> None:
            self.kept.append(run)
            await asyncio.sleep(0)

        self.runs = Runs(builds.build, explain, keep, self.BOUND, cancel_unwatched=unwatched)
        pipeline = Pipeline(stages, plugins, services, explainer, reporter, self.runs, builders)
        self.sessions = Sessions(pipeline.serve, Servers(stages, reporter).stop, GRACE, MEMORY)

    # -- what clients do -----------------------------------------------------------------------------------

    def start_reader(self, session: Session, after: int, credit: int) -> None:
        reader = Reader(session, after, credit)
        reader.task = self.loop.create_task(reader.read())
        self.readers.append(reader)

    @rule(spec=SPECS, only=st.booleans(), readers=st.sampled_from([0, 1, 1, 2]))
    def open(self, spec: str, only: bool, readers: int) -> None:
        def act() -> None:
            session = self.sessions.open(lambda name: LaunchRequest("t", spec, build_only=only, session=name))
            self.opened.append(session)
            for _ in range(readers):
                self.start_reader(session, -1, MUCH)

        self.loop.step(act)

    @rule(spec=SPECS, readers=st.sampled_from([0, 1, 1, 2]), far=st.integers(1, 3))
    def open_and_go_far(self, spec: str, readers: int, far: int) -> None:
        """The way to where much can happen."""
        self.open(spec, False, readers)
        for hook in ("resolve", "build", "launch")[:far]:
            self.let_all_go(hook)

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), credit=st.sampled_from([0, 1, MUCH]))
    def come_back(self, data: st.DataObject, credit: int) -> None:
        session = data.draw(st.sampled_from(self.opened))
        label = f"{session.id}.{data.draw(st.integers(0, session.last + 1))}"
        if (known := self.sessions.find(label)) is not None:
            after = known.number_of(label)
            assert after is not None
            self.start_reader(known, after, credit)

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), batches=st.integers(1, 3))
    def read_on(self, data: st.DataObject, batches: int) -> None:
        data.draw(st.sampled_from(self.readers)).grant(batches)

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.loop.step(data.draw(st.sampled_from(self.readers)).task.cancel)

    @precondition(lambda self: self.opened)
    @rule(data=st.data())
    def cancel_session(self, data: st.DataObject) -> None:
        self.loop.step(self.sessions.cancel, data.draw(st.sampled_from(self.opened)), "by a test")

    @precondition(lambda self: self.runs_seen)
    @rule(data=st.data())
    def cancel_run(self, data: st.DataObject) -> None:
        self.loop.step(data.draw(st.sampled_from(self.runs_seen)).cancel, "by a test")

    # -- what plugins do -----------------------------------------------------------------------------------

    @precondition(lambda self: self.world.calls)
    @rule(data=st.data(), count=st.integers(1, 12))
    def write(self, data: st.DataObject, count: int) -> None:
        """From calls that have ended, too."""
        call = data.draw(st.sampled_from(self.world.calls))

        def act() -> None:
            for line in range(call.lines, call.lines + count):
                if call.log is not None:
                    call.log.line(f"line {self.world.calls.index(call)} {line}\n")
            call.lines += count

        self.loop.step(act)

    @precondition(lambda self: self.world.waiting())
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "ok", "ok", "ok", *ERRORS]))
    def let_go(self, data: st.DataObject, outcome: str) -> None:
        call = data.draw(st.sampled_from(self.world.waiting()))

        def act() -> None:
            if call.go.done():
                return
            if outcome == "ok" or call.hook == "clean up":
                call.go.set_result(None)
            else:
                self.crashes += outcome == "crash"
                self.bugs += outcome in ("bug", "cancelled from within", "crash")
                call.go.set_exception(ERRORS[outcome]())

        self.loop.step(act)

    @rule(hook=st.sampled_from(["resolve", "build", "launch", "clean up"]))
    def let_all_go(self, hook: str) -> None:
        self.settle()
        for call in self.world.waiting(hook):
            self.loop.step(call.go.set_result, None)
        self.settle()

    @rule()
    def lose_images(self) -> None:
        self.bugs += bool(self.world.images)  # an image that is gone right after its build is one
        self.world.images.clear()

    # -- time ----------------------------------------------------------------------------------------------

    @rule(turns=st.integers(1, 4))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.loop.step()

    @rule()
    def settle(self) -> None:
        self.loop.settle()
        for reader in self.readers:
            if reader.credit and not reader.task.done():
                assert not reader.session.ended, "a reader learns of the end"
                assert reader.position == reader.session.last, "a reader is told all that there is"

    @rule(seconds=st.sampled_from([1.0, 1.0, 5.0, GRACE - 1, GRACE]))
    def pass_time(self, seconds: float) -> None:
        self.loop.advance(seconds)

    # -- promises ------------------------------------------------------------------------------------------

    @invariant()
    def readers_agree(self) -> None:
        for session in self.opened:
            if session.run is not None and session.run not in self.runs_seen:
                self.runs_seen.append(session.run)
        for reader in self.readers:
            known = self.numbered.setdefault(reader.session, {})
            last = reader.after
            for number, event in reader.got:
                if gap := event.data.get("gap"):
                    assert gap == number - last, "a gap says how many are missing"
                    assert self.BOUND != NO_BOUND, "nothing is missing below the bound"
                else:
                    assert number == last + 1, "numbers are dense"
                    assert known.setdefault(number, event) is event, "a number is always the same event"
                assert self.bugs or event.data.get("code") != "internal-error"
                last = number
            assert not any(event.terminal for _, event in reader.got[:-1]), "nothing comes after the end"
            if reader.at_end:
                assert reader.task.exception() is None
                assert reader.position == reader.session.last
        for known in self.numbered.values():
            lines_are_whole(known.items())

    @invariant()
    def one_builder_at_a_time(self) -> None:
        assert max(self.world.building.values(), default=0) <= 1
        assert not self.world.disturbed, "a clean-up is cancelled"

    @invariant()
    def nothing_but_crashes_is_trouble(self) -> None:
        assert len(self.trouble) <= self.crashes, self.trouble

    # -- the end -------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            if self.until_forgotten:
                self.everybody_leaves()
            reported = {reader.session for reader in self.readers if reader.at_end}
            being_told = {reader.session for reader in self.readers if not reader.task.done()}
            self.let_clean_up(self.loop.create_task(self.close()))
            for reader in self.readers:
                reader.grant(MUCH)
            for session in self.opened:
                self.start_reader(session, -1, MUCH)
            self.loop.settle()
            assert all(reader.task.done() for reader in self.readers), "every stream ends"
            self.readers_agree()
            self.each_ends_once()
            self.servers_are_accounted_for(reported, being_told - reported)
            assert not asyncio.all_tasks(self.loop)
            assert not self.loop.timers
        finally:
            self.loop.close()

    async def close(self) -> None:
        await self.sessions.close("closing")
        await self.runs.close("closing")

    def let_clean_up(self, until: asyncio.Task[None] | None = None) -> None:
        self.loop.settle()
        while cleaning := self.world.waiting("clean up"):
            self.loop.step(cleaning[0].go.set_result, None)
            self.loop.settle()
        if until is not None:
            until.result()

    def everybody_leaves(self) -> None:
        for reader in self.readers:
            self.loop.step(reader.task.cancel)
        self.loop.advance(GRACE)
        self.let_clean_up()
        assert all(session.ended for session in self.opened), "a session that everybody left ends"
        self.loop.advance(GRACE + MEMORY)
        assert not self.sessions.known, "a session is forgotten in the end"

    def each_ends_once(self) -> None:
        for session in self.opened:
            assert session.terminal is not None
        for run in self.runs_seen:
            assert run.task.done()
            assert run.log.closed
            events = [event for _, event in run.log.read(run.log.kept_from, run.log.end)]
            ends = [event.phase in ("built", "failed") for event in events]
            assert ends == [False] * (len(events) - 1) + [True]
        assert Counter(self.kept) == Counter(self.runs_seen), "each log is kept once"

    def servers_are_accounted_for(self, told: set[Session], perhaps: set[Session]) -> None:
        assert self.world.held == 0, "a slot is still held"
        for session in self.opened:
            assert session.terminal is not None
            stops = self.world.stopped[session.name]
            if session.name not in self.world.launched:
                assert stops == 0
            elif session.terminal.phase != "ready":
                assert stops == 1, "a server that no client was told of is stopped once"
            elif session not in perhaps:
                assert stops == (session not in told), "a server is stopped unless a client was told of it"


class InterleavedWithGaps(Interleaved):
    BOUND = 5


TestInterleaved = Interleaved.TestCase
TestInterleaved.settings = settings(stateful_step_count=30)
TestInterleavedWithGaps = InterleavedWithGaps.TestCase
TestInterleavedWithGaps.settings = settings(stateful_step_count=30)
