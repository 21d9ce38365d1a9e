"""Sessions: one client's launch each, that a client may leave and come back to.

A session is read as a chain of segments: its own events, the run that it followed, its own events again.
Numbers count along that chain, hence a client that comes back goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from contextvars import Context
from typing import Any

from attrs import define, field, frozen
from structlog.contextvars import bind_contextvars, get_contextvars

from ..errors import Refused
from ..model import LaunchRequest, Server
from ..protocol import Event, failed
from ..runtime.wakeup import Wakeup
from .event_buffer import EventLog, Render
from .runs import Run, report, start_aside

BATCH = 64
"""Most events that a reader gets at once, a gap aside. Batches of a log end at its multiples, for all readers."""
LARGE_BATCH = 4 * BATCH
_LARGE_AT_ONCE = 8
"""What is being written to a client that does not read stays in memory: few may have a large batch at a time. Clients
that read have theirs one after another."""

_PACE = 0.02
_PACE_PER_READER = 0.0003
_LONGEST_PACE = 0.5
"""Seconds between two batches of a build that writes without a pause: more where many watch, who else would
take all the time for writing a few lines to each."""


@define
class Segment:
    """A part of a session: `log` up to `end` (None: this is the last segment), numbered from `offset`."""

    log: EventLog
    offset: int
    own: bool
    end: int | None = None
    without_built: bool = False
    """Leaves out the last event of a build that has an image: it says that a launch follows."""

    @property
    def length(self) -> int:
        if self.end is not None:
            return self.end
        newest = self.log.newest if self.without_built else None
        return self.log.end - (newest is not None and newest.phase == "built")


@frozen
class Span:
    """Events of a session: those of `log` from position `start` up to `stop`, with numbers from `offset`."""

    log: EventLog
    offset: int
    start: int
    stop: int

    @property
    def next(self) -> int:
        """Number of the event after the last one."""
        return self.offset + self.stop

    def events(self) -> list[tuple[int, Event]]:
        """With their numbers; what is gone is one event that says so."""
        return [(self.offset + at, event) for at, event in self.log.read(self.start, self.stop)]

    def rendered(self, render: Render) -> bytes:
        """As `render` writes them; made once for all who read the same span."""
        return self.log.rendered(self.start, self.stop, self.offset, render)


def _own_context() -> Context:
    """What the log knows of the caller, without all else that the caller's context holds, such as its request."""
    context = Context()
    context.run(bind_contextvars, **get_contextvars())
    return context


@define
class LargeBatches:
    """How many readers, of all sessions together, may still be given a large batch."""

    free: int = _LARGE_AT_ONCE


