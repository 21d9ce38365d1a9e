"""The contract of launchers finds what it is there to find: a broken launcher fails the test of the rule."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import pytest
from ringbinder import Image, LaunchRequest, Log, Plan, Secret, Server, TransientError
from ringbinder.testing import LauncherCase, LauncherContract, folder_plan, make_context
from ringbinder_fake import FakeLauncher
from ringbinder_fake.launcher import FakeLauncherOptions


class Desk(FakeLauncher):
    """A right launcher, but for what a subclass breaks; `broken` fails and `endless` never comes to an end."""

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        if image.name == "broken":
            raise TransientError("This image cannot be started.")
        if image.name == "endless":
            log.line("for ever\n")
            await asyncio.Event().wait()
        return await super().launch(image, request, plan, log)

    def kept(self) -> set[str]:
        """What stands at the other side."""
        return set(self._servers)


def case_of(launcher: Desk, tmp_path: Path) -> LauncherCase:
    async def left() -> set[str]:
        return launcher.kept()

    async def answers(server: Server) -> bool:
        return server.id in launcher.kept()

    return LauncherCase(
        launcher=launcher,
        plan=folder_plan(tmp_path / "content", {"a": "b"}),
        image=Image("good", "oci"),
        answers=answers,
        broken=Image("broken", "oci"),
        endless=Image("endless", "oci"),
        endless_line="for ever",
        left=left,
    )


class TestDesk(LauncherContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[LauncherCase]:
        context = make_context(tmp_path, "desk")
        yield case_of(Desk(FakeLauncherOptions(), context), tmp_path)
        await context.services.close()


class Sharing(Desk):
    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        found = next(iter(self._servers.values()), None)
        return found or await super().launch(image, request, plan, log)


class Slashless(Desk):
    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        server = await super().launch(image, request, plan, log)
        return attrs.evolve(server, url=server.url.rstrip("/"))


class Guessable(Desk):
    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        server = await super().launch(image, request, plan, log)
        return attrs.evolve(server, token=Secret(server.id[-4:]))


class Talkative(Desk):
    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        server = await super().launch(image, request, plan, log)
        log.line(f"its token is {server.token.reveal()}\n")
        return server


class Forgetful(Desk):
    async def servers(self) -> Sequence[Server]:
        return ()


class Unstoppable(Desk):
    async def stop(self, server: Server) -> bool:
        return server.id in self._servers


class Credulous(Desk):
    async def stop(self, server: Server) -> bool:
        await super().stop(server)
        return True


class Untidy(Desk):
    """What it has begun stays at the other side."""

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        name = f"half-{image.name}"
        if image.name != "good":
            self._servers[name] = Server(name, "http://127.0.0.1:1/", Secret("t" * 16))
        return await super().launch(image, request, plan, log)


@pytest.mark.parametrize(
    ("broken", "test", "rule"),
    [
        (Sharing, "test_a_server_of_ones_own", "every launch has a server of its own"),
        (Slashless, "test_a_server_of_ones_own", "the address ends with a slash"),
        (Guessable, "test_a_server_of_ones_own", "a token cannot be guessed"),
        (Talkative, "test_a_server_of_ones_own", "no token shows"),
        (Forgetful, "test_many_at_the_same_time", "`servers` tells of all that run"),
        (Unstoppable, "test_stop_ends_it", "a stopped server is not listed"),
        (Credulous, "test_a_stranger_is_not_known", "stop gives no True"),
        (Untidy, "test_failed_start_is_reported_and_leaves_nothing", "a failed launch leaves nothing"),
        (Untidy, "test_cancelled_it_leaves_nothing", "a cancelled launch leaves nothing"),
    ],
)
async def test_a_broken_launcher_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: type[Desk], test: str, rule: str
) -> None:
    # What is left over here stays for ever: no use in waiting for it to end.
    monkeypatch.setattr("ringbinder.testing.launcher.PATIENCE", 0.3)
    context = make_context(tmp_path, "desk")
    with pytest.raises(AssertionError, match="Rule: .*" + rule) as caught:
        await getattr(LauncherContract(), test)(case_of(broken(FakeLauncherOptions(), context), tmp_path))
    await context.services.close()
    (note,) = caught.value.__notes__
    assert note.startswith('Contract rule "launcher: ')
    assert note.endswith("python -m ringbinder.testing launcher")
