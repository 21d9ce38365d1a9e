"""The hooks: the one page that a plugin author reads.

A plugin is a class with some of these methods. All are `async` but `describe` and `recognize` (plain, no I/O) and
`lifespan` (plain, returns an async context manager). A method that has a hook's name *is* that hook; decorate it
with `ringbinder.hookimpl` only to give options (`tryfirst`, `trylast`, `wrapper`). A method may leave out arguments
that it does not need; below a base class (`ringbinder.Plugin`, and those of each kind) type checkers ask for all.

For a stage (`resolve` to `launch`), plugins of the groups ``ringbinder.plugins`` and ``ringbinder.policies`` are asked
first, `None` meaning "go on", then the one chosen plugin of the kind. A wrapper (``@hookimpl(wrapper=True)`` on a plain
generator) goes around all of it: what its `yield` gives is the awaited result. `around_stage` goes around every stage.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast, overload

import pluggy

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
    Stage,
    Target,
    User,
    Work,
)
from ..protocol import Log, SinkEvent

PROJECT = "ringbinder"
hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker(PROJECT)
F = TypeVar("F", bound=Callable[..., Any])


class HookimplMarker(Protocol):
    """The type of `hookimpl`: a wrapper is a generator, and is not compared with the hook that it wraps."""

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(
        self, *, wrapper: Literal[True], specname: str | None = None, tryfirst: bool = False, trylast: bool = False
    ) -> Callable[[Callable[..., Generator[None, Any, Any]]], Any]: ...
    @overload
    def __call__(
        self, *, specname: str | None = None, tryfirst: bool = False, trylast: bool = False, optionalhook: bool = False
    ) -> Callable[[F], F]: ...


hookimpl: HookimplMarker = cast("HookimplMarker", pluggy.HookimplMarker(PROJECT))
"""Gives a hook implementation its options; a method without options needs no decorator."""


class Ticket(Protocol):
    """What `admit` judges: a request on its way into `stage`. `repo` and `plan` are there once they are known."""

    stage: Stage
    """``resolve``, ``build`` or ``launch``."""
    request: LaunchRequest
    """Of the client who asks."""
    repo: Repo | None
    """None before the link is resolved."""
    plan: Plan | None
    """None before the image has a name."""

    def notify(self, message: str, **data: Any) -> None:
        """Tells the waiting client something, as an event of phase ``waiting``."""


class Hooks:
    """Specifications of all hooks. Never instantiated."""

    # -- link ----------------------------------------------------------------------------------------------

    @hookspec(firstresult=True)
    def describe(self) -> ProviderInfo:  # type: ignore[empty-body]
        """Providers: what the form shows."""

    @hookspec(firstresult=True)
    def recognize(self, link: str) -> Link | None:
        """Providers: how a pasted address becomes provider, spec and path to open; None if it is not theirs.

        A provider puts its own name (`self.context.name`) into the `Link`.
        """

    # -- stages --------------------------------------------------------------------------------------------

    @hookspec(firstresult=True)
    async def resolve(self, request: LaunchRequest) -> Repo | None:
        """The provider named in the link: fixes what the link means now.

        Raises `UserError` (``spec-invalid``, ``ref-not-found``, ``repo-not-found``); `TransientError` if the host does
        not answer.
        """

    @hookspec(firstresult=True)
    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        """That provider: puts the content into the existing empty folder `into`; True when done.

        For builders that cannot fetch it themselves. Raises `UserError` or `TransientError`.
        """

    @hookspec(firstresult=True)
    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        """The registry: the whole image if it is there. `fresh`: look again, trust no cache.

        An outage is a `TransientError`, never None.
        """

    @hookspec(firstresult=True)
    async def target(self, plan: Plan) -> Target | None:
        """The registry: where the builder writes and with what right."""

    @hookspec(firstresult=True)
    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined | None:
        """The builder, once per image. Success only if the image is whole. Raises `BuildError`, `UserError`.

        `Declined`, with nothing left in `target`: it does not build this repository, and the next builder of
        `Ringbinder.builder` is asked. Cancelled, it ends what it has started before it returns.
        """

    @hookspec(firstresult=True)
    async def push(self, image: Image, target: Target, log: Log) -> Image | None:
        """The registry, once per image: publishes atomically. Skipped if `image.pushed`."""

    @hookspec(firstresult=True)
    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server | None:
        """The launcher, once per client, never shared: a server that answers with its token.

        `plan` is what `image` was made for: its `repo` says what the server shows. Cancelled or failed, it leaves
        nothing running. Raises `UserError`, `TransientError`.
        """

    # -- blobs and manifests -------------------------------------------------------------------------------

    # For builders that assemble images themselves (`Context.registry`), of registries that are `BlobRegistry`. A
    # `repository` is the name of an image without its tag; a `reference` is a tag or a digest in it. All raise
    # `TransientError` if the registry does not answer, `ConfigError` if it refuses us.

    @hookspec(firstresult=True)
    async def find_blob(self, repository: str, digest: str) -> Descriptor | None:
        """The registry: the blob, if the repository has it."""

    @hookspec(firstresult=True)
    async def put_blob(
        self, repository: str, blob: Descriptor, content: Content, mount_from: str
    ) -> BlobOutcome | None:
        """The registry: sees to it that the repository has the blob.

        `content` is opened only where neither the repository has the blob nor can it be mounted from the repository
        `mount_from` (empty: from none), and again, at a later offset, where an upload is resumed; what it raises is
        raised. Memory does not grow with the blob. Raises `DigestMismatch` if the content is not `blob`.
        """

    @hookspec(firstresult=True)
    async def read_blob(self, repository: str, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None] | None:
        """The registry: the bytes of a blob from `offset` on, at most `blob.size` in all.

        The iterator goes on where a connection breaks. It raises `MissingBlob` if the blob is not there, and
        `DigestMismatch` at its end if all of it was read and it is not `blob`.
        """

    @hookspec(firstresult=True)
    async def read_manifest(self, repository: str, reference: str) -> Manifest | None:
        """The registry: a manifest of at most 4 MiB; None if it is not there. Its digest is verified."""

    @hookspec(firstresult=True)
    async def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> Descriptor | None:
        """The registry: stores a manifest, atomically under a tag or under its own digest.

        Raises `MissingBlob` if the registry does not have what it names.
        """

    @hookspec(firstresult=True)
    async def list_tags(self, repository: str) -> Sequence[str] | None:
        """The registry: all tags, in no order; none if there is no such repository."""

    @hookspec(firstresult=True)
    async def delete_manifest(self, repository: str, reference: str) -> bool | None:
        """The registry: removes a tag and no other tag, or a manifest by its digest with all of its tags.

        True if it was there; None if this registry does not delete.
        """

    @hookspec(firstresult=True)
    async def delete_blob(self, repository: str, digest: str) -> bool | None:
        """The registry: removes a blob from a repository, which nothing there uses any more; as `delete_manifest`."""

    @hookspec(firstresult=True)
    async def delete_repository(self, repository: str) -> bool | None:
        """The registry: removes a repository that has no tag left; True if it did, None if it cannot."""

    @hookspec
    def around_stage(  # type: ignore[empty-body]
        self, stage: Stage, request: LaunchRequest | None, plan: Plan | None, image: Image | None
    ) -> Generator[None, Any, Any]:  # pyright: ignore[reportReturnType] - only declared
        """Everybody: a wrapper of all stages in one method, outside of the wrappers of single hooks.

        A plain generator, as every wrapper, that needs no decorator. `request`, `plan` and `image` are those of the
        stage, None where its hook has none. What `yield` gives is the stage's answer, and what is returned becomes it.
        """

    # -- policy --------------------------------------------------------------------------------------------

    @hookspec
    async def admit(self, ticket: Ticket) -> AbstractAsyncContextManager[None] | None:
        """Everybody, before resolve, before build and before launch.

        A plugin with this hook or `authenticate` works, or no one is let in: its group is `ringbinder.policies`.
        May raise `Refused`, may wait and say its position; leaving the context manager frees the slot.
        Take the slot when the context manager is entered, not before: another plugin may refuse in between.
        What waits does so there too. A launch is admitted before its image is built or said to be there, so
        that no one builds what cannot be launched: its slot is held during the build as well.
        """

    @hookspec(firstresult=True)
    async def allowance(self, request: LaunchRequest) -> Allowance | None:
        """Everybody, first answer wins: how many builds who asks may still start; None if that is not counted."""

    @hookspec(firstresult=True)
    async def authenticate(self, headers: Mapping[str, str], target: str) -> User | Redirect | None:
        """Everybody, first answer wins: who sends these headers (names in lower case).

        Asked with `BinderHub.auth_enabled`, for every request that is not open to all; None if no one is known by
        them. `target` is where a browser wants to go, a path with its query: a `Redirect` sends it to a login, and
        `log_in` from there to `target`. Empty: a program asks, which can be sent nowhere. Raises `Refused` if who asks
        is known and may not, `TransientError` if that cannot be found out now.
        """

    @hookspec(firstresult=True)
    async def log_in(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Redirect | None:
        """Who has sent a browser to a login: it is back, at `oauth_callback` with this `query`.

        Sends it on to its target, with the cookies by which `authenticate` knows it. The `url` is a path of this
        server; to any other address no one is sent. Raises `Refused` if the login is not good, `TransientError`.
        """

    @hookspec(firstresult=True)
    async def log_out(self, headers: Mapping[str, str]) -> Redirect | None:
        """Who has logged a browser in: it sends these headers, and its user wants to log out.

        Takes away the cookies by which `authenticate` knows it. The `url` is where its login elsewhere ends, such as
        an identity provider's; empty if there is none. None if it was somebody else's login. Raises `TransientError`.
        """

    # -- tell ----------------------------------------------------------------------------------------------

    @hookspec(firstresult=True)
    async def emit(self, events: Sequence[SinkEvent]) -> int | None:
        """Sinks: deliver `events`, in order. Core's worker owns queue and limits; raise to report that it failed.

        A sink that has taken only the first of them answers how many, one at least, and is given the others again; None
        is all.
        """

    @hookspec(firstresult=True)
    async def diagnose(self, failure: Failure) -> Diagnosis | None:
        """Everybody, first answer wins: why it failed, in words, with the line that matters."""

    # -- run -----------------------------------------------------------------------------------------------

    @hookspec(firstresult=True)
    async def stop(self, server: Server) -> bool | None:
        """The launcher: ends a server; True if it knew it. Ending an ended one is no error."""

    @hookspec
    async def servers(self) -> Sequence[Server]:  # type: ignore[empty-body]
        """The launcher: the servers that run now."""

    @hookspec
    async def work(self) -> Sequence[Work]:  # type: ignore[empty-body]
        """The launcher: its sessions that run, and those that left changed files on this machine."""

    @hookspec(firstresult=True)
    async def keep_work(self, session: str) -> bool | None:
        """The launcher: the running session counts as active now; True if it knew it."""

    @hookspec(firstresult=True)
    async def export_work(self, session: str, into: Path) -> bool | None:
        """The launcher: writes the session's changed files into a new file; True if it knew the session.

        The name of `into` says what is written: ``.patch``, ``.zip`` or ``.tar.gz``. Raises `UserError`.
        """

    @hookspec(firstresult=True)
    async def discard_work(self, session: str) -> bool | None:
        """The launcher: removes an ended session's files; True if it knew it. Raises `UserError` while it runs."""

    @hookspec
    async def images(self) -> Sequence[Image]:  # type: ignore[empty-body]
        """The registry, and a builder that keeps images of its own: the images that are there."""

    @hookspec(firstresult=True)
    async def delete(self, image: Image) -> bool | None:
        """The registry or builder that keeps it: removes an image; True if it was there.

        Raises `UserError` (``image-in-use``) if something runs on it.
        """

    @hookspec(firstresult=True)
    async def prune_images(self, dry_run: bool) -> PruneResult | None:
        """The builder: where it keeps images of its own, removes by its own limits those that nothing uses.

        None if it keeps none. `dry_run`: only says what it would remove.
        """

    @hookspec(firstresult=True)
    async def rebase(self, image: Image) -> Image | Declined | None:
        """The builder: publishes the image again, the same but for its base, which is the one that it takes now.

        None if it has not made `image`, which is returned as is if it is on that base. `Declined` if it does not fit
        there; the advice is what to do. Raises `UserError` (``image-unknown``) if it is not there.
        """

    @hookspec
    async def health(self) -> Health | None:
        """Everybody: one line of `/health`."""

    @hookspec
    async def doctor(self) -> Sequence[Finding]:  # type: ignore[empty-body]
        """Everybody: what is wrong with the set-up and how to fix it."""

    # -- life ----------------------------------------------------------------------------------------------

    @hookspec
    def lifespan(self) -> AbstractAsyncContextManager[None] | AsyncIterator[None]:  # type: ignore[empty-body]
        """Everybody: an async context manager, entered at start and left in reverse order, each with a time limit."""


AROUND_STAGE = "around_stage"

PLAIN: frozenset[str] = frozenset({"describe", "recognize", "lifespan", AROUND_STAGE})
"""The hooks that are not `async`."""

GUARDS: frozenset[str] = frozenset({"admit", "authenticate"})
"""The hooks that keep people out: a plugin with one of them works, or the server does not start (see `Row.guards`)."""

NEEDED: frozenset[str] = frozenset({"resolve", "target", "build", "push", "launch", "emit"})
"""The hooks whose answer no wrapper may take away: a stage cannot go on without it, and events would be lost."""
