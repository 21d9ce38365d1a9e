"""What every registry must do, as tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from attrs import evolve, frozen

from ..errors import TransientError
from ..model import Image, Plan, Target
from .context import descendants, left_over
from .rules import contract


@frozen(kw_only=True)
class RegistryCase:
    """What to test a registry with. `folder_plan` makes plans."""

    registry: Any
    plan: Plan
    """Of an image that is not there."""
    publish: Callable[[Plan, Target], Awaitable[None]]
    """What builder and `push` do: puts a whole image there, with the right that `target` gives."""
    remove: Callable[[Plan], Awaitable[None]] | None = None
    """Takes the image away again, behind the registry plugin's back."""
    down: Callable[[], AbstractAsyncContextManager[None]] | None = None
    """While entered, the other side does not answer; None for a registry that has no other side."""
    stalled: Callable[[], AbstractAsyncContextManager[asyncio.Event]] | None = None
    """While entered, the other side takes its time; the event is set once it has been asked."""
    expire: Callable[[], None] | None = None
    """Ends the life of all credentials handed out so far; None where they do not end by themselves."""
    secrets: Sequence[str] = ()
    """Passwords and tokens that the case uses: they must not show anywhere."""

    async def check(self, *, fresh: bool) -> Image | None:
        found = await self.registry.check(plan=self.plan, fresh=fresh)
        assert found is None or isinstance(found, Image), f"Rule: check gives an Image or None, not {found!r}."
        return found

    async def target(self, plan: Plan | None = None) -> Target:
        target = await self.registry.target(plan=plan or self.plan)
        assert isinstance(target, Target), f"Rule: target gives a Target, not {target!r}."
        return target


@contract("registry")
class RegistryContract:
    """Subclass it as ``Test...`` and give the fixture `case`."""

    @pytest.fixture
    async def case(self) -> Any:
        raise NotImplementedError("give a fixture `case` that returns or yields a RegistryCase")

    async def test_what_is_not_there_is_not_found(self, case: RegistryCase) -> None:
        for fresh in (False, True):
            assert await case.check(fresh=fresh) is None, "Rule: check gives None for what is not there."

    async def test_target_says_where_and_with_what_right(self, case: RegistryCase) -> None:
        target = await case.target()
        assert target.kind == case.registry.holds, "Rule: a target is of the kind that the registry holds."
        if target.kind == "folder":
            assert target.folder is not None, "Rule: a target of kind folder has a folder."
            assert not target.folder.exists() or not any(target.folder.iterdir()), (
                "Rule: the folder of a target is not there yet, or empty."
            )
        else:
            assert target.reference == case.plan.image, "Rule: the reference of a target is the plan's image."
        for secret in case.secrets:
            assert secret not in repr(target), "Rule: no secret shows in a target."
        if target.credentials is not None:
            login = json.loads(target.credentials.reveal())
            assert set(login) == {"registry", "username", "password"}, (
                "Rule: the credentials of a target are JSON with registry, username and password."
            )
            assert all(isinstance(value, str) and value for value in login.values()), (
                "Rule: registry, username and password of a target are text, and not empty."
            )

    async def test_what_was_published_is_found(self, case: RegistryCase) -> None:
        assert await case.check(fresh=False) is None
        await case.publish(case.plan, await case.target())
        for fresh in (True, False):
            image = await case.check(fresh=fresh)
            assert image is not None, "Rule: check finds what was published, also after it found nothing."
            assert image.name == case.plan.image, "Rule: the image has the name of the plan."
            assert image.kind == case.registry.holds, "Rule: it is of the kind that the registry holds."

    async def test_another_tag_is_another_image(self, case: RegistryCase) -> None:
        await case.publish(case.plan, await case.target())
        name, _, _ = case.plan.image.rpartition(":")
        other = evolve(case.plan, image=f"{name}:another")
        assert await case.registry.check(plan=other, fresh=True) is None, "Rule: the tag is part of the name."

    async def test_a_fresh_look_trusts_no_memory(self, case: RegistryCase) -> None:
        if case.remove is None:
            pytest.skip("the case cannot take an image away")
        await case.publish(case.plan, await case.target())
        assert await case.check(fresh=False) is not None
        await case.remove(case.plan)
        assert await case.check(fresh=True) is None, "Rule: a fresh check looks again."
        assert await case.check(fresh=False) is None, "Rule: what a fresh check has found out is not forgotten."

    async def test_an_outage_is_no_absence(self, case: RegistryCase) -> None:
        if case.down is None:
            pytest.skip("this registry has no other side")
        async with case.down():
            with pytest.raises(TransientError) as caught:
                await case.check(fresh=True)
        assert str(caught.value).strip(), "Rule: an error says what happened."
        for secret in case.secrets:
            assert secret not in str(caught.value), "Rule: no secret shows in a message."
        assert await case.check(fresh=True) is None, "Rule: an outage is not remembered."

    async def test_credentials_work_when_they_are_handed_out(self, case: RegistryCase) -> None:
        if case.expire is None:
            pytest.skip("this registry's credentials do not end by themselves")
        first = await case.target()
        assert await case.check(fresh=True) is None
        case.expire()
        second = await case.target()
        assert first.credentials != second.credentials, "Rule: credentials whose life is over are not reused."
        await case.publish(case.plan, second)
        assert await case.check(fresh=True) is not None, "Rule: check gets itself new credentials as well."

    async def test_cancelled_check_leaves_nothing(self, case: RegistryCase) -> None:
        if case.stalled is None:
            pytest.skip("the case cannot stall the other side")
        before = descendants()
        async with case.stalled() as asked:
            task = asyncio.ensure_future(case.check(fresh=True))
            waiter = asyncio.ensure_future(asked.wait())
            await asyncio.wait({task, waiter}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            assert not task.done(), f"the case did not stall it: {task}"
            assert waiter.done(), "the other side was not asked within 60 s"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not await left_over(before), "Rule: a cancelled check leaves no process."
        assert await case.check(fresh=True) is None, "Rule: a cancelled check does not spoil the next one."