@define(eq=False)
class Session:
    """One client's launch, made by `Sessions.open`.

    Readers may come, drop and come back with the last number seen.
    """

    request: LaunchRequest
    id: str = field(repr=False)
    """A bearer secret: `ready` carries the notebook's token, and anyone who knows the id may read it."""
    name: str
    """Derived from `id` and safe to show."""
    owner: str = ""
    """`LaunchRequest.owner`."""
    segments: list[Segment] = field(factory=list, repr=False)
    wakeup: Wakeup = field(factory=Wakeup)
    large: LargeBatches = field(factory=LargeBatches, repr=False)
    context: Context = field(factory=_own_context, repr=False)
    """Log context, kept after the client has left."""
    task: asyncio.Task[None] | None = None
    server: Server | None = None
    """What was launched and has not been taken down."""
    run: Run | None = None
    """The build that it has followed."""
    readers: int = 0
    delivered: bool = False
    """The terminal event was written to a client."""
    cancel_event: Event | None = None
    on_idle: Callable[[Session], None] | None = field(default=None, repr=False)
    on_watched: Callable[[Session], None] | None = field(default=None, repr=False)

    def notify(self, event: Event) -> None:
        """Adds an event of the session itself; ignored after the terminal one."""
        if self.ended:
            return
        if not self.segments or not self.segments[-1].own:
            self._next(EventLog(), own=True)
        self.segments[-1].log.append(event)

    def follow(self, run: Run) -> None:
        """Goes on with the events of `run` from its first one, until the session says something itself.

        If the run fails, its `failed` event is the session's last one.
        """
        if not self.ended:
            self.run = run
            self._next(run.log, own=False, without_built=self.request.build_only)

    def _next(self, log: EventLog, own: bool, *, without_built: bool = False) -> None:
        offset = 0
        if self.segments:
            last = self.segments[-1]
            last.end = last.length
            offset = last.offset + last.end
            last.log.wakeup.notify_all()  # its readers must go on to the next segment
        self.segments.append(Segment(log, offset, own, without_built=without_built))
        self.wakeup.notify_all()

    @property
    def last(self) -> int:
        """Number of the newest event; -1 before the first."""
        return self.segments[-1].offset + self.segments[-1].length - 1 if self.segments else -1

    @property
    def newest(self) -> Event | None:
        """The newest event, of its own or of the build that it follows."""
        return self.segments[-1].log.newest if self.segments else None

    @property
    def terminal(self) -> Event | None:
        """The last event of all, once it is there."""
        newest = self.newest
        return newest if newest is not None and newest.terminal else None

    @property
    def ended(self) -> bool:
        return self.terminal is not None

    @property
    def launched(self) -> bool:
        """It was launched, and its client knows: nothing is left to do or to tell."""
        last = self.terminal
        return last is not None and last.phase == "ready" and self.delivered and self.readers == 0

    def number_of(self, text: str) -> int | None:
        """The number in an SSE id (``<session>.<seq>``, or with ``.end``); None unless of this session."""
        session, _, rest = text.partition(".")
        number = rest.removesuffix(".end")
        known = hmac.compare_digest(session.encode(errors="replace"), self.id.encode())
        if known and number.isdecimal() and len(number) < 12:
            return min(int(number), self.last)
        return None

    async def read(self, after: int = -1, beat: float | None = None) -> AsyncGenerator[list[tuple[int, Event]], None]:
        """The events after number `after`, with their numbers: what `spans` gives."""
        async with aclosing(self.spans(after, beat)) as spans:
            async for span in spans:
                yield span.events() if span else []

    async def spans(
        self, after: int = -1, beat: float | None = None, *, paced: bool = False
    ) -> AsyncGenerator[Span | None, None]:
        """The events after number `after`, in batches, up to the terminal one.

        Asking for the next batch says that the one before was delivered. None means that nothing came for
        `beat` seconds. `paced` lets the lines of a build come together while they come quickly, and costs up to
        half a second where a thousand watch. What a span is made into is made before anything is awaited, since its
        log is bounded.
        """
        position, loop = after + 1, asyncio.get_running_loop()
        self.readers += 1
        if self.on_watched:
            self.on_watched(self)
        try:
            while True:
                span, wakeup = self._take(position, LARGE_BATCH if self.large.free > 0 else BATCH)
                if span is not None:
                    is_large = span.stop - span.start > BATCH
                    self.large.free -= is_large
                    try:
                        yield span
                    finally:
                        self.large.free += is_large
                    position = span.next
                elif wakeup is None:
                    self.delivered = True
                    return
                else:
                    given_at = loop.time()
                    if not await wakeup.wait(beat):
                        yield None
                    elif paced:
                        await self._keep_pace(given_at)
        finally:
            self.readers -= 1
            if self.readers == 0 and self.on_idle:
                self.on_idle(self)

    async def _keep_pace(self, given_at: float) -> None:
        """Lets more lines of a build come together, if the last ones were given only just now."""
        if self.run is None or self.segments[-1].own or self.run.log.closed:
            return
        pace = min(max(_PACE, _PACE_PER_READER * self.run.followers), _LONGEST_PACE)
        now = asyncio.get_running_loop().time()
        if now < given_at + pace:
            # At the same moment for all readers: they get the same batches, which are made once.
            await asyncio.sleep(pace - now % pace)

    def _take(self, position: int, batch: int) -> tuple[Span | None, Wakeup | None]:
        """What there is from `position` on; if nothing: where to wait, or None after the terminal event."""
        for segment in reversed(self.segments):
            if position >= segment.offset:
                break
        else:
            return None, self.wakeup
        start, length = position - segment.offset, segment.length
        if start < length:
            kept = max(start, min(segment.log.kept_from, length))
            stop = min(length, kept - kept % batch + batch)
            return Span(segment.log, segment.offset, start, stop), None
        return None, None if self.ended else segment.log.wakeup


