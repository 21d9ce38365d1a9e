"""What every builder must do, as tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from attrs import frozen

from ..errors import BuildError, UserError
from ..model import Declined, Image, Plan, Target
from ..protocol import PHASES
from .context import RecordingLog, descendants, left_over
from .rules import contract

SECRET_VARIABLES: Final = {
    "GITHUB_ACCESS_TOKEN": "ghp-operators-own-token-4711",
    "AWS_SECRET_ACCESS_KEY": "operators-own-aws-key-4712",
    "JUPYTERHUB_API_TOKEN": "operators-own-hub-token-4713",
    "RINGBINDER__DockerRegistry__password": "operators-own-registry-word-4714",
}
"""What stands in the operator's environment while the contract's builds run."""


@frozen(kw_only=True)
class BuilderCase:
    """What to test a builder with. `folder_plan` makes plans from files."""

    builder: Any
    """The plugin, made."""
    target: Callable[[Plan], Awaitable[Target]]
    """What the registry would say."""
    good: Plan
    """Builds."""
    broken: Plan | None = None
    """Cannot be built, through the repository's own fault; None for a builder that cannot fail so."""
    endless: Plan | None = None
    """Prints a line that contains `endless_line`, and then does not end by itself."""
    endless_line: str = "now it takes for ever"
    """Part of the line that shows `endless` to be under way."""
    reveals: Plan | None = None
    """Prints its environment, as ``NAME=value``; None for a builder that runs nothing of a repository's."""

    declines: Plan | None = None
    """Is for another builder; None for a builder that takes every repository."""
    new_base: Callable[[], Awaitable[None]] | None = None
    """Gives the builder a newer base, on which its images fit; None for a builder without the hook `rebase`."""

    async def build(self, plan: Plan, log: RecordingLog) -> Image:
        target = await self.target(plan)
        image = await self.builder.build(plan=plan, target=target, log=log)
        assert isinstance(image, Image), f"Rule: build gives an Image or raises, not {image!r}."
        return image


@contract("builder")
class BuilderContract:
    """Subclass it as ``Test...`` and give the fixture `case`."""

    @pytest.fixture
    async def case(self) -> Any:
        raise NotImplementedError("give a fixture `case` that returns or yields a BuilderCase")

    async def test_builds_what_it_promises(self, case: BuilderCase) -> None:
        """A build gives a whole image with the plan's name and of the announced kind, and shows progress."""
        log = RecordingLog()
        before = descendants()
        image = await case.build(case.good, log)
        assert image.name == case.good.image, "Rule: the image has the name of the plan."
        assert image.kind == case.builder.makes, f"Rule: it says it makes {case.builder.makes}, not {image.kind}."
        if image.kind == "folder":
            assert image.path is not None, "Rule: an image of kind folder has a path."
            assert image.path.is_dir(), f"Rule: {image.path}, the image, is there."
        assert log.lines, "Rule: a build tells of its progress."
        for phase, _ in log.lines:
            assert phase is None or phase in PHASES, f"Rule: {phase!r} is no phase of the protocol."
            assert phase not in {"ready", "failed"}, f"Rule: core alone says {phase!r}; a builder returns or raises."
        assert not await left_over(before), "Rule: a build leaves no process."

    async def test_a_failing_repository_is_the_users_error(self, case: BuilderCase) -> None:
        """What the repository itself does wrong is a `UserError`, for the person with the link: no bug, no retry."""
        if case.broken is None:
            pytest.skip("the case has no repository that fails")
        before = descendants()
        with pytest.raises(UserError) as caught:
            await case.build(case.broken, RecordingLog())
        error = caught.value
        assert error.message.strip(), "Rule: the error says what happened."
        if not isinstance(error, BuildError):
            assert error.code != "build-failed", "Rule: build-failed is a BuildError."
        assert not await left_over(before), "Rule: a failed build leaves no process."

    async def test_what_it_declines_leaves_nothing(self, case: BuilderCase) -> None:
        """`Declined` asks the next builder: words for the person, and nothing begun."""
        if case.declines is None:
            pytest.skip("the case has no repository that is declined")
        before = descendants()
        target = await case.target(case.declines)
        declined = await case.builder.build(plan=case.declines, target=target, log=RecordingLog())
        assert isinstance(declined, Declined), f"Rule: what it does not build it declines; it gave {declined!r}."
        assert declined.reason.strip(), "Rule: the answer has the reason."
        assert target.folder is None or not target.folder.exists(), "Rule: a build that declines leaves no image."
        assert not await left_over(before), "Rule: a build that declines leaves no process."

    async def test_rebased_image_is_another_of_the_same_name(self, case: BuilderCase) -> None:
        """An image on an old base is replaced by one on the new base, and no other."""
        if case.new_base is None:
            pytest.skip("the case has no other base")
        image = await case.build(case.good, RecordingLog())
        assert await case.builder.rebase(image=image) == image, "Rule: an image on the base of today stays."
        await case.new_base()
        rebased = await case.builder.rebase(image=image)
        assert isinstance(rebased, Image), f"Rule: what fits on the new base is put there; it gave {rebased!r}."
        assert rebased.name == image.name, "Rule: the image keeps its name."
        assert rebased.digest != image.digest, "Rule: with another base it is another image."
        assert (await case.builder.rebase(image=rebased)) == rebased, "Rule: a rebased image is on the base of today."

    async def test_cancelled_it_ends_everything(self, case: BuilderCase) -> None:
        """The last client may leave in the middle of a build: nothing that it started may run on."""
        if case.endless is None:
            pytest.skip("the case has no build without an end")
        log = RecordingLog()
        before = descendants()
        task = asyncio.ensure_future(case.build(case.endless, log))
        waiter = asyncio.ensure_future(log.until(case.endless_line, seconds=240))
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), f"the build without an end has ended: {task}; its log:\n{log.text}"
        await waiter
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await left_over(before), "Rule: a cancelled build leaves no process."

    async def test_the_operators_secrets_stay_out(self, case: BuilderCase, monkeypatch: pytest.MonkeyPatch) -> None:
        """Code of a repository runs in a build: the environment of Ringbinder, with its secrets, is not there."""
        if case.reveals is None:
            pytest.skip("the case has no build that shows its environment")
        for name, value in SECRET_VARIABLES.items():
            monkeypatch.setenv(name, value)
        log = RecordingLog()
        await case.build(case.reveals, log)
        assert "PATH=" in log.text, f"the build did not show its environment; its log:\n{log.text}"
        for name, value in SECRET_VARIABLES.items():
            assert f"{name}=" not in log.text, f"Rule: the build's environment has no {name}."
            assert value not in log.text, f"Rule: the value of {name} does not reach the build."
