"""The registries' contract finds what it is there to find: each broken registry fails the test of its rule."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ringbinder import process
from ringbinder.config.options import NoOptions
from ringbinder.errors import TransientError
from ringbinder.model import Image, ImageKind, Plan, Target
from ringbinder.plugins.bases import Registry
from ringbinder.secret import Secret
from ringbinder.testing import RegistryCase, RegistryContract, folder_plan, make_context


class Shelf(Registry[NoOptions]):
    """A right registry, in memory, with a password for each build."""

    holds: ClassVar[ImageKind] = "oci"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.there: set[str] = set()
        self.passwords: set[str] = set()
        self.made = 0
        self.down = False
        self.silent: asyncio.Event | None = None
        self.remembered: set[str] = set()

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        if self.silent:
            await self.wait(self.silent)
        if self.down:
            raise TransientError("the shelf did not answer")
        return Image(plan.image, "oci") if plan.image in self.there else None

    async def wait(self, asked: asyncio.Event) -> None:
        running = asyncio.create_task(process.run(["sleep", "600"], timeout=600))
        asked.set()
        await running

    def login(self) -> dict[str, str]:
        self.made += 1
        self.passwords.add(f"very-secret-word-{self.made}")
        return {"registry": "shelf", "username": "me", "password": f"very-secret-word-{self.made}"}

    async def target(self, plan: Plan) -> Target | None:
        return Target("oci", plan.image, credentials=Secret(json.dumps(self.login())))


def shelf_case(registry: Shelf, tmp_path: Path) -> RegistryCase:
    async def publish(plan: Plan, target: Target) -> None:
        assert target.credentials is not None
        if json.loads(target.credentials.reveal())["password"] not in registry.passwords:
            raise PermissionError("Rule: the password is good")
        registry.there.add(plan.image)

    async def remove(plan: Plan) -> None:
        registry.there.remove(plan.image)

    @asynccontextmanager
    async def down() -> AsyncIterator[None]:
        registry.down = True
        yield
        registry.down = False

    @asynccontextmanager
    async def stalled() -> AsyncIterator[asyncio.Event]:
        registry.silent = asyncio.Event()
        yield registry.silent
        registry.silent = None

    return RegistryCase(
        registry=registry, plan=folder_plan(tmp_path / "x", {"a": "b"}), publish=publish, remove=remove,
        down=down, stalled=stalled, expire=registry.passwords.clear, secrets=["very-secret-word"],
    )  # fmt: skip


class TestShelf(RegistryContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[RegistryCase]:
        context = make_context(tmp_path, "shelf")
        yield shelf_case(Shelf(NoOptions(), context), tmp_path)
        await context.services.close()


class Optimist(Shelf):
    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        return Image(plan.image, "oci")


class Forgetful(Shelf):
    """Takes an outage for an absence, as the system that we replace does."""

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        try:
            return await super().check(plan, fresh)
        except TransientError:
            return None


class Stubborn(Shelf):
    """Believes its memory, whoever asks."""

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        found = await super().check(plan, fresh)
        if found:
            self.remembered.add(plan.image)
        return Image(plan.image, "oci") if plan.image in self.remembered else None


class Sceptic(Shelf):
    """What was not there will never be."""

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        found = await super().check(plan, fresh)
        if found is None:
            self.remembered.add(plan.image)
        return None if plan.image in self.remembered else found


class Tagless(Shelf):
    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        name = plan.image.rpartition(":")[0]
        return Image(plan.image, "oci") if any(name in image for image in self.there) else None


class Misnaming(Shelf):
    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        found = await super().check(plan, fresh)
        return found and Image("another", "oci")


class Folder(Shelf):
    async def target(self, plan: Plan) -> Target | None:
        return Target("folder", plan.image)


class Elsewhere(Shelf):
    async def target(self, plan: Plan) -> Target | None:
        return Target("oci", "another")


class Talkative(Shelf):
    async def target(self, plan: Plan) -> Target | None:
        return Target("oci", plan.image, credentials="very-secret-word")  # type: ignore[arg-type]


class Terse(Shelf):
    def login(self) -> dict[str, str]:
        return {"username": "me", "password": super().login()["password"]}


class Nobody(Shelf):
    def login(self) -> dict[str, str]:
        return {**super().login(), "username": ""}


class Thrifty(Shelf):
    """Hands out the same password again and again."""

    def login(self) -> dict[str, str]:
        return {"registry": "shelf", "username": "me", "password": "very-secret-word"}


class Careless(Shelf):
    async def wait(self, asked: asyncio.Event) -> None:
        started = await asyncio.create_subprocess_exec("sleep", "600")
        self.started = started
        asked.set()
        await started.wait()


@pytest.mark.parametrize(
    ("broken", "test", "rule"),
    [
        (Optimist, "test_what_is_not_there_is_not_found", "check gives None for what is not there"),
        (Forgetful, "test_an_outage_is_no_absence", "DID NOT RAISE"),
        (Stubborn, "test_a_fresh_look_trusts_no_memory", "a fresh check looks again"),
        (Sceptic, "test_what_was_published_is_found", "check finds what was published"),
        (Tagless, "test_another_tag_is_another_image", "the tag is part of the name"),
        (Misnaming, "test_what_was_published_is_found", "the image has the name of the plan"),
        (Folder, "test_target_shows_where_and_with_what_right", "a target is of the kind"),
        (Elsewhere, "test_target_shows_where_and_with_what_right", "the reference of a target"),
        (Talkative, "test_target_shows_where_and_with_what_right", "no secret shows in a target"),
        (Terse, "test_target_shows_where_and_with_what_right", "JSON with registry, username and password"),
        (Nobody, "test_target_shows_where_and_with_what_right", "are text, and not empty"),
        (Thrifty, "test_credentials_work_when_they_are_handed_out", "whose life is over are not reused"),
        (Careless, "test_cancelled_check_leaves_nothing", "a cancelled check leaves no process"),
    ],
)
async def test_a_broken_registry_is_found(
    tmp_path: Path, broken: type[Shelf], test: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringbinder.testing.context.PATIENCE", 0.5)
    registry = broken(NoOptions(), make_context(tmp_path, "shelf"))
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception), match=rule):
            await getattr(RegistryContract(), test)(shelf_case(registry, tmp_path))
    finally:
        if isinstance(registry, Careless):
            registry.started.kill()
            await registry.started.wait()
