"""What one build does: build -> push -> check, its events, and the log that is kept of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from attrs import define, evolve
from structlog.contextvars import bind_contextvars

from ..errors import PluginError, Refused
from ..model import Declined, Image, Plan, Target
from ..protocol import Event
from ..runtime.services import Services
from ..runtime.silence import speaker
from ..runtime.store import KeptLog, Outcome
from ..secret import redact
from .builders import Builders, no_builder
from .failures import Explainer
from .reporting import StageEvents
from .runs import LogWriter, Run
from .stages import Stages, Ticket


@define
class BuildStage:
    """Takes runs through their stages."""

    stages: Stages
    services: Services
    explainer: Explainer
    reporter: StageEvents
    builders: Builders
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
        return await self.explainer.event("build", error, run.plan, run.tail(), local=run.request.local, **log)

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
        repo, metrics = run.plan.repo, self.services.metrics
        declined: dict[str, Declined] = {}
        reason = ""
        ticket = Ticket("build", run.request, run.append, repo, run.plan)
        queue = evolve(ticket)  # speaks on when `ticket` is admitted
        async with await self.stages.admitted(ticket), AsyncExitStack() as building:
            for builder, plan in self.builders.plans(repo).items():
                if reason:
                    run.append(Event("building", redact(f"{reason}: built with {builder}\n")))
                async with AsyncExitStack() as place:
                    with metrics.builds_waiting.track_inprogress():
                        await place.enter_async_context(self.builders.place(builder, plan, queue))
                    # Another session's build may have ended between that session's check and now.
                    if not self.builders.image and (image := await self.stages.check(plan, fresh=True)):
                        return image
                    if run.building_since is None:
                        run.building_since = time.monotonic()
                        self.reporter.build_started(run, waited=run.building_since - run.started)
                        building.enter_context(metrics.building(repo.provider, repo.url))
                    outcome = await self._build_and_push(run, builder, plan)
                if isinstance(outcome, Image):
                    return outcome
                declined[builder], reason = outcome, outcome.reason
            raise no_builder(declined)

    async def _build_and_push(self, run: Run, builder: str, plan: Plan) -> Image | Declined:
        stages, registry = self.stages, self.stages.settings.chosen["registry"]
        target = await stages.target(plan)
        silent = "The build has printed nothing"
        with stages.writing(f"builder:{builder}", run.append, "building", silent) as log:
            built = await stages.build(builder, plan, target, log)
        if isinstance(built, Declined):
            return built
        if not built.pushed:
            with stages.writing(registry, run.append, "pushing", "The push has made no progress") as log:
                await self._push(run, built, target, log)
        image = await stages.check(plan, fresh=True)
        if image is None:
            raise PluginError(registry, f"{plan.image} is not there after a build and a push", "check")
        return image

    async def _push(self, run: Run, image: Image, target: Target, log: LogWriter) -> None:
        started, success = time.monotonic(), False
        try:
            await self.stages.push(image, target, log)
            success = True
        finally:
            seconds = time.monotonic() - started
            self.reporter.pushed(run, self.stages.settings.registry, seconds, success=success)