@define
class Sessions:
    """Every session that can still be asked for.

    `work(session)` takes it through the stages and ends it; `take_down(server)` ends a server that no client
    knows of.
    """

    work: Callable[[Session], Coroutine[Any, Any, None]]
    take_down: Callable[[Server], Coroutine[Any, Any, object]]
    grace: float = 60.0
    """Seconds that a client which left before its terminal event was written has to come back."""
    memory: float = 600.0
    """Seconds that an ended session can be asked for."""
    most: int = 5000
    most_of_one: int = 100
    """How many there may be in all, and of one owner."""
    key: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False)
    known: dict[str, Session] = field(factory=dict, init=False, repr=False)
    _of_owner: Counter[str] = field(factory=Counter, init=False, repr=False)
    """How many of `known` each owner has: looking through all at each launch would cost more than the launch."""
    _timers: dict[str, asyncio.TimerHandle] = field(factory=dict, init=False, repr=False)
    _endings: set[asyncio.Task[object]] = field(factory=set, init=False)
    _closing: str | None = field(default=None, init=False)
    _large: LargeBatches = field(factory=LargeBatches, init=False)

    def open(self, make: Callable[[str], LaunchRequest]) -> Session:
        """Starts a session; `make` is given its public name and returns the request.

        It lives without a reader for `grace` seconds. Raises Refused if there are too many.
        """
        id = secrets.token_hex(16)
        name = hmac.new(self.key, id.encode(), hashlib.sha256).hexdigest()[:20]
        request = make(name)
        owner = request.owner
        self._take_place(owner)
        session = Session(request, id, name, owner, large=self._large, on_idle=self._left, on_watched=self._watched)
        self.known[id] = session
        self._of_owner[owner] += 1
        if self._closing is not None:
            session.notify(failed(self._closing, code="shutting-down"))
        else:
            session.task = asyncio.create_task(self.work(session), name=f"session {name}", context=session.context)
            session.task.add_done_callback(lambda task: self._ended(session, task))
        self._left(session)
        return session

    def _take_place(self, owner: str) -> None:
        """Makes room for one more session of `owner`. Raises Refused with the time until there is some."""
        if self._of_owner[owner] >= self.most_of_one:
            of_owner = [session for session in self.known.values() if session.owner == owner]
            self._make_room(of_owner, 429, "You have", "the most that one client may have")
        if len(self.known) >= self.most:
            self._make_room(list(self.known.values()), 503, "There are", "the most that this server takes")

    def _make_room(self, sessions: Sequence[Session], status: int, who: str, why: str) -> None:
        if done := next((session for session in sessions if session.launched), None):
            self.forget(done)
            return
        wait = self._seconds_to_room(sessions)
        message = f"{who} {len(sessions)} launches here, under way or of the last minutes, {why}."
        raise Refused(f"{message} Try again in {wait} seconds.", retry_after=wait, status=status)

    def _seconds_to_room(self, sessions: Sequence[Session]) -> int:
        """Until the first of them is forgotten; of one that is read now, that is known only to be `memory` or more."""
        now = asyncio.get_running_loop().time()
        waits = [
            timer.when() - now + (0 if session.ended else self.memory)
            for session in sessions
            if (timer := self._timers.get(session.id))
        ]
        return max(1, math.ceil(min(waits, default=self.memory)))

    def _ended(self, session: Session, task: asyncio.Task[None]) -> None:
        report(task, "a session failed")
        session.notify(session.cancel_event or failed("The launch ended without a result. Please try again."))
        if session.terminal is not None and session.terminal.phase != "ready":
            self._take_down(session)
        if session.readers == 0:
            self._left(session)

    def find(self, event_id: str) -> Session | None:
        """The session of an SSE id, if it is still known."""
        return self.known.get(event_id.partition(".")[0])

    def polled(self, session: Session) -> None:
        """Restarts the grace period after a client asked for the state, which gives it a terminal event too."""
        session.delivered = session.delivered or session.ended
        if session.readers == 0:
            self._left(session)

    def remove(self, session: Session) -> Server | None:
        """Forgets an ended session; the server that it leaves is the caller's to stop."""
        self.forget(session)
        server, session.server = session.server, None
        return server

    def forget(self, session: Session) -> None:
        """It cannot be asked for any more."""
        self._watched(session)
        if self.known.pop(session.id, None) is None:
            return
        self._of_owner[session.owner] -= 1
        if not self._of_owner[session.owner]:
            del self._of_owner[session.owner]

    def cancel(self, session: Session, reason: str, code: str = "cancelled") -> None:
        """Ends a session that has not ended; its readers get `reason` and `code`.

        The first call counts: a clean-up is not disturbed.
        """
        if session.cancel_event is None and session.task is not None and not session.task.done():
            session.cancel_event = failed(reason, code=code)
            session.task.cancel()

    def _watched(self, session: Session) -> None:
        if timer := self._timers.pop(session.id, None):
            timer.cancel()

    def _left(self, session: Session) -> None:
        """No one reads now: give the client time to come back, or the ended session time to be asked for."""
        self._watched(session)
        if self._closing is not None:
            return
        wait = self.memory if session.ended and (session.delivered or session.server is None) else self.grace
        loop = asyncio.get_running_loop()
        self._timers[session.id] = loop.call_later(wait, self._time_over, session, context=session.context)

    def _time_over(self, session: Session) -> None:
        self._timers.pop(session.id, None)
        if session.ended:
            self.forget(session)  # who comes back now needs a new server
            if not session.delivered:
                self._take_down(session)
        else:
            self.cancel(session, "The client left before the launch was done.")

    def _take_down(self, session: Session) -> None:
        if session.server is None:
            return
        trouble = "a server that no client knows of could not be stopped"
        start_aside(self.take_down(session.server), self._endings, trouble)
        session.server = None

    async def drained(self) -> None:
        """Returns when no launch is under way; one that begins meanwhile is waited for too."""
        while under_way := [s.task for s in self.known.values() if s.task and not s.task.done()]:
            await asyncio.wait(under_way)

    async def close(self, reason: str) -> None:
        """Every open session gets a last event with `reason`; returns when their launches are taken down.

        A server whose `ready` is being written at this moment stays.
        """
        self._closing = reason
        for session in self.known.values():
            self.cancel(session, reason, code="shutting-down")
        tasks = [session.task for session in self.known.values() if session.task]
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in self.known.values():
            self._watched(session)
            if session.readers == 0 and not session.delivered:
                self._take_down(session)
        await asyncio.gather(*self._endings, return_exceptions=True)
