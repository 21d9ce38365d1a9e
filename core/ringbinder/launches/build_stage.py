"""What one build does: build -> push -> check, its events, and the log that is kept of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from attrs import define
from structlog.contextvars import bind_contextvars

from ..errors import PluginError, Refused
from ..model import Image, Target
from ..protocol import Event
from ..runtime.services import Services
from ..runtime.silence import speaker
from ..runtime.store import KeptLog, Outcome
from ..runtime.waiting_line import WaitingLine, queue_notice
from .failures import Explainer
from .reporting import StageEvents
from .runs import LogWriter, Run
from .stages import Stages, Ticket


@define
class BuildStage:
    """Takes runs through their stages; `line` is where builds wait that are too many at a time."""

    stages: Stages
    services: Services
    explainer: Explainer
    reporter: StageEvents
    line: WaitingLine
    log_address: str = ""
    """Where clients find the log of a build, with `{id}`; empty: nowhere."""

    async def build(self, run: Run) -> Image:
        """Builds, pushes, then looks whether the registry really has the image."""
        bind_contextvars(run=run.name)
        speaker.set(lambda text: run.append(Event("waiting", text)))
        try:
            return await self._build(run)
        except Refused as error:
            self.reporter.refused(run.request, "build", error, run.plan.repo)
            raise

    async def explain(self, run: Run, error: Exception) -> Event:
        """The `failed` event of a build."""
        log = {"log": self.log_address.format(id=run.id)} if self.log_address else {}
        return await self.explainer.event("build", error, run.plan, run.tail(), **log)

    async def keep(self, run: Run) -> None:
        """Emits the end of a build and keeps its log."""
        if run.building_since is not None:
            self.reporter.build_ended(run, time.monotonic() - run.building_since)
        outcome: Outcome = "success" if run.image else "cancelled" if run.cancel_event else "failure"
        seconds = time.monotonic() - run.started
        lines = b"\n".join(event.json for _, event in run.log.read(0, run.log.end))
        now, users = self.services.clock.time(), frozenset(run.users)
        kept = KeptLog(run.id, run.plan.image, outcome, now, seconds, lines, users)
        await asyncio.to_thread(self.services.store.keep_log, kept)

    async def _build(self, run: Run) -> Image:
        plan, metrics = run.plan, self.services.metrics

        def tell(before: int) -> None:
            text, queue = queue_notice(before)
            run.append(Event("waiting", f"{text}\n", {"queue": queue}))

        ticket = Ticket("build", run.request, run.append, plan.repo, plan)
        async with await self.stages.admitted(ticket), AsyncExitStack() as slot:
            with metrics.builds_waiting.track_inprogress():
                await slot.enter_async_context(self.line.place(tell))
            # Another session's build may have ended between that session's check and now.
            if image := await self.stages.check(plan, fresh=True):
                return image
            run.building_since = time.monotonic()
            self.reporter.build_started(run, waited=run.building_since - run.started)
            with metrics.building(plan.repo.provider, plan.repo.url):
                return await self._build_and_push(run)

    async def _build_and_push(self, run: Run) -> Image:
        stages, plan = self.stages, run.plan
        target = await stages.target(plan)
        with stages.writing("builder", run.append, "building", "The build has printed nothing") as log:
            built = await stages.build(plan, target, log)
        if not built.pushed:
            with stages.writing("registry", run.append, "pushing", "The push has made no progress") as log:
                await self._push(run, built, target, log)
        image = await stages.check(plan, fresh=True)
        if image is None:
            problem = f"{plan.image} is not there after a build and a push"
            raise PluginError(stages.settings.chosen["registry"], problem, "check")
        return image

    async def _push(self, run: Run, image: Image, target: Target, log: LogWriter) -> None:
        started, success = time.monotonic(), False
        try:
            await self.stages.push(image, target, log)
            success = True
        finally:
            seconds = time.monotonic() - started
            self.reporter.pushed(run, self.stages.settings.registry, seconds, success=success)
