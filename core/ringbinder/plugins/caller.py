"""The hooks as core calls them: one method for each, with its types."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

from ..errors import PluginError
from ..model import (
    Allowance,
    BlobOutcome,
    Content,
    Declined,
    Descriptor,
    Diagnosis,
    Failure,
    Finding,
    Health,
    Image,
    LaunchRequest,
    Link,
    Manifest,
    Plan,
    ProviderInfo,
    PruneResult,
    Redirect,
    Repo,
    Server,
    Target,
    User,
    Work,
)
from ..protocol import Log, SinkEvent
from .call_loop import CallLoop
from .hookspecs import Ticket

T = TypeVar("T")
Call = Coroutine[Any, Any, T]
Answers = list[tuple[str, T]]
"""Each with the name of its plugin."""


def required(answer: T | None, chosen: str, hook: str) -> T:
    """`answer`, where no one can go on without one. Raises PluginError, naming the chosen plugin."""
    if answer is None:
        raise no_answer(chosen, hook)
    return answer


def no_answer(chosen: str, hook: str) -> PluginError:
    """The error where neither the chosen plugin nor a general one has answered."""
    return PluginError(chosen, "it gave None, and no other plugin an answer", hook)


class HookCaller(CallLoop):
    """Calls hooks; one per application.

    `hookspecs.Hooks` says what each is for and raises. `chosen` is the plugin that is asked after the general ones; a
    hook without it asks all. A hook whose first answer wins gives None where none answers. Each raises PluginError,
    naming plugin and hook, for an answer that is not of the hook's type, and TransientError where one takes too long.
    """

    def describe(self, chosen: str) -> ProviderInfo:
        info: ProviderInfo = self._plain("describe", chosen)
        return info

    def recognize(self, *, link: str) -> Link | None:
        """A provider that fails is passed over."""
        found: Link | None = self._plain("recognize", on_error=self._passed_over("recognize"), link=link)
        return found

    def resolve(self, chosen: str, *, request: LaunchRequest) -> Call[Repo | None]:
        return self._first("resolve", chosen, request=request)

    def fetch(self, chosen: str, *, repo: Repo, into: Path, log: Log) -> Call[bool | None]:
        return self._first("fetch", chosen, repo=repo, into=into, log=log)

    def check(self, chosen: str, *, plan: Plan, fresh: bool) -> Call[Image | None]:
        return self._first("check", chosen, plan=plan, fresh=fresh)

    def target(self, chosen: str, *, plan: Plan) -> Call[Target | None]:
        return self._first("target", chosen, plan=plan)

    def build(self, chosen: str, *, plan: Plan, target: Target, log: Log) -> Call[Image | Declined | None]:
        return self._first("build", chosen, plan=plan, target=target, log=log)

    def push(self, chosen: str, *, image: Image, target: Target, log: Log) -> Call[Image | None]:
        return self._first("push", chosen, image=image, target=target, log=log)

    def launch(self, chosen: str, *, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Call[Server | None]:
        return self._first("launch", chosen, image=image, request=request, plan=plan, log=log)

    def find_blob(self, chosen: str, *, repository: str, digest: str) -> Call[Descriptor | None]:
        return self._first("find_blob", chosen, repository=repository, digest=digest)

    def put_blob(
        self, chosen: str, *, repository: str, blob: Descriptor, content: Content, mount_from: str
    ) -> Call[BlobOutcome | None]:
        return self._first("put_blob", chosen, repository=repository, blob=blob, content=content, mount_from=mount_from)

    def read_blob(
        self, chosen: str, *, repository: str, blob: Descriptor, offset: int
    ) -> Call[AsyncGenerator[bytes, None] | None]:
        return self._first("read_blob", chosen, repository=repository, blob=blob, offset=offset)

    def read_manifest(self, chosen: str, *, repository: str, reference: str) -> Call[Manifest | None]:
        return self._first("read_manifest", chosen, repository=repository, reference=reference)

    def put_manifest(
        self, chosen: str, *, repository: str, reference: str, manifest: Manifest
    ) -> Call[Descriptor | None]:
        return self._first("put_manifest", chosen, repository=repository, reference=reference, manifest=manifest)

    def list_tags(self, chosen: str, *, repository: str) -> Call[Sequence[str] | None]:
        return self._first("list_tags", chosen, repository=repository)

    def delete_manifest(self, chosen: str, *, repository: str, reference: str) -> Call[bool | None]:
        return self._first("delete_manifest", chosen, repository=repository, reference=reference)

    def delete_blob(self, chosen: str, *, repository: str, digest: str) -> Call[bool | None]:
        return self._first("delete_blob", chosen, repository=repository, digest=digest)

    def delete_repository(self, chosen: str, *, repository: str) -> Call[bool | None]:
        return self._first("delete_repository", chosen, repository=repository)

    def admit(self, *, ticket: Ticket) -> Call[Answers[AbstractAsyncContextManager[None]]]:
        return self._every("admit", ticket=ticket)

    def allowance(self, *, request: LaunchRequest) -> Call[Allowance | None]:
        return self._first("allowance", request=request)

    def authenticate(self, *, headers: Mapping[str, str], target: str) -> Call[User | Redirect | None]:
        return self._first("authenticate", headers=headers, target=target)

    def log_in(self, *, headers: Mapping[str, str], query: Mapping[str, str]) -> Call[Redirect | None]:
        return self._first("log_in", headers=headers, query=query)

    def log_out(self, *, headers: Mapping[str, str]) -> Call[Redirect | None]:
        return self._first("log_out", headers=headers)

    def emit(self, chosen: str, *, events: Sequence[SinkEvent]) -> Call[int | None]:
        return self._first("emit", chosen, events=events)

    def diagnose(self, *, failure: Failure) -> Call[Diagnosis | None]:
        """A plugin that fails is passed over."""
        return self._first("diagnose", on_error=self._passed_over("diagnose"), failure=failure)

    def stop(self, chosen: str, *, server: Server) -> Call[bool | None]:
        return self._first("stop", chosen, server=server)

    def servers(self, chosen: str) -> Call[Answers[Sequence[Server]]]:
        return self._every("servers", chosen)

    def work(self, chosen: str) -> Call[Answers[Sequence[Work]]]:
        return self._every("work", chosen)

    def keep_work(self, chosen: str, *, session: str) -> Call[bool | None]:
        return self._first("keep_work", chosen, session=session)

    def export_work(self, chosen: str, *, session: str, into: Path) -> Call[bool | None]:
        return self._first("export_work", chosen, session=session, into=into)

    def discard_work(self, chosen: str, *, session: str) -> Call[bool | None]:
        return self._first("discard_work", chosen, session=session)

    def images(self, chosen: str) -> Call[Answers[Sequence[Image]]]:
        return self._every("images", chosen)

    def delete(self, chosen: str, *, image: Image) -> Call[bool | None]:
        return self._first("delete", chosen, image=image)

    def prune_images(self, chosen: str, *, dry_run: bool) -> Call[PruneResult | None]:
        return self._first("prune_images", chosen, dry_run=dry_run)

    def rebase(self, chosen: str, *, image: Image) -> Call[Image | Declined | None]:
        return self._first("rebase", chosen, image=image)

    def health(self, on_error: Callable[[str, Exception], Health]) -> Call[Answers[Health]]:
        """The line of a plugin that fails is what `on_error` makes of its name and exception."""
        return self._every("health", on_error=on_error)

    def doctor(self, on_error: Callable[[str, Exception], Sequence[Finding]]) -> Call[Answers[Sequence[Finding]]]:
        """The findings of a plugin that fails are what `on_error` makes of its name and exception."""
        return self._every("doctor", on_error=on_error)

    def _passed_over(self, hook: str) -> Callable[[str, Exception], None]:
        def log(plugin: str, error: Exception) -> None:
            self._log.error("a plugin failed, and was passed over", plugin=plugin, hook=hook, exc_info=error)

        return log
