"""The hooks of the stages as core calls them: the chosen plugin of each kind, and answers of the right type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from attrs import define
from structlog.contextvars import get_contextvars

from ..config.settings import RingbinderSettings
from ..errors import PluginError, Refused
from ..model import Declined, Image, LaunchRequest, Plan, ProviderInfo, Repo, Server, Stage, Target
from ..plugins.caller import Answers, HookCaller, no_answer, required
from ..protocol import Event, Log, Phase, SinkEvent
from ..runtime.log import Logger
from ..runtime.metrics import Metrics
from ..runtime.silence import Silence
from ..secret import redact, redacted
from .runs import LogWriter

Notify = Callable[[Event], None]


@define
class Ticket:
    """See `hookspecs.Ticket`."""

    stage: Stage
    request: LaunchRequest
    tell: Notify
    repo: Repo | None = None
    plan: Plan | None = None
    admitted: bool = False

    def notify(self, message: str, **data: Any) -> None:
        if not self.admitted:  # the stage speaks now
            self.tell(waiting(message, data))


@define
class Stages:
    """Calls the hooks of the plugins that `settings` names."""

    hooks: HookCaller
    settings: RingbinderSettings
    metrics: Metrics
    log: Logger

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        """What the link means now; None if its provider does not know it."""
        with self.metrics.stage("resolve"):
            return await self.hooks.resolve(f"provider:{request.provider}", request=request)

    async def check(self, plan: Plan, *, fresh: bool) -> Image | None:
        """The image of `plan`, if the registry has it."""
        with Silence("The registry has not answered"), self.metrics.stage("check"):
            return await self.hooks.check(self.settings.chosen["registry"], plan=plan, fresh=fresh)

    async def target(self, plan: Plan) -> Target:
        """Where the builder writes."""
        registry = self.settings.chosen["registry"]
        with Silence("The registry has not answered"), self.metrics.stage("target"):
            return required(await self.hooks.target(registry, plan=plan), registry, "target")

    async def build(self, builder: str, plan: Plan, target: Target, log: Log) -> Image | Declined:
        """The image that a builder has made."""
        chosen = f"builder:{builder}"
        with self.metrics.stage("build"):
            answer = await self.hooks.build(chosen, plan=plan, target=target, log=log)
        if answer is None:
            raise no_answer(chosen, "build")
        return answer

    async def push(self, image: Image, target: Target, log: Log) -> Image:
        """The image, once the registry has it."""
        registry = self.settings.chosen["registry"]
        with self.metrics.stage("push"):
            return required(await self.hooks.push(registry, image=image, target=target, log=log), registry, "push")

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        """A server for one client."""
        launcher = self.settings.chosen["launcher"]
        with self.metrics.stage("launch"):
            server = await self.hooks.launch(launcher, image=image, request=request, plan=plan, log=log)
            return required(server, launcher, "launch")

    async def admitted(self, ticket: Ticket) -> AbstractAsyncContextManager[None]:
        """Runs all `admit` hooks; the context manager holds their slots."""
        slots = await self.hooks.admit(ticket=ticket)
        if not slots:  # usually: thousands may wait for a build meanwhile
            ticket.admitted = True
            return nullcontext()
        return _holding(ticket, slots)

    def log_of(self, plugin: str) -> Logger:
        """The log for a plugin's output; its lines may come from threads, which know no context."""
        return self.log.bind(plugin=plugin, **get_contextvars())

    @contextmanager
    def writing(self, plugin: str, append: Notify, phase: Phase, silent: str) -> Iterator[LogWriter]:
        """The log of a stage of `plugin`; while nothing is written to it, its client reads that it is `silent`.

        But not after a line that it waits: the stage has not begun, and its client knows why.
        """
        last = phase
        silence = Silence(lambda: "" if last == "waiting" else silent, lambda text: append(Event(phase, text)))

        def write(event: Event) -> None:
            nonlocal last
            last = event.phase
            silence.received()
            append(event)

        with silence:
            yield LogWriter(write, phase, self.log_of(plugin))

    def describe(self, provider: str) -> ProviderInfo:
        """What a provider reports of itself."""
        return self.hooks.describe(f"provider:{provider}")

    async def fetch(self, repo: Repo, into: Path, log: Log) -> None:
        """Brings a repository's content into an existing empty folder, by asking its provider."""
        log.line(f"Fetching {repo.url} at {repo.ref}\n", "fetching")
        chosen = f"provider:{repo.provider}"
        if not await self.hooks.fetch(chosen, repo=repo, into=into, log=log):
            raise PluginError(repo.provider, "it brought no content", "fetch")

    async def emit(self, sink: str, events: Sequence[SinkEvent]) -> int | None:
        """Gives events to one sink; how many of them it has taken, None being all."""
        return await self.hooks.emit(f"sink:{sink}", events=events)


@asynccontextmanager
async def _holding(ticket: Ticket, slots: Answers[AbstractAsyncContextManager[None]]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for plugin, slot in slots:
            try:
                await stack.enter_async_context(slot)
            except Refused as error:
                error.policy = error.policy or plugin
                raise
        ticket.admitted = True
        yield


def waiting(message: str, data: Mapping[str, Any] | None = None) -> Event:
    """The event of a stage that has not begun."""
    return Event("waiting", redact(str(message)).rstrip("\n") + "\n", redacted(data or {}))
