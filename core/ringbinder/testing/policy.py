"""What every policy, a plugin with `admit` or `authenticate`, must do, as tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final

import pytest
import structlog
from attrs import define, field, frozen

from ..errors import PluginError, Refused
from ..model import Allowance, Client, GitSource, LaunchRequest, Plan, Redirect, Repo, Stage, User
from ..plugins.hookspecs import GUARDS
from ..plugins.validation import check, hooks_in
from .context import PATIENCE
from .rules import contract

ADMITTED: Final[tuple[Stage, ...]] = ("resolve", "build", "launch")
"""The stages before which `admit` is asked."""

_URL: Final = "https://example.org/owner/name"
_REF: Final = "0123456789abcdef0123456789abcdef01234567"
REQUEST: Final = LaunchRequest("gh", "owner/name/main", client=Client("203.0.113.7", "curl/8"))
REPO: Final = Repo(_URL, GitSource(_URL, _REF), _REF, f"owner/name/{_REF}", f"{_URL}/tree/{_REF}", "example")


@define
class RecordingTicket:
    """A `Ticket` that remembers what was said on it, as (message, data)."""

    stage: Stage
    """As in `Ticket`, as the next three."""
    request: LaunchRequest
    """See `Ticket`."""
    repo: Repo | None = None
    """See `Ticket`."""
    plan: Plan | None = None
    """See `Ticket`."""
    notices: list[tuple[str, Mapping[str, Any]]] = field(factory=list)
    """(message, data), as they came."""

    def notify(self, message: str, **data: Any) -> None:
        self.notices.append((message, data))


@frozen(kw_only=True)
class PolicyCase:
    """What to test a policy with."""

    policy: Any
    """The plugin, made."""
    allowed: LaunchRequest = REQUEST
    """Of somebody who may, at every stage."""
    repo: Repo = REPO
    """What it means: a build and a launch are asked about with it."""
    often: int = 3
    """So often `allowed` may do it, one after another."""
    refused: LaunchRequest | None = None
    """Of somebody who may not, while `refusing` is entered; None for a policy that refuses no one."""
    refused_at: Stage = "resolve"
    """Before which stage that is said."""
    refusing: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext
    """Brings about that `refused` is refused: a limit is used up, a list forbids it."""
    full: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    """While entered, `allowed` has to wait before ``launch``; None for a policy that lets no one wait."""

    def ticket(self, stage: Stage, request: LaunchRequest | None = None) -> RecordingTicket:
        repo = None if stage == "resolve" else self.repo
        plan = Plan(repo, f"example:{repo.ref}", f"build-example-{repo.ref[:12]}") if repo else None
        return RecordingTicket(stage, request or self.allowed, repo, plan)

    async def admission(self, ticket: RecordingTicket) -> AbstractAsyncContextManager[None]:
        """What `admit` gives, None being the same as a context manager that does nothing."""
        given = await self.policy.admit(ticket=ticket) if hasattr(self.policy, "admit") else None
        if given is None:
            return nullcontext()
        enterable = hasattr(type(given), "__aenter__") and hasattr(type(given), "__aexit__")
        assert enterable, f"Rule: admit gives an async context manager or None, not {given!r}."
        return given  # type: ignore[no-any-return]

    @asynccontextmanager
    async def entered(self, stage: Stage, request: LaunchRequest | None = None) -> AsyncIterator[None]:
        async with await self.admission(self.ticket(stage, request)):
            yield


class _Trouble(Exception):
    """Stands for a build that fails."""

    def happen(self) -> None:
        raise self


@contract("policy")
class PolicyContract:
    """Subclass it as ``Test...`` and give the fixture `case`."""

    @pytest.fixture
    async def case(self) -> Any:
        raise NotImplementedError("give a fixture `case` that returns or yields a PolicyCase")

    async def test_its_hooks_are_called(self, case: PolicyCase) -> None:
        """A hook that is misspelled is never called, and a policy without its hook lets in all."""
        try:
            check(case.policy, "policy:tested", structlog.get_logger())
        except PluginError as error:
            raise AssertionError(
                f"Rule: a hook has its right name, arguments and form; no one passes otherwise: {error}."
            ) from error
        assert GUARDS & set(hooks_in(case.policy)), "Rule: a policy has the hook admit or authenticate."

    @pytest.mark.parametrize("stage", ADMITTED)
    async def test_who_may_is_let_in(self, case: PolicyCase, stage: Stage) -> None:
        """The policy has to be usable: those who may pass, at every stage, again and again."""
        for _ in range(case.often):
            try:
                async with case.entered(stage):
                    pass
            except Refused as error:
                raise AssertionError(f"Rule: who may is let in; they got: {error}.") from error

    async def test_refused_client_gets_the_reason(self, case: PolicyCase) -> None:
        """A refusal is `Refused`, with words for the person, and is not an error of the server."""
        if case.refused is None:
            pytest.skip("the case names no one who is refused")
        async with case.refusing():
            with pytest.raises(Refused) as caught:
                async with case.entered(case.refused_at, case.refused):
                    pass
        error = caught.value
        assert error.reason.strip(), "Rule: a refusal says why."
        assert "\n" not in error.reason, "Rule: a refusal is one line."
        assert 400 <= error.status < 600, f"Rule: the status of a refusal is one of HTTP's, not {error.status}."
        wait = error.retry_after
        assert wait is None or wait >= 0, f"Rule: a wait is not negative, as {wait} is."

    async def test_asking_takes_nothing(self, case: PolicyCase) -> None:
        """A place is taken on entry, since another policy may refuse between `admit` and that."""
        for _ in range(50):
            try:
                await case.admission(case.ticket("build"))
            except Refused as error:
                raise AssertionError(
                    "Rule: a place is taken when the context manager is entered, not when admit is called; "
                    f"after some calls of admit alone, they got: {error}."
                ) from error
        async with case.entered("build"):
            pass

    @pytest.mark.parametrize("stage", ADMITTED)
    async def test_what_fails_inside_goes_through(self, case: PolicyCase, stage: Stage) -> None:
        """The context manager surrounds the stage: it must not swallow the stage's errors."""
        trouble = _Trouble()
        caught: BaseException | None = None
        try:
            async with case.entered(stage):
                trouble.happen()
        except Exception as error:
            caught = error
        assert caught is trouble, f"Rule: an error of the stage passes through unchanged, not {caught!r}."
        async with case.entered(stage):
            pass

    @pytest.mark.parametrize("stage", ADMITTED)
    async def test_being_cancelled_goes_through(self, case: PolicyCase, stage: Stage) -> None:
        """A client that leaves cancels the stage: that must reach it, and the place must become free."""
        inside = asyncio.Event()

        async def work() -> None:
            async with case.entered(stage):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(work())
        waiter = asyncio.ensure_future(inside.wait())
        await asyncio.wait({task, waiter}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert inside.is_set(), f"it was not let in: {task}"
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE)
        assert task.cancelled(), "Rule: cancellation passes through."
        async with case.entered(stage):
            pass

    async def test_waiting_client_is_notified_and_may_leave(self, case: PolicyCase) -> None:
        """Who waits reads why, and loses the place in the queue by leaving."""
        if case.full is None:
            pytest.skip("the case has nothing that could be full")
        ticket = case.ticket("launch")

        async def work() -> None:
            async with await case.admission(ticket):
                pass

        async with case.full():
            task = asyncio.ensure_future(work())
            async with asyncio.timeout(60):
                while not ticket.notices and not task.done():
                    await asyncio.sleep(0.01)
            assert not task.done(), f"the case did not let it wait: {task}"
            assert ticket.notices, "Rule: a client that waits is notified."
            task.cancel()
            await asyncio.wait({task}, timeout=PATIENCE)
            assert task.cancelled(), "Rule: who waits can be cancelled."
        async with case.entered("launch"):
            pass

    async def test_what_is_left_is_an_allowance(self, case: PolicyCase) -> None:
        """What `allowance` gives is shown in the headers of a response."""
        if not hasattr(case.policy, "allowance"):
            pytest.skip("this policy does not count")
        left = await case.policy.allowance(request=case.allowed)
        assert left is None or isinstance(left, Allowance), f"Rule: allowance gives an Allowance or None, not {left!r}."
        if left is not None:
            assert 0 <= left.remaining <= left.limit, f"Rule: what remains lies within the limit: {left}."

    @pytest.mark.parametrize(
        "headers", [{}, {"authorization": "Basic !"}, {"authorization": "Bearer \u00e4"}, {"cookie": ";=;"}], ids=str
    )
    async def test_strange_headers_are_no_error(self, case: PolicyCase, headers: Mapping[str, str]) -> None:
        """Anybody can send any header: `authenticate` knows them, or not, and never fails on them."""
        if not hasattr(case.policy, "authenticate"):
            pytest.skip("this policy does not authenticate")
        try:
            given = {"headers": headers, "target": "/"}
            taken = inspect.signature(case.policy.authenticate).parameters
            found = await case.policy.authenticate(**{name: given[name] for name in taken})
        except Refused:
            return
        assert found is None or isinstance(found, User | Redirect), (
            f"Rule: authenticate gives a User, a Redirect or None, not {found!r}."
        )
