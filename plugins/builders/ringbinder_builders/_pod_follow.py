"""A build pod on its way to its end: what it waits for, its log, the limits of time, and how it ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from attrs import define, field
from ringbinder import BuildError, Log, Phase, RingbinderError, UserError
from ringbinder.concurrency import Silence
from ringbinder_cluster.client import SILENT, ApiError, Json
from ringbinder_cluster.logs import PodLog
from ringbinder_cluster.watching import finished, uid_of

from . import _pod_state as state
from ._build_cluster import BuildCluster
from .repo2docker import LogReader

_FIRST_EVENTS: Final = 3.0
_LAST_LINES: Final = 1.0
"""Seconds in which the last lines of a deleted pod come, over the stream that is open and no other way."""
_EVENTS: Final = {
    "items?": [
        {
            **dict.fromkeys(("type?", "reason?", "message?"), str),
            **dict.fromkeys(("lastTimestamp?", "eventTime?", "firstTimestamp?"), str),
        }
    ]
}


@define(eq=False)
class Following:
    """Follows one pod. However many clients watch the build, it is followed once."""

    cluster: BuildCluster
    pod: Json
    log: Log
    _reader: LogReader = field(init=False)
    _reading: asyncio.Task[None] | None = field(default=None, init=False)
    _podlog: PodLog = field(init=False)
    _begun: float = field(init=False)
    _last_output: float = field(default=0.0, init=False)
    """When the last line came, or there was no log to be read."""
    _asked: float = field(init=False)
    """When the cluster's events were asked last."""
    _silence: Silence = field(init=False)
    _warning: str = field(default="", init=False)
    """What the cluster's events say why it does not start."""
    _reported: str = field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = LogReader(self.log)
        self._silence = Silence(self._silent, lambda text: self.log.line(text, self._phase))
        self._begun = self.cluster.clock.monotonic()
        # For the first time earlier: within 5 s it is to be said what the pod waits for.
        self._asked = self._begun - max(0.0, self.cluster.times.events_after - _FIRST_EVENTS)
        watch = self.cluster.watch
        self._podlog = PodLog(
            self.cluster.cluster,
            watch.namespace,
            self.name,
            self._is_over,
            self._end,
            self.cluster.log,
            self.cluster.times.log,
        )

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    async def success(self) -> None:
        """Returns when the pod has succeeded, by its status and exit code. Raises the failure otherwise."""
        try:
            with self.cluster.watch.listening(self.name) as news, self._silence:
                while not await self._step():
                    await self.cluster.moment(news)
                    news.clear()
        finally:
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait({self._reading})
        if not state.succeeded(self.pod):
            raise state.failure(self.pod, self._reader.reason)
        self.cluster.used.add(uid_of(self.pod))

    async def _step(self) -> bool:
        """Looks at the pod; True once it has ended and its log is read."""
        gone = self._look()
        if self._reading is None and state.started(self.pod):
            self._last_output = self.cluster.clock.monotonic()
            self._silence.received()
            self._reading = asyncio.create_task(self._read(), name=f"log of {self.name}")
        if finished(self.pod) or gone:
            if self._reading is not None:
                await self._reading
            if not finished(self.pod):
                raise state.vanished(self.pod)
            return True
        if state.overdue(self.pod, self.cluster.clock.time()):
            raise state.vanished(self.pod)
        if self._reading is None:
            await self._check_start()
        else:
            await self._check_output()
        return False

    def _look(self) -> bool:
        """Takes the newest sight of the pod; True if it is gone."""
        sight = self.cluster.watch.look(self.name, uid_of(self.pod))
        if sight is not None:
            self.pod = sight.pod
        return sight is not None and sight.gone

    def _is_over(self) -> bool:
        return self._look() or state.ended(self.pod)

    async def _end(self) -> None:
        with self.cluster.watch.listening(self.name) as news:
            while not self._is_over():
                await news.wait()
                news.clear()
        if state.being_deleted(self.pod):
            await asyncio.sleep(_LAST_LINES)

    async def _read(self) -> None:
        async for line in self._podlog.lines():
            self._last_output = self.cluster.clock.monotonic()
            self._silence.received()
            self._reader.receive(line)
        if not self._podlog.complete:
            self.log.line("The end of this build's log could not be read.\n")

    async def _check_start(self) -> None:
        """Says what a pod waits for that has not started; ends it when it has taken too long."""
        now, times = self.cluster.clock.monotonic(), self.cluster.times
        if now - self._asked >= times.events_after:
            self._asked = now
            self._warning = await self._events()
        why = state.waits_for(self.pod) or self._warning
        if why and why != self._reported:
            self._reported = why
            self._silence.received()
            self.log.line(f"The build has not started yet: {why}\n", "waiting")
        limit = self.cluster.options.pending_timeout
        if state.never_starts(self.pod) or (limit and now - self._begun >= limit and self.cluster.watch.healthy):
            await self.cluster.remove(self.pod)
            long = f" within {state.duration(limit)}" if limit else ""
            message = f"The build could not start{long}: {why or 'its pod is still waiting, and nothing says for what'}"
            raise UserError("build-not-started", f"{message.rstrip('.')}. The operator of this service must fix that.")

    async def _check_output(self) -> None:
        """Ends a build that says nothing for too long."""
        now, limit = self.cluster.clock.monotonic(), self.cluster.options.idle_timeout
        if not self._podlog.following:
            self._last_output = now
        elif limit and now - self._last_output >= limit and not state.ended(self.pod):
            await self.cluster.remove(self.pod)
            message = f"The build has printed nothing for {state.duration(limit)}, and was ended."
            raise BuildError(message, "build-idle")

    @property
    def _phase(self) -> Phase:
        return "waiting" if self._reading is None else "building"

    def _silent(self) -> str:
        """Who has said nothing lately."""
        if self.cluster.watch.silence > 1.0:
            return SILENT
        if self._reading is None:
            node = (self.pod.get("spec") or {}).get("nodeName")
            why = self._reported or (
                f"node {node} gives no reason" if node else "no node has taken it, for no reason given"
            )
            return f"The build has not started ({why})"
        if self._podlog.following:
            return "The build runs, and has printed nothing"
        why = self._podlog.trouble or "its node does not answer"
        return f"The build goes on, but its log cannot be read just now ({why})"

    async def _events(self) -> str:
        """The last warning that the cluster has about the pod, such as FailedMount."""
        path = f"/api/v1/namespaces/{self.cluster.watch.namespace}/events"
        selector = {"fieldSelector": f"involvedObject.uid={uid_of(self.pod)}"}
        with suppress(ApiError, RingbinderError):
            answer = await self.cluster.cluster.ask("GET", path, selector, shape=_EVENTS)
            return state.explained_by(answer.get("items") or ())
        return ""
