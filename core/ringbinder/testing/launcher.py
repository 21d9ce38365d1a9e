"""What every launcher must do, as tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import pytest
from attrs import evolve, field, frozen

from ..errors import RingbinderError, UserError
from ..model import Image, LaunchRequest, Plan, Server
from ..plugins.caller import HookCaller
from ..protocol import PHASES
from ..secret import Secret, redact
from .context import PATIENCE, RecordingLog, descendants, left_over
from .rules import contract


@frozen(kw_only=True)
class LauncherCase:
    """What to test a launcher with. `folder_plan` makes plans."""

    launcher: Any
    """The plugin, made."""
    plan: Plan
    """What `image` was made for."""
    image: Image
    """Of `plan`; starts."""
    request: LaunchRequest = field(factory=lambda: LaunchRequest("test", "test/HEAD"))
    """`session` is filled in, another one for each launch."""
    answers: Callable[[Server], Awaitable[bool]] | None = None
    """Whether the server answers with its token; None for a launcher whose servers are no more than addresses."""
    broken: Image | None = None
    """Cannot be started."""
    endless: Image | None = None
    """Begins to start, which makes the launcher write a line with `endless_line`, and is never ready."""
    endless_line: str = ""
    """Part of the line that shows `endless` to be under way."""
    left: Callable[[], Awaitable[Collection[str]]] | None = None
    """What is at the other side, of which a launch that failed must leave nothing: users, servers, containers."""

    async def launch(self, number: int, image: Image | None = None, log: RecordingLog | None = None) -> Server:
        """One launch, of a session called after `number`."""
        hooks = HookCaller(self.launcher.context.log)
        hooks.register(self.launcher, "launcher")
        server = await hooks.launch(
            "launcher",
            image=image or self.image,
            request=evolve(self.request, session=f"{number:020x}"),
            plan=self.plan,
            log=log or RecordingLog(),
        )
        assert isinstance(server, Server), f"Rule: launch gives a Server or raises, not {server!r}."
        return server

    async def running(self) -> Sequence[str]:
        """Ids of the servers that the launcher tells of."""
        return [server.id for server in await self.launcher.servers()]

    async def found(self) -> Collection[str]:
        return set(await self.left()) if self.left else set()


@contract("launcher")
class LauncherContract:
    """Subclass it as ``Test...`` and give the fixture `case`."""

    @pytest.fixture
    async def case(self) -> Any:
        raise NotImplementedError("give a fixture `case` that returns or yields a LauncherCase")

    async def test_a_server_of_ones_own(self, case: LauncherCase) -> None:
        """A server belongs to one client, with an id, an address and a token that no other has."""
        log = RecordingLog()
        first, second = [await case.launch(number, log=log) for number in (1, 2)]
        assert first.id != second.id, "Rule: every launch has a server of its own."
        assert first.token != second.token, "Rule: every server has a token of its own."
        assert first.url != second.url, "Rule: every server has an address of its own."
        for server in (first, second):
            assert server.url.startswith(("http://", "https://")), f"Rule: {server.url} is an address."
            assert server.url.endswith("/"), f"Rule: the address ends with a slash: {server.url}"
            assert len(server.token.reveal()) >= 16, "Rule: a token cannot be guessed."
            if case.answers:
                assert await case.answers(server), "Rule: a server that was given answers with its token."
            assert server.id in await case.running(), "Rule: `servers` tells of what runs."
            assert server.token.reveal() not in f"{server!r} {log.text} {server.id}", "Rule: no token shows."
        for phase, _ in log.lines:
            assert phase is None or phase in PHASES, f"Rule: {phase!r} is no phase of the protocol."
            assert phase not in {"ready", "failed"}, f"Rule: core alone says {phase!r}."
        for server in (first, second):
            await case.launcher.stop(server)

    async def test_many_at_the_same_time(self, case: LauncherCase) -> None:
        """Launches come at once, and each gets its own server."""
        servers = await asyncio.gather(*(case.launch(number) for number in range(10, 14)))
        assert len({server.id for server in servers}) == len(servers), "Rule: launches do not wait or mix."
        running = await case.running()
        assert all(server.id in running for server in servers), "Rule: `servers` tells of all that run."
        await asyncio.gather(*(case.launcher.stop(server) for server in servers))
        assert not set(await case.running()) & {server.id for server in servers}, "Rule: stop ends each."

    async def test_stop_ends_it(self, case: LauncherCase) -> None:
        """A server that was stopped is gone, with its processes; to stop it twice is no error."""
        before, processes = await case.found(), descendants()
        server = await case.launch(20)
        assert await case.launcher.stop(server) is True, "Rule: stop gives True for a server that runs."
        assert server.id not in await case.running(), "Rule: a stopped server is not listed."
        if case.answers:
            assert not await case.answers(server), "Rule: a stopped server does not answer."
        await case.launcher.stop(server)  # Rule: ending an ended one is no error.
        assert not await _more_than(before, case), "Rule: a stopped server leaves nothing behind."
        assert not await left_over(processes), "Rule: a stopped server leaves no process."

    async def test_a_stranger_is_not_known(self, case: LauncherCase) -> None:
        """`stop` is asked about servers of other launchers too."""
        stranger = Server("stranger-4711/", "http://127.0.0.1:1/", Secret("t"))
        assert not await case.launcher.stop(stranger), "Rule: stop gives no True for what it does not know."

    async def test_failed_start_is_reported_and_leaves_nothing(self, case: LauncherCase) -> None:
        """A launch that fails raises, and cleans up: no one else knows what it started."""
        if case.broken is None:
            pytest.skip("the case has no image that cannot be started")
        before, processes = await case.found(), descendants()
        with pytest.raises(RingbinderError) as caught:
            await case.launch(30, case.broken)
        message = caught.value.message if isinstance(caught.value, UserError) else str(caught.value)
        assert message.strip(), "Rule: the error says what happened."
        assert redact(message) == message, "Rule: no secret shows in a message."
        assert not await _more_than(before, case), "Rule: a failed launch leaves nothing behind."
        assert not await left_over(processes), "Rule: a failed launch leaves no process."

    async def test_cancelled_it_leaves_nothing(self, case: LauncherCase) -> None:
        """A client may leave while its server starts: nothing that was started may stay."""
        if case.endless is None:
            pytest.skip("the case has no image that is never ready")
        before, processes, log = await case.found(), descendants(), RecordingLog()
        task = asyncio.ensure_future(case.launch(40, case.endless, log))
        waiter = asyncio.ensure_future(log.until(case.endless_line, seconds=120))
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), f"the launch without an end has ended: {task}; its log:\n{log.text}"
        await waiter
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await _more_than(before, case), "Rule: a cancelled launch leaves nothing behind."
        assert not await left_over(processes), "Rule: a cancelled launch leaves no process."


async def _more_than(before: Collection[str], case: LauncherCase) -> set[str]:
    """What is at the other side now and was not before, after some time for the last of it to vanish."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while (more := set(await case.found()) - set(before)) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.1)
    return more
