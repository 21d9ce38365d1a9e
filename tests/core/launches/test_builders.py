"""Several builders: who is asked for a repository, what its person reads, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ringbinder import Declined, Image, LaunchRequest, PluginError, Repo
from ringbinder.concurrency import queue_notice
from ringbinder.launches.stages import Ticket

from .scripted import REPO, REQUEST, Script, events, phases


@pytest.fixture
def script() -> Script:
    return Script()


def decline(script: Script, builder: str, *answer: str) -> None:
    async def build(plan: Any, log: Any) -> Declined:
        return Declined(*answer)

    script.acts[f"build {builder}"] = build


async def test_builder_that_declines_is_followed_by_the_next(script: Script, tmp_path: Path) -> None:
    decline(script, "quick", "postBuild")
    async with script.running(tmp_path, builder=["quick", "slow", "spare"]) as app:
        received = await events(app)
    assert [call for call in script.calls if call.startswith("build")] == ["build quick", "build slow"]
    assert "postBuild: built with slow\n" in [event.message for event in received if event.phase == "building"]
    assert received[-1].phase == "ready"


async def test_builders_that_all_decline_fail_with_reasons(script: Script, tmp_path: Path) -> None:
    decline(script, "quick", "postBuild", "Take it away.")
    decline(script, "slow", "apt.txt needs root", "Take it away.")
    async with script.running(tmp_path, builder=["quick", "slow"]) as app:
        received = await events(app)
    (reported,) = script.events_of("ringbinder/build-failed")
    assert (received[-1].phase, received[-1].data["code"]) == ("failed", "unsupported-file")
    assert "postBuild (quick); apt.txt needs root (slow). Take it away.\n" in received[-1].message
    assert "push" not in script.calls
    assert reported.fields["code"] == "unsupported-file"


async def test_builder_that_fails_is_not_followed(script: Script, tmp_path: Path) -> None:
    script.fail("build quick", PluginError("quick", "broken"))
    async with script.running(tmp_path, builder=["quick", "slow"]) as app:
        assert (await events(app))[-1].phase == "failed"
    assert "build slow" not in script.calls


async def test_builders_of_one_repository_are_the_operators(script: Script, tmp_path: Path) -> None:
    async def resolve(request: LaunchRequest) -> Repo:
        return evolve(REPO, slug=request.spec)

    script.acts["resolve"] = resolve
    rules = [
        {"pattern": "^one", "config": {"builder": "slow"}},
        {"pattern": "^two", "config": {"builder": ["spare", "slow"]}},
    ]
    specs = {"RepoProvider": {"spec_config": rules}}
    async with script.running(tmp_path, specs, builder=["quick", "slow", "spare"]) as app:
        for spec in ("one", "two", "three"):
            assert (await events(app, evolve(REQUEST, spec=spec)))[-1].phase == "ready"
    assert [call for call in script.calls if call.startswith("build")] == ["build slow", "build spare", "build quick"]


async def test_builders_of_folders_have_images_of_their_own(script: Script, tmp_path: Path) -> None:
    script.kind = "folder"
    for builder in ("quick", "slow"):
        async with script.running(tmp_path, builder=builder) as app:
            assert (await events(app))[-1].phase == "ready"
    assert [name.rpartition("+")[2] for name in script.images] == ["quick", "slow"]
    script.calls.clear()
    async with script.running(tmp_path, builder=["spare", "slow"]) as app:
        plan, image = await app.find(REPO)
        assert phases(await events(app))[0] == "built"
    assert image is not None
    assert plan.image == image.name == [*script.images][1]
    assert not [call for call in script.calls if call.startswith("build")]


async def test_image_of_a_registry_is_found_for_any_builder(script: Script, tmp_path: Path) -> None:
    for builder in ("quick", "slow"):
        async with script.running(tmp_path, builder=builder) as app:
            assert (await events(app))[-1].phase == "ready"
    assert [call for call in script.calls if call.startswith("build")] == ["build quick"]
    (name,) = script.images
    assert "+" not in name


async def test_build_that_waits_for_its_builder_holds_up_no_other(script: Script, tmp_path: Path) -> None:
    """One place for `slow`: while it is taken, and others wait for it, `quick` still builds with two places in all."""
    go, begun, waiting = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def resolve(request: LaunchRequest) -> Repo:
        return evolve(REPO, slug=request.spec)

    async def quick(plan: Any, log: Any) -> Image | Declined:
        return Declined("postBuild") if "slow" in plan.repo.slug else Image(plan.image, "oci")

    async def slow(plan: Any, log: Any) -> Image:
        begun.set()
        await go.wait()
        return Image(plan.image, "oci")

    async def launch(spec: str) -> list[Any]:
        session = app.launch(evolve(REQUEST, spec=spec))
        received = []
        async for batch in session.read():
            for _, event in batch:
                received.append(event)
                if "queue" in event.data:
                    waiting.set()
        return received

    script.acts |= {"resolve": resolve, "build quick": quick, "build slow": slow}
    script.builds_at_once = {"slow": 1}
    async with script.running(tmp_path, {"BinderHub": {"concurrent_build_limit": 2}}, builder=["quick", "slow"]) as app:
        first = asyncio.create_task(launch("slow-1"))
        await begun.wait()
        second = asyncio.create_task(launch("slow-2"))
        await waiting.wait()
        assert (await launch("other"))[-1].phase == "ready"
        assert not first.done()
        go.set()
        assert [(await task)[-1].phase for task in (first, second)] == ["ready", "ready"]


async def test_builder_that_counts_its_builds_waits_in_one_line(script: Script, tmp_path: Path) -> None:
    free, begun = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def place(self: Any, plan: Any, ticket: Any) -> AsyncIterator[None]:
        text, queue = queue_notice(6)
        ticket.notify(text, queue=queue)
        begun.set()
        await free.wait()
        yield

    script.place = place
    async with script.running(tmp_path, {"BinderHub": {"concurrent_build_limit": 1}}, builder="t") as app:
        launches = [asyncio.create_task(events(app, evolve(REQUEST, spec=f"s{n}"))) for n in range(2)]
        await begun.wait()
        assert not script.calls.count("build")
        assert app.pipeline.builders.full(REPO)
        free.set()
        received = [await launch for launch in launches]
    assert [r[-1].phase for r in received] == ["ready"] * 2
    notices = [(event.message, event.data["queue"]) for event in received[0] if "queue" in event.data]
    assert notices == [("Waiting for a free place: number 7 in the queue\n", {"position": 7, "eta_s": None})]


async def test_failing_place_of_a_builder_is_the_builders(script: Script, tmp_path: Path) -> None:
    def place(self: Any, plan: Any, ticket: Any) -> Any:
        raise ZeroDivisionError("no pods")

    script.place = place
    plan: Any = None
    async with script.running(tmp_path, builder="t") as app:
        with pytest.raises(PluginError, match=r"builder:t.*no pods"):
            async with app.pipeline.builders.place("t", plan, Ticket("build", REQUEST, print)):
                pass


def test_declining_without_a_reason_is_an_error() -> None:
    with pytest.raises(ValueError, match="reason"):
        Declined("")
