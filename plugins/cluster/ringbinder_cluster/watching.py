"""A cache of pods that one watch keeps fresh, however many look at it.

List, then watch from the version of that list; again when the API server says that it has forgotten that version (410),
and now and then for what a watch may have missed. Source: Kubernetes API concepts, "Efficient detection of changes".
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from attrs import Factory, define, field, frozen
from ringbinder import Clock, Logger, RingbinderError
from ringbinder.concurrency import Loop
from ringbinder.untrusted import MalformedError, check_shape, parse_json

from .client import ApiError, Cluster, Json, Unreachable, shaped_json

_REMEMBERED: Final = 500
_GONE: Final = 410
_FIRST_LIST: Final = 20.0
"""Seconds that a start waits for the API server."""
_WHY: Final = {"reason?": str, "message?": str}
POD: Final[Json] = {
    "metadata": {
        "name": str, "uid?": str, "resourceVersion?": str, "labels?": {str: str}, "annotations?": {str: str},
        "deletionTimestamp?": str, "deletionGracePeriodSeconds?": int, "creationTimestamp?": str,
    },
    "spec?": {
        "nodeName?": str,
        "activeDeadlineSeconds?": int,
        "containers?": [{"name": str, "image?": str, "resources?": {"limits?": {}}}],
    },
    "status?": {
        "phase?": str, **_WHY, "conditions?": [{"type": str, "status?": str, **_WHY}],
        "containerStatuses?": [{
            "name": str,
            "state?": {
                "waiting?": _WHY, "running?": {},
                "terminated?": {"exitCode?": int, "finishedAt?": str, **_WHY},
            },
        }],
    },
}  # fmt: skip
"""What is read of pods, as a shape of `check_shape`."""
_LIST: Final[Json] = {"metadata": {"resourceVersion": str}, "items?": [POD]}
_EVENT: Final[Json] = {"type": str, "object": {"metadata?": {"resourceVersion?": str}}}
_ERROR: Final[Json] = {"code?": int, **_WHY}


@frozen
class WatchTimes:
    """All in seconds."""

    watch: float = 60.0
    """How long one watch request lasts; a connection that has died unseen is found out then."""
    slack: float = 15.0
    """How much longer than that we wait for the end of it."""
    relist: float = 600.0
    """After so long everything is listed again."""
    unwell: float = 45.0
    """So long without contact, and the cache counts as broken."""


@frozen
class PodSnapshot:
    """A pod as it was seen last; `gone`: it is no more."""

    pod: Json
    gone: bool


@define(eq=False)
class PodWatch:
    """The pods of `namespace` that `selector` matches; fresh while `run` runs."""

    cluster: Cluster
    namespace: str
    selector: str
    clock: Clock
    log: Logger
    times: WatchTimes = field(factory=WatchTimes)
    keep: Callable[[Json], Json] = lambda pod: pod
    """Makes of a pod what of it is kept: at least its name, uid and resourceVersion."""
    pods: dict[str, Json] = field(factory=dict, init=False)
    """By name; finished ones too, until they are deleted."""
    _loop: Loop = field(init=False, default=Factory(lambda self: self._make_loop(), takes_self=True))
    observer: Callable[[Json | None, Json | None], None] = lambda before, after: None
    """Called with every pod as it was and as of now; None: it was not there, or is no more."""
    synced: asyncio.Event = field(factory=asyncio.Event, init=False)
    """Set once there has been a first list."""
    _contact: float = field(init=False, default=Factory(lambda self: self.clock.monotonic(), takes_self=True))
    _connected: bool = field(default=False, init=False)
    _gone: OrderedDict[str, Json] = field(factory=OrderedDict, init=False)
    """The last sight of pods that are no more, by uid: late events do not bring them back."""
    _listeners: dict[str | None, set[asyncio.Event]] = field(factory=dict, init=False)

    def _make_loop(self) -> Loop:
        return Loop(
            f"the watch of pods in namespace {self.namespace}", "what happens to them is not noticed",
            self.log, self.clock, self.cluster.patience,
            (RingbinderError, OSError, ApiError, Unreachable),
        )  # fmt: skip

    @property
    def trouble(self) -> str:
        """What the last contact failed of; empty while all is well."""
        return "" if self._connected else self._loop.trouble

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def silence(self) -> float:
        """Seconds for which there has been no contact; 0 while a watch is open."""
        return 0.0 if self._connected else self.clock.monotonic() - self._contact

    @property
    def healthy(self) -> bool:
        return self.synced.is_set() and self.silence <= self.times.unwell

    async def first_list(self) -> None:
        """Returns once there has been one, or when the API server has not answered for a while, which is logged."""
        try:
            async with asyncio.timeout(_FIRST_LIST):
                await self.synced.wait()
        except TimeoutError:
            self.log.warning("the Kubernetes API server has not answered yet", reason=self.trouble)

    async def run(self) -> None:
        """Keeps the cache fresh until it is cancelled."""
        await self._loop.run(self._list_and_watch)

    async def _list_and_watch(self) -> None:
        try:
            await self._watch_from(await self._list())
        except ApiError as error:
            if error.status != _GONE:
                raise
            await self.clock.sleep(self.cluster.patience.first)

    def look(self, name: str, uid: str) -> PodSnapshot | None:
        """The pod of that name and uid, or its last sight; None if it was never seen."""
        pod = self.pods.get(name)
        if pod is not None and uid_of(pod) == uid:
            return PodSnapshot(pod, gone=False)
        last = self._gone.get(uid)
        return None if last is None else PodSnapshot(last, gone=True)

    @contextmanager
    def listening(self, name: str | None = None) -> Iterator[asyncio.Event]:
        """An event that is set whenever something about pod `name`, or about any pod, has changed."""
        news = asyncio.Event()
        self._listeners.setdefault(name, set()).add(news)
        try:
            yield news
        finally:
            self._listeners[name].discard(news)
            if not self._listeners[name]:
                del self._listeners[name]

    async def _list(self) -> str:
        times = self.cluster.patience.request
        async with self.cluster.open("GET", self.path, {"labelSelector": self.selector}, seconds=times) as response:
            answer = await shaped_json(response, _LIST)
        version = str(answer["metadata"]["resourceVersion"])
        listed = {pod["metadata"]["name"]: self.keep(pod) for pod in answer.get("items") or ()}
        self._replace(listed, version)
        self._contact = self.clock.monotonic()
        self.synced.set()
        self._wake()
        return version

    def _replace(self, listed: Mapping[str, Json], version: str) -> None:
        """Takes a whole list. A pod that was noted since it was made is not missed in it."""
        newest = int(version) if version.isdecimal() else 0
        for name, pod in list(self.pods.items()):
            there = name in listed and uid_of(listed[name]) == uid_of(pod)
            if not there and not 0 < newest < _version(pod):
                self._lose(pod)
        for pod in listed.values():
            self.note(pod)

    async def _watch_from(self, version: str) -> None:
        """Watches, one request after another, until it is time for a new list."""
        until, short = self.clock.monotonic() + self.times.relist, 0
        while (left := until - self.clock.monotonic()) > 0:
            seconds = max(1, round(min(self.times.watch, left) * random.uniform(0.8, 1.0)))  # noqa: S311
            began = self.clock.monotonic()
            version = await self._watch(version, seconds)
            self._loop.well()
            short = short + 1 if self.clock.monotonic() - began < self.cluster.patience.first else 0
            if short:
                await self.clock.sleep(self.cluster.patience.pause(short - 1))

    async def _watch(self, version: str, seconds: int) -> str:
        """One watch request; the version up to which it has brought everything."""
        query: dict[str, str | int] = {
            "labelSelector": self.selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "watch": "true",
            "timeoutSeconds": seconds,
        }
        limit = seconds + self.times.slack
        async with self.cluster.open("GET", self.path, query, seconds=limit) as response:
            self._connected = True
            try:
                while line := await response.content.readline():
                    version = self._take(line) or version
            except ValueError as error:
                raise Unreachable(f"an event of the watch is longer than can be read: {error}") from None
            finally:
                self._connected, self._contact = False, self.clock.monotonic()
        return version

    def _take(self, line: bytes) -> str:
        """Takes one event; returns its version."""
        try:
            event = parse_json(line)
            check_shape(event, _EVENT)
            kind, thing = event["type"], event["object"]
            check_shape(thing, _ERROR if kind == "ERROR" else {} if kind == "BOOKMARK" else POD)
        except MalformedError as error:
            raise Unreachable(f"an event of the watch {error}") from None
        if kind == "ERROR":
            raise ApiError(thing.get("code") or 500, thing.get("reason") or "", str(thing.get("message") or ""))
        self._loop.well()
        if kind == "DELETED":
            self._lose(self.keep(thing))
        elif kind != "BOOKMARK":
            self.note(self.keep(thing))
        return str((thing.get("metadata") or {}).get("resourceVersion") or "")

    def note(self, pod: Json) -> None:
        """Takes a pod as the API server has just given it, so that the cache is not behind it."""
        name, uid = str(pod["metadata"]["name"]), uid_of(pod)
        if uid in self._gone:
            return
        known = self.pods.get(name)
        if known is not None and 0 < _version(pod) <= _version(known):
            if uid_of(known) != uid:  # news of an earlier pod of this name, overtaken by the later one
                self._lose(pod)
            return
        if known is not None and uid_of(known) != uid:
            self._lose(known)
            known = None
        self.pods[name] = pod
        self.observer(known, pod)
        self._tell(name)

    def _lose(self, pod: Json) -> None:
        name, uid = str(pod["metadata"]["name"]), uid_of(pod)
        last = self._gone.get(uid)
        if last is None or _version(last) < _version(pod):
            self._gone[uid] = pod
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)
        known = self.pods.get(name)
        if known is not None and uid_of(known) == uid:
            del self.pods[name]
            self.observer(known, None)
        self._tell(name)

    def _tell(self, name: str) -> None:
        for news in self._listeners.get(name, ()):
            news.set()
        self._wake()

    def _wake(self) -> None:
        """Sets the events of those who listen to any pod."""
        for news in self._listeners.get(None, ()):
            news.set()


def uid_of(thing: Json) -> str:
    return str(thing["metadata"].get("uid") or "")


def labels_of(pod: Json) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def finished(pod: Json) -> bool:
    """Whether all of its containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _version(pod: Json) -> int:
    """The order in which the API server made it. Source: Kubernetes, comparable resource versions."""
    version: Any = pod["metadata"].get("resourceVersion")
    return int(version) if isinstance(version, str) and version.isdecimal() else 0
