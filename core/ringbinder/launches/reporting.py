"""What core itself tells the sinks of a launch, under the schemas of the folder `schemas`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

from attrs import define, field, frozen

from ..errors import Refused, RingbinderError, TransientError, UserError
from ..events.emitter import Events
from ..model import LaunchRequest, ProviderInfo, Repo, Server, Stage
from ..protocol import Event
from .runs import Run

LAUNCH: Final = "binderhub.jupyter.org/launch"

_MOST_SERVERS: Final = 10_000

T = TypeVar("T")


def _remember(what: OrderedDict[str, T], server: str, value: T) -> None:
    what[server] = value
    if len(what) > _MOST_SERVERS:
        what.popitem(last=False)


@frozen
class _Launched:
    provider: str
    repo: Repo
    session: str
    at: float


@define(eq=False)
class StageEvents:
    """Nothing here raises or waits. `info` says what a provider is called."""

    _events: Events
    _info: Callable[[str], ProviderInfo]
    launch_version: int = 6
    _servers: OrderedDict[str, _Launched] = field(factory=OrderedDict, init=False)
    _ends: OrderedDict[str, str] = field(factory=OrderedDict, init=False)

    def requested(self, request: LaunchRequest) -> None:
        self._events.emit(
            "ringbinder/launch-requested",
            {**self._asked(request), "build_only": request.build_only, "origin": request.client.host},
        )

    def resolved(self, request: LaunchRequest, seconds: float, outcome: Repo | BaseException) -> None:
        fields = {"provider": self._name(request.provider), "spec": request.spec, "seconds": seconds}
        if isinstance(outcome, Repo):
            found = {"status": "success", "ref": outcome.ref}
            self._events.emit("ringbinder/resolve", {**fields, **found}, repo=outcome.url)
        else:
            self._events.emit("ringbinder/resolve", {**fields, "status": "failure", "code": code_of(outcome)})

    def build_started(self, run: Run, waited: float) -> None:
        self._of_run("ringbinder/build-started", run, waited=waited)

    def build_ended(self, run: Run, seconds: float) -> None:
        """To be called when the run has its last event."""
        last = run.log.newest
        if run.image is not None:
            self._of_run("ringbinder/build-finished", run, seconds=seconds)
        else:
            self._of_run("ringbinder/build-failed", run, seconds=seconds, **_failure(last, run.cancel_event))

    def pushed(self, run: Run, registry: str, seconds: float, *, success: bool) -> None:
        status = "success" if success else "failure"
        self._of_run("ringbinder/push", run, registry=registry, seconds=seconds, status=status)

    def launched(self, request: LaunchRequest, repo: Repo) -> None:
        """BinderHub's event, of a launch that succeeded (reference: its event log).

        `origin` is the host that the client addressed, `request_origin` the Origin of the request, else its
        Sec-Fetch-Site, else empty.
        """
        fields = {
            "provider": self._name(request.provider),
            "spec": request.spec,
            "ref": repo.ref,
            "status": "success",
            "build_token": request.build_token,
            "origin": request.client.host,
            "request_origin": request.client.origin,
        }
        schema = self._events.catalogue.get(LAUNCH, self.launch_version)
        known = schema.fields if schema else fields
        fields = {name: value for name, value in fields.items() if name in known}
        self._events.emit(LAUNCH, fields, version=self.launch_version, repo=repo.url)

    def launch_failed(
        self, request: LaunchRequest, stage: Stage, repo: Repo | None, seconds: float, last: Event | None,
        *, cancelled: bool,
    ) -> None:  # fmt: skip
        fields = {**self._asked(request), "stage": stage, "seconds": seconds, **_failure(last, cancelled)}
        if repo is not None:
            fields |= {"repo": repo.url, "ref": repo.ref}
        self._events.emit("ringbinder/launch-failed", fields, repo=repo.url if repo else "")

    def refused(self, request: LaunchRequest, stage: Stage, error: Refused, repo: Repo | None) -> None:
        shown = {"stage": stage, "policy": error.policy, "status": error.status, "reason": error.reason}
        fields = {**self._asked(request), **shown}
        if repo is not None:
            fields["repo"] = repo.url
        self._events.emit("ringbinder/refusal", fields, repo=repo.url if repo else "")

    def server_started(self, server: Server, request: LaunchRequest, repo: Repo) -> None:
        """Remembers whose server it is, for its end."""
        known = _Launched(self._name(request.provider), repo, request.session, time.monotonic())
        _remember(self._servers, server.id, known)

    def why_stopped(self, server: str) -> str:
        """What its launcher said of the end of a server that was launched here; empty if nothing."""
        return self._ends.get(server, "")

    def server_stopped(self, server: str, reason: str, seconds: float | None = None, why: str = "") -> None:
        """A server has ended; why once. Without `seconds`, only of one that was launched here."""
        known = self._servers.pop(server, None)
        if known is not None and why:
            _remember(self._ends, server, why)
        if known is None and seconds is None:
            return
        fields: dict[str, Any] = {"reason": reason}
        if known is not None:
            seconds = time.monotonic() - known.at if seconds is None else seconds
            fields |= {"provider": known.provider, "repo": known.repo.url, "ref": known.repo.ref}
            fields |= {"session": known.session} if known.session else {}
        if seconds is not None:
            fields["seconds"] = seconds
        self._events.emit("ringbinder/server-stopped", fields, repo=known.repo.url if known else "")

    def _of_run(self, schema: str, run: Run, **fields: Any) -> None:
        repo = run.plan.repo
        about = {
            "provider": self._name(repo.provider), "repo": repo.url, "ref": repo.ref, "image": run.plan.image,
            "run": run.name,
        }  # fmt: skip
        self._events.emit(schema, {**about, **fields}, repo=repo.url)

    def _asked(self, request: LaunchRequest) -> dict[str, Any]:
        return {
            "provider": self._name(request.provider), "spec": request.spec, "session": request.session
        }  # fmt: skip

    def _name(self, prefix: str) -> str:
        try:
            info = self._info(prefix)
        except RingbinderError:
            return prefix  # a link with a prefix that no provider has
        return info.event_name or info.display_name


def code_of(error: BaseException) -> str:
    """The word by which the `failed` event of an error is known to programs."""
    match error:
        case UserError():
            return error.code
        case Refused():
            return "refused"
        case TransientError():
            return "try-again"
    return "internal-error"


def _failure(last: Event | None, cancelled: object) -> dict[str, Any]:
    if cancelled or last is None:
        return {"code": "cancelled"}
    return {"code": str(last.data.get("code", "internal-error")), "cause": last.message.strip()}
