"""An application over small plugins that do as a test says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import structlog
from attrs import define, field
from ringbinder import (
    Declined,
    Diagnosis,
    Event,
    GitSource,
    Image,
    ImageKind,
    LaunchRequest,
    ProviderInfo,
    Repo,
    Secret,
    Server,
    SinkEvent,
    Target,
    Ticket,
)
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder.config.settings import in_order

TOKEN = "0123456789abcdef-token"
REPO = Repo("https://h/u/r", GitSource("https://h/u/r", "c0ffee"), "c0ffee", "u/r/c0ffee", "https://h/c0ffee", "u-r")
REQUEST = LaunchRequest("t", "u/r/main", launch_host="https://binder.example/")
SERVER = Server("one", "http://127.0.0.1:1/", Secret(TOKEN), extra={"work_folder": "/w", "url": "no"})
Act = Callable[..., Awaitable[Any]]


@define
class Script:
    """What the plugins do: `acts` has a function by hook; each other hook does the usual thing."""

    calls: list[str] = field(factory=list)
    acts: dict[str, Act] = field(factory=dict)
    images: dict[str, Image] = field(factory=dict)
    slots: list[str] = field(factory=list)
    builds_at_once: dict[str, int] = field(factory=dict)
    place: Callable[..., Any] | None = None
    """The method of that name of all builders."""
    """By name of the builder."""
    kind: ImageKind = "oci"
    emitted: list[SinkEvent] = field(factory=list)

    async def do(self, hook: str, usual: Any, **arguments: Any) -> Any:
        self.calls.append(hook)
        return await self.acts[hook](**arguments) if hook in self.acts else usual

    def fail(self, hook: str, error: BaseException) -> None:
        async def act(**arguments: Any) -> None:
            raise error

        self.acts[hook] = act

    def plugins(self) -> dict[str, type]:
        """Classes by group; there is one of each kind, and all builders are of one class."""
        script = self

        class Base:
            def __init__(self, config: Any, context: Any) -> None:
                self.name = context.name

        class Provider(Base):
            def describe(self) -> ProviderInfo:
                return ProviderInfo("Test", ".+", "", "")

            async def resolve(self, request: LaunchRequest) -> Repo | None:
                return await script.do("resolve", REPO, request=request)  # type: ignore[no-any-return]

        class Registry(Base):
            holds = script.kind

            async def check(self, plan: Any, fresh: bool) -> Image | None:
                name = "check fresh" if fresh else "check"
                return await script.do(name, script.images.get(plan.image), plan=plan)  # type: ignore[no-any-return]

            async def target(self, plan: Any) -> Target | None:
                return await script.do("target", Target(script.kind, plan.image))  # type: ignore[no-any-return]

            async def push(self, image: Image, log: Any) -> Image | None:
                log.line("layer\n")
                script.images[image.name] = image
                return await script.do("push", image)  # type: ignore[no-any-return]

        class Builder(Base):
            makes = script.kind

            @property
            def builds_at_once(self) -> int | None:
                return script.builds_at_once.get(self.name)

            async def build(self, plan: Any, log: Any) -> Image | Declined | None:
                log.line("step 1\n")
                hook = "build" if self.name == "t" else f"build {self.name}"
                return await script.do(hook, Image(plan.image, script.kind), plan=plan, log=log)  # type: ignore[no-any-return]

        if script.place:
            Builder.place = script.place  # type: ignore[attr-defined] # as of a builder that counts its builds

        class Launcher(Base):
            runs = script.kind

            async def launch(self, image: Image, request: LaunchRequest, log: Any) -> Server | None:
                log.line("starting\n")
                return await script.do("launch", SERVER, request=request)  # type: ignore[no-any-return]

            async def stop(self, server: Server) -> bool:
                return await script.do("stop", True)  # type: ignore[no-any-return]

        class Sink(Base):
            async def emit(self, events: Sequence[SinkEvent]) -> None:
                script.emitted += events

        class Policy(Base):
            async def admit(self, ticket: Ticket) -> Any:
                await script.do("admit", None, ticket=ticket)
                return self._slot(ticket.stage)

            @asynccontextmanager
            async def _slot(self, stage: str) -> AsyncIterator[None]:
                script.slots.append(f"{stage} in")
                try:
                    yield
                finally:
                    script.slots.append(f"{stage} out")

            async def diagnose(self, failure: Any) -> Diagnosis | None:
                return await script.do("diagnose", None, failure=failure)  # type: ignore[no-any-return]

        kinds = ("providers", "registries", "builders", "launchers", "sinks", "plugins")
        classes = (Provider, Registry, Builder, Launcher, Sink, Policy)
        return {f"ringbinder.{kind}": cls for kind, cls in zip(kinds, classes, strict=True)}

    def running(
        self, folder: Path, sections: dict[str, Any] | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[Ringbinder]:
        classes = self.plugins()

        class Point(EntryPoint):
            def load(self) -> Any:
                return classes[self.group]

        def points(group: str) -> Iterable[EntryPoint]:
            names = in_order(settings.get("builder", "t")) if group == "ringbinder.builders" else ["t"]
            return [Point(name, "nowhere:t", group) for name in names] if group in classes else []

        chosen = {
            "builder": "t",
            "registry": "t",
            "launcher": "t",
            "sinks": ["t"],
            "state_folder": str(folder),
        }
        file = folder / "config.yaml"
        file.write_text(json.dumps({"Ringbinder": {**chosen, **settings}, **(sections or {})}))
        config = load([file], environ={})
        return running(config, structlog.get_logger(), build_log="logs/{id}", entry_points=points)

    def events_of(self, schema: str) -> list[SinkEvent]:
        return [event for event in self.emitted if event.schema == schema]


async def events(app: Ringbinder, request: LaunchRequest = REQUEST) -> list[Event]:
    session = app.launch(request)
    found = [(number, event) async for batch in session.read() for number, event in batch]
    assert [number for number, _ in found] == list(range(len(found)))
    return [event for _, event in found]


def phases(events: list[Event]) -> list[str]:
    return [event.phase for event in events]
