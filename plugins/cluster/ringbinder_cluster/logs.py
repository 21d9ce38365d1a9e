"""The log of a container, whole: from its first line, without a gap and without a line twice, however often the
connection breaks."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import define, field, frozen
from ringbinder import Logger, TransientError

from .client import ApiError, Cluster, Unreachable

_OVERLAP: Final = timedelta(seconds=2)
"""Lines that are asked for again after a break. The time stamps of two streams of one container are not quite in order,
and the API server takes whole seconds."""

_LINE_BYTES: Final = 65536
"""What a line has beyond this is dropped: a container may print one that never ends."""


@frozen
class LogTimes:
    """All in seconds."""

    silence: float = 300.0
    """A stream that says nothing for so long is opened again: its connection may have died unseen."""
    last_words: float = 30.0
    """How long we try to get the end of a log after its container has ended."""


@define
class _Received:
    """The lines recently, to tell from a repetition what is new."""

    latest: datetime | None = None
    _recent: deque[tuple[datetime, str]] = field(factory=deque)
    _repeated: Counter[tuple[datetime, str]] = field(factory=Counter)

    def since(self) -> str:
        """From when on the log is asked for again; empty: from its beginning."""
        if self.latest is None:
            return ""
        return (self.latest - _OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")

    def expect_repetition(self) -> None:
        """The lines recently come once more, from `since` on."""
        self._repeated = Counter(self._recent)

    def is_new(self, at: datetime, line: str) -> bool:
        key = (at, line)
        if self._repeated[key] > 0:
            self._repeated[key] -= 1
            return False
        if self.latest is None or at > self.latest:
            self.latest = at
        self._recent.append(key)
        horizon = self.latest - _OVERLAP - timedelta(seconds=1)
        while self._recent and self._recent[0][0] < horizon:
            self._recent.popleft()
        return True


@define
class PodLog:
    """The log of pod `name`, whose container has started.

    `ended()` says that it has ended, or that the pod is gone; `end()` returns then.
    """

    cluster: Cluster
    namespace: str
    name: str
    ended: Callable[[], bool]
    end: Callable[[], Awaitable[object]]
    log: Logger
    times: LogTimes = field(factory=LogTimes)
    trouble: str = field(default="", init=False)
    """Why it cannot be read just now; empty while it can."""
    complete: bool = field(default=False, init=False)
    """The end has been read."""
    following: bool = field(default=False, init=False)
    """A stream is open."""
    _received: _Received = field(factory=_Received, init=False)

    async def lines(self) -> AsyncIterator[str]:
        """Every line, with its newline if it has one. Ends after the last one, or when it cannot be got."""
        clock = asyncio.get_running_loop().time
        give_up, failures = 0.0, 0
        while True:
            final = self.ended()
            give_up = give_up or (clock() + self.times.last_words if final else 0.0)
            try:
                async for line in self._stream(follow=not final):
                    failures, self.trouble = 0, ""
                    yield line
                if final:
                    self.complete = True
                    return
            except ApiError as error:
                if error.status == 404:
                    return
                self.trouble = error.message
            except (Unreachable, TransientError) as error:
                self.trouble = str(error)
            if final and clock() >= give_up:
                self.log.warning("the end of a pod's log cannot be read", pod=self.name, reason=self.trouble)
                return
            delay = self.cluster.patience.pause(failures)
            failures += 1
            if final:
                await asyncio.sleep(delay)
                continue
            # Its stream has ended, usually since its container has: the last look need not wait any longer than that.
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self.end()

    async def _stream(self, *, follow: bool) -> AsyncIterator[str]:
        """What is new of one answer. Its last line, if it has no newline, counts only when nothing can follow."""
        query = {"timestamps": "true"} | ({"follow": "true"} if follow else {})
        if since := self._received.since():
            query["sinceTime"] = since
        self._received.expect_repetition()
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}/log"
        silence = self.times.silence if follow else self.cluster.patience.request
        end: asyncio.Future[object] | None = None
        try:
            async with self.cluster.open("GET", path, query, silence=silence) as response:
                self.following = True
                if follow:
                    # A kubelet ends a stream up to a second later than its container; the last look has the rest.
                    end = asyncio.ensure_future(self.end())
                    end.add_done_callback(lambda _: response.close())
                rest = b""
                async for piece in response.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    rest = rest[:_LINE_BYTES]
                    for raw in whole:
                        if (line := self._new(raw)) is not None:
                            yield line + "\n"
                if rest and not follow and (line := self._new(rest)) is not None:
                    yield line
        finally:
            self.following = False
            if end is not None:
                end.cancel()

    def _new(self, raw: bytes) -> str | None:
        stamp, _, text = raw[:_LINE_BYTES].decode(errors="replace").partition(" ")
        at = _time(stamp)
        if at is None:  # the API server's own words, such as that a log file is gone
            return None
        return text if self._received.is_new(at, text) else None


def _time(stamp: str) -> datetime | None:
    """An RFC 3339 time with up to nine digits of seconds; what is finer than a microsecond is cut off."""
    moment, dot, rest = stamp.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if dot else ""
    try:
        at = datetime.fromisoformat(f"{moment}.{digits[:6].ljust(6, '0')}{zone}" if dot else moment)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else None
