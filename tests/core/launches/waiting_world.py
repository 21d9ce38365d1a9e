"""Plugins whose every call waits until it is let go, and clients that read as fast as they may."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from operator import itemgetter
from typing import Any, Final

from attrs import define, field
from ringbinder import (
    BuildError,
    Event,
    GitSource,
    Image,
    LaunchRequest,
    Log,
    Plan,
    ProviderInfo,
    Refused,
    Repo,
    Secret,
    Server,
    Target,
    Ticket,
    TransientError,
)
from ringbinder.launches.sessions import Session


class Crash(BaseException):
    """What no `except Exception` catches."""


ERRORS: Final[dict[str, Callable[[], BaseException]]] = {
    "user": lambda: BuildError("The repository's own fault."),
    "refused": lambda: Refused("Not today.", retry_after=5),
    "transient": lambda: TransientError("No answer."),
    "bug": lambda: KeyError("a bug"),
    "cancelled from within": asyncio.CancelledError,
    "crash": lambda: Crash("out of memory"),
}


@define(eq=False)
class Call:
    """A plugin's call under way, and its log, which may be written to long after."""

    hook: str
    log: Log | None = None
    go: asyncio.Future[None] = field(factory=lambda: asyncio.get_running_loop().create_future())
    lines: int = 0


@define(eq=False)
class World:
    """What the plugins share, and the rules act upon."""

    stubborn: bool
    """Cancelled, a call waits for a rule before it gives in."""
    images: dict[str, Image] = field(factory=dict)
    calls: list[Call] = field(factory=list)
    building: Counter[str] = field(factory=Counter)
    held: int = 0
    disturbed: int = 0
    launched: set[str] = field(factory=set)
    stopped: Counter[str] = field(factory=Counter)

    async def wait(self, hook: str, log: Log | None = None) -> None:
        call = Call(hook, log)
        self.calls.append(call)
        try:
            await call.go
        except asyncio.CancelledError:
            if self.stubborn and call.go.cancelled():
                cleaning = Call("clean up")
                self.calls.append(cleaning)
                try:
                    await cleaning.go
                except asyncio.CancelledError:
                    self.disturbed += 1
            raise

    def waiting(self, hook: str = "") -> list[Call]:
        return [call for call in self.calls if not call.go.done() and hook in call.hook]


@define
class Plugin:
    world: World


class Origin(Plugin):
    def describe(self) -> ProviderInfo:
        return ProviderInfo("Test", "", "", "")

    async def resolve(self, request: LaunchRequest) -> Repo:
        await self.world.wait("resolve")
        slug = request.spec[0]  # the specs a1 and a2 are one image
        return Repo("https://x.invalid", GitSource("https://x.invalid", slug), slug, request.spec, "", slug)


class Shelf(Plugin):
    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        await asyncio.sleep(0)
        return self.world.images.get(plan.image)

    async def target(self, plan: Plan) -> Target:
        return Target("oci", plan.image)


class Workshop(Plugin):
    async def build(self, plan: Plan, log: Log) -> Image:
        world = self.world
        world.building[plan.image] += 1
        try:
            await world.wait("build", log)
        finally:
            world.building[plan.image] -= 1
        world.images[plan.image] = Image(plan.image, "oci", pushed=True)
        return world.images[plan.image]


class Ramp(Plugin):
    async def launch(self, request: LaunchRequest, log: Log) -> Server:
        await self.world.wait("launch", log)
        self.world.launched.add(request.session)
        return Server(request.session, "http://127.0.0.1:1/", Secret(f"token-{request.session}"))

    async def stop(self, server: Server) -> bool:
        await asyncio.sleep(0)
        self.world.stopped[server.id] += 1
        return True


class Doorkeeper(Plugin):
    async def admit(self, ticket: Ticket) -> Any:
        return self._slot(ticket)

    @asynccontextmanager
    async def _slot(self, ticket: Ticket) -> AsyncIterator[None]:
        ticket.notify("You are next.")
        self.world.held += 1
        try:
            yield
            ticket.notify("This comes too late.")
            await asyncio.sleep(0)
        finally:
            self.world.held -= 1


@define(eq=False)
class Reader:
    """A client that takes at most `credit` more batches."""

    session: Session
    after: int
    credit: int
    task: asyncio.Task[None] = field(init=False)
    got: list[tuple[int, Event]] = field(factory=list)
    more: asyncio.Event = field(factory=asyncio.Event)

    async def read(self) -> None:
        async with aclosing(self.session.read(self.after)) as batches:
            async for batch in batches:
                self.got += batch
                while self.credit == 0:
                    self.more.clear()
                    await self.more.wait()
                self.credit -= 1

    def grant(self, batches: int) -> None:
        self.credit += batches
        self.more.set()

    @property
    def position(self) -> int:
        return self.got[-1][0] if self.got else self.after

    @property
    def at_end(self) -> bool:
        return self.task.done() and not self.task.cancelled()


def lines_are_whole(numbered: Iterable[tuple[int, Event]]) -> None:
    """One call's lines stand one after another, with only words on its silence between, whoever has read them."""
    starts: dict[str, tuple[int, int]] = {}
    last, words, missing = -1, 0, 0
    for number, event in sorted(numbered, key=itemgetter(0)):
        missing += number - last - 1
        last = number
        if event.message.startswith("line "):
            _, call, line = event.message.split()
            start = number - int(line) - words
            before, missing_before = starts.get(call, (start, missing))
            assert 0 <= start - before <= missing - missing_before, "what is missing may have been such words"
            starts[call] = start, missing
        elif event.message.endswith(" s.\n"):
            words += 1
