"""The hooks of the stages as core calls them: the chosen plugin of each kind, and answers of the right type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from attrs import define
from structlog.contextvars import get_contextvars

from ..config.settings import RingbinderSettings
from ..errors import PluginError, Refused
from ..model import Image, LaunchRequest, Plan, ProviderInfo, Repo, Server, Stage, Target
from ..plugins.caller import HookCaller
from ..protocol import Event, Log, Phase, SinkEvent
from ..runtime.log import Logger
from ..runtime.metrics import Metrics
from ..runtime.silence import Silence
from ..secret import redact, redacted
from .runs import LogWriter

_ANSWERS: Final[Mapping[str, type]] = {
    "resolve": Repo, "check": Image, "target": Target, "build": Image, "push": Image, "launch": Server,
}  # fmt: skip
"""What the hook of each stage gives."""


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

    async def ask(self, kind: str, hook: str, *, optional: bool = False, **arguments: Any) -> Any:
        """The answer of the general plugins or the chosen plugin of `kind` to the hook of a stage.

        Raises PluginError if it is of a wrong type, or None without being `optional`.
        """
        plugin = self.settings.chosen[kind]
        with self.metrics.stage(hook):
            answer = judged(await self.hooks.first(hook, chosen=plugin, **arguments), plugin, hook)
        if answer is None and not optional:
            raise PluginError(plugin, "it gave None, and no other plugin an answer", hook)
        return answer

    async def check(self, plan: Plan, *, fresh: bool) -> Image | None:
        """The image of `plan`, if the registry has it."""
        with Silence("The registry has not answered"):
            image: Image | None = await self.ask("registry", "check", optional=True, plan=plan, fresh=fresh)
        return image

    async def admitted(self, ticket: Ticket) -> AbstractAsyncContextManager[None]:
        """Runs all `admit` hooks; the context manager holds their slots."""
        slots = await self.hooks.every("admit", ticket=ticket)
        if not slots:  # usually: thousands may wait for a build meanwhile
            ticket.admitted = True
            return nullcontext()
        return _holding(ticket, slots)

    def log_of(self, kind: str) -> Logger:
        """The log for a plugin's output; its lines may come from threads, which know no context."""
        return self.log.bind(plugin=self.settings.chosen[kind], **get_contextvars())

    @contextmanager
    def writing(self, kind: str, append: Notify, phase: Phase, silent: str) -> Iterator[LogWriter]:
        """The log of a stage; while nothing is written to it, its client reads that it is `silent`.

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
            yield LogWriter(write, phase, self.log_of(kind))

    def describe(self, provider: str) -> ProviderInfo:
        """What a provider reports of itself."""
        info: ProviderInfo = self.hooks.ask("describe", chosen=f"provider:{provider}")
        return info

    async def fetch(self, repo: Repo, into: Path, log: Log) -> None:
        """Brings a repository's content into an existing empty folder, by asking its provider."""
        log.line(f"Fetching {repo.url} at {repo.ref}\n", "fetching")
        chosen = f"provider:{repo.provider}"
        if not await self.hooks.first("fetch", chosen=chosen, repo=repo, into=into, log=log):
            raise PluginError(repo.provider, "it brought no content", "fetch")

    async def emit(self, sink: str, events: Sequence[SinkEvent]) -> None:
        """Gives events to one sink."""
        await self.hooks.first("emit", chosen=f"sink:{sink}", events=events)


@asynccontextmanager
async def _holding(ticket: Ticket, slots: Sequence[tuple[str, Any]]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for plugin, slot in slots:
            if not isinstance(slot, AbstractAsyncContextManager):
                problem = f"it gave {type(slot).__name__}, which is no async context manager"
                raise PluginError(plugin, problem, "admit")
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


def judged(answer: Any, plugin: str, hook: str) -> Any:
    """`answer`, if it is of the type that a stage's hook gives. Raises PluginError."""
    if answer is not None and not isinstance(answer, _ANSWERS[hook]):
        problem = f"it, or a plugin that was asked before it, gave a {type(answer).__name__} instead of a"
        raise PluginError(plugin, f"{problem} {_ANSWERS[hook].__name__}", hook)
    return answer
