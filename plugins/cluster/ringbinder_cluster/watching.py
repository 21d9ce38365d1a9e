"""A cache of pods that one watch keeps fresh, however many look at it.

List, then watch from the version of that list; again when the API server says that it has forgotten that version (410),
and now and then for what a watch may have missed. Source: Kubernetes API concepts, "Efficient detection of changes".
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from attrs import define, field, frozen
from ringbinder.errors import TransientError
from ringbinder.services import Clock, Logger

from .client import ApiError, Cluster, Json, Unreachable

_REMEMBERED: Final = 500
_GONE: Final = 410
_FIRST_LIST: Final = 20.0
"""Seconds that a start waits for the API server."""


@frozen
class WatchTimes:
    """All in seconds."""

    watch: float = 60.0
    """How long one watch request lasts; a connection that has died unseen is found out then."""
    slack: float = 15.0
    """How much longer than that we wait for the end of it."""
    relist: float = 600.0
    """After so long everything is listed anew."""
    unwell: float = 45.0
    """So long without contact, and the cache counts as broken."""


@frozen
class Sight:
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
    observer: Callable[[Json | None, Json | None], None] = lambda before, after: None
    """Called with every pod as it was and as it is now; None: it was not there, or is no more."""
    synced: asyncio.Event = field(factory=asyncio.Event, init=False)
    """Set once there has been a first list."""
    trouble: str = field(default="", init=False)
    """What the last contact failed of; empty while all is well."""
    _contact: float = field(init=False)
    _connected: bool = field(default=False, init=False)
    _gone: OrderedDict[str, Json] = field(factory=OrderedDict, init=False)
    """The last sight of pods that are no more, by uid: late events do not bring them back."""
    _listeners: dict[str | None, set[asyncio.Event]] = field(factory=dict, init=False)

    @_contact.default
    def _default_contact(self) -> float:
        return self.clock.monotonic()

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
        failures = 0
        while True:
            try:
                version = await self._list()
                failures, self.trouble = 0, ""
                await self._watch_from(version)
            except (ApiError, Unreachable, TransientError) as error:
                self._connected = False
                expired = isinstance(error, ApiError) and error.status == _GONE
                if not expired:
                    if self.trouble != str(error):
                        self.log.warning("the watch of pods is interrupted", reason=str(error))
                    self.trouble = str(error)
                await self.clock.sleep(self.cluster.patience.delay(failures) * random.uniform(0.5, 1.0))  # noqa: S311
                failures += 1

    def look(self, name: str, uid: str) -> Sight | None:
        """The pod of that name and uid, or its last sight; None if it was never seen."""
        pod = self.pods.get(name)
        if pod is not None and uid_of(pod) == uid:
            return Sight(pod, gone=False)
        last = self._gone.get(uid)
        return None if last is None else Sight(last, gone=True)

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

    def note(self, pod: Json) -> None:
        """Takes a pod that somebody has just got from the API server, so that the cache is not behind it."""
        self._see(pod)

    async def _list(self) -> str:
        times = self.cluster.patience.request
        async with self.cluster.open(
            "GET", self.path, {"labelSelector": self.selector}, seconds=times
        ) as response:
            try:
                answer = await response.json(content_type=None)
                version = str(answer["metadata"]["resourceVersion"])
                listed = {str(pod["metadata"]["name"]): self.keep(pod) for pod in answer["items"] or ()}
            except (ValueError, LookupError, TypeError):
                raise Unreachable("the list of pods is no such thing") from None
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
            self._see(pod)

    async def _watch_from(self, version: str) -> None:
        """Watches, one request after another, until it is time for a new list."""
        until = self.clock.monotonic() + self.times.relist
        while (left := until - self.clock.monotonic()) > 0:
            seconds = max(1, round(min(self.times.watch, left) * random.uniform(0.8, 1.0)))  # noqa: S311
            began = self.clock.monotonic()
            version = await self._watch(version, seconds)
            if self.clock.monotonic() - began < self.cluster.patience.retry:
                await self.clock.sleep(self.cluster.patience.retry)

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
            self._connected, self.trouble = True, ""
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
            event = json.loads(line)
            kind, thing = event["type"], event["object"]
        except (ValueError, LookupError, TypeError):
            raise Unreachable("the watch broke off in the midst of an event") from None
        if kind == "ERROR":
            told = str(thing.get("message") or thing.get("reason") or "")
            raise ApiError(int(thing.get("code") or 500), str(thing.get("reason") or ""), told)
        if kind == "DELETED":
            self._lose(self.keep(thing))
        elif kind != "BOOKMARK":
            self._see(self.keep(thing))
        return str(thing["metadata"].get("resourceVersion") or "")

    def _see(self, pod: Json) -> None:
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
