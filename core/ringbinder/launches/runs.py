"""Runs: one build that many clients watch.

A run's events stand in one `EventLog`; a reader is a cursor into it, so that a thousand watchers cost a
thousand integers.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, TypeVar

from attrs import Factory, define, field

from ..model import Image, LaunchRequest, Plan
from ..protocol import Event, Phase, failed
from ..runtime.log import Logger
from ..runtime.wakeup import Wakeup
from ..secret import launch_redact, redacted
from .event_buffer import EventLog

T = TypeVar("T")

_OF_A_STAGE: Final = frozenset({"waiting", "fetching", "building", "pushing", "launching"})
"""Phases that a plugin may name; only core says how a stage ended."""


@define
class LogWriter:
    """The `Log` that a stage writes to: any thread may call it."""

    append: Callable[[Event], None]
    phase: Phase
    log: Logger | None = None
    """Gets each line too, on level debug, bound to what the lines are about."""
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop)
    _thread: int = field(factory=threading.get_ident)
    _redact: Callable[[str], str] = field(factory=launch_redact)

    def line(self, message: str, phase: Phase | None = None) -> None:
        self._send(phase or self.phase, message, {})

    def progress(self, layers: Mapping[str, Any], message: str = "Pushing image\n") -> None:
        self._send("pushing", message, {"progress": redacted(layers)})

    def _send(self, phase: Phase, message: str, data: Mapping[str, Any]) -> None:
        event = Event(phase if phase in _OF_A_STAGE else self.phase, self._redact(str(message)), data)
        if self.log is not None:
            self.log.debug("output", phase=event.phase, line=event.message.rstrip())
        if threading.get_ident() == self._thread:
            self.append(event)
        else:
            with suppress(RuntimeError):  # a thread that outlived the loop has no reader
                self._loop.call_soon_threadsafe(self.append, event)


@define(eq=False)
class Run:
    """One build. Ends with exactly one terminal event of its log: `built` or `failed`."""

    plan: Plan
    request: LaunchRequest
    """Of the client that started it."""
    log: EventLog
    id: str = field(factory=lambda: secrets.token_hex(16), repr=False)
    """128 random bits: knowing it is the right to read the kept log."""
    name: str = field(
        init=False, default=Factory(lambda self: hashlib.sha256(self.id.encode()).hexdigest()[:20], takes_self=True)
    )
    """Derived from `id` and safe to show."""
    started: float = field(factory=time.monotonic)
    building_since: float | None = None
    """When the build itself began (monotonic seconds), after it was admitted and had its slot."""
    followers: int = 0
    users: set[str] = field(factory=set)
    """Who has asked for it (`User.key`), where people log in."""
    task: asyncio.Task[None] = field(init=False)
    over: Wakeup = field(factory=Wakeup)
    """Rings when the task is done."""
    image: Image | None = None
    """The outcome of a build that succeeded."""
    cancel_event: Event | None = None
    unwatched: asyncio.TimerHandle | None = None

    def append(self, event: Event) -> None:
        """A line of the build; ignored once the build has ended."""
        if not self.log.closed:
            self.log.append(event)

    def cancel(self, reason: str, code: str = "cancelled") -> None:
        """Ends the build; its watchers get `reason` and `code`.

        The first call counts: a clean-up is not disturbed.
        """
        if self.cancel_event is None and not self.task.done():
            self.cancel_event = failed(reason, code=code)
            self.task.cancel()

    def tail(self, count: int = 200) -> list[str]:
        """The last lines, oldest first."""
        end = self.log.end
        return [event.message for _, event in self.log.read(max(self.log.kept_from, end - count), end)]


@define
class Runs:
    """The builds under way, by image name.

    `work(run)` builds; `explain(run, error)` makes the `failed` event; `keep(run)` keeps the log of one
    that has ended.
    """

    work: Callable[[Run], Awaitable[Image]]
    explain: Callable[[Run, Exception], Awaitable[Event]]
    keep: Callable[[Run], Coroutine[Any, Any, None]]
    max_events: int = 100_000
    max_bytes: int = 32 * 1024 * 1024
    cancel_unwatched: float | None = None
    """Seconds after which a build that no one watches is cancelled; None: it finishes, since clients start
    builds and leave on purpose."""
    active: dict[str, Run] = field(factory=dict, init=False)
    ended: int = field(default=0, init=False)
    """How many builds have ended, well or not."""
    _unended: list[Run] = field(factory=list, init=False)
    _unkept: list[Run] = field(factory=list, init=False)
    _keeping: set[asyncio.Task[None]] = field(factory=set, init=False)

    def join(self, plan: Plan, request: LaunchRequest) -> Run:
        """The run that builds `plan.image`: the one under way, else a new one.

        A new one waits until a cancelled one for the same image has cleaned up: builders may rely on being
        alone.
        """
        run = self.active.get(plan.image)
        if run is not None and run.cancel_event is None:
            return run
        former = [run.task for run in self._unended if run.plan.image == plan.image]
        run = self.active[plan.image] = Run(plan, request, EventLog(self.max_events, self.max_bytes))
        run.task = asyncio.create_task(self._drive(run, former), name=f"build {plan.build}")
        self._unended.append(run)
        run.task.add_done_callback(lambda task: self._ended(run, task))
        return run

    def find(self, id: str) -> Run | None:
        """The run of that id, if it has not ended or its log is not kept yet."""
        return next((run for run in (*self._unended, *self._unkept) if run.id == id), None)

    def place(self, image: str) -> int | None:
        """How many builds come before that of `image`, itself counted; None if it is building.

        One that no one has asked for yet would be the last one.
        """
        waiting = [name for name, run in self.active.items() if run.building_since is None]
        if image in waiting:
            return waiting.index(image) + 1
        return None if image in self.active else len(waiting) + 1

    def _ended(self, run: Run, task: asyncio.Task[None]) -> None:
        # Here, since a task that is cancelled before its first step never enters `_drive`.
        self._unended.remove(run)
        run.over.notify_all()
        report(task, "a build failed, and so did its explanation")
        self._finish(run, run.cancel_event or failed("The build ended without a result. Please try again."))

    def following(self, run: Run) -> AbstractContextManager[None]:
        """Counts the caller among those who wait for `run`."""
        return _Following(self, run)

    def when_unfollowed(self, run: Run) -> None:
        """Cancels `run` after a while if it has no follower by then, where that is configured."""
        if run.followers == 0 and self.cancel_unwatched is not None and not run.log.closed:
            loop, message = asyncio.get_running_loop(), "No one waits for this build any more."
            run.unwatched = loop.call_later(self.cancel_unwatched, run.cancel, message)

    async def _drive(self, run: Run, former: Sequence[asyncio.Task[None]]) -> None:
        if former:
            await asyncio.wait(former)
        try:
            run.image = await self.work(run)
        except Exception as error:
            self._finish(run, run.cancel_event or await self.explain(run, error))
        else:
            self._finish(run, Event("built", "Built image, launching...\n", {"imageName": run.image.name}))

    def _finish(self, run: Run, event: Event) -> None:
        if run.unwatched is not None:
            run.unwatched.cancel()
            run.unwatched = None
        if self.active.get(run.plan.image) is run:
            del self.active[run.plan.image]
        if not run.log.closed:
            run.log.append(event)
            run.log.close()
            self.ended += 1
            self._unkept.append(run)
            start_aside(self._keep(run), self._keeping, "the log of a build could not be kept")

    async def _keep(self, run: Run) -> None:
        try:
            await self.keep(run)
        finally:
            self._unkept.remove(run)

    async def close(self, reason: str) -> None:
        """Cancels every build; returns when each has cleaned up and its log is kept."""
        for run in self._unended:
            run.cancel(reason, code="shutting-down")
        await asyncio.gather(*(run.task for run in self._unended), return_exceptions=True)
        await asyncio.gather(*self._keeping, return_exceptions=True)


@define
class _Following(AbstractContextManager[None]):
    """A class, since a thousand may follow: what `contextmanager` makes takes several times as much memory."""

    _runs: Runs
    _run: Run

    def __enter__(self) -> None:
        self._run.followers += 1
        if self._run.unwatched is not None:
            self._run.unwatched.cancel()
            self._run.unwatched = None

    def __exit__(self, *_: object) -> None:
        self._run.followers -= 1
        self._runs.when_unfollowed(self._run)


def start_aside(work: Coroutine[Any, Any, T], among: set[asyncio.Task[T]], trouble: str) -> None:
    """Starts `work`, which stays in `among` until it has ended; `trouble` is what its failure means."""
    task = asyncio.create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)
    task.add_done_callback(lambda task: report(task, trouble))


def report(task: asyncio.Task[Any], what: str) -> None:
    """Lets the event loop log the error that ended `task`, if any."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": what, "exception": error, "task": task})
