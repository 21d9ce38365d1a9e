"""The five stages through the whole application."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ringbinder import Image, LaunchRequest, Repo
from ringbinder.runtime import silence

from .scripted import REPO, REQUEST, SERVER, TOKEN, Script, events, phases


@pytest.fixture
def script() -> Script:
    return Script()


async def test_stages_in_order_and_ready_with_all_that_clients_read(script: Script, tmp_path: Path) -> None:
    async with script.running(tmp_path) as app:
        reported = await events(app)
    stages = [call for call in script.calls if call not in ("admit", "diagnose")]
    assert stages == ["resolve", "check", "check fresh", "target", "build", "push", "check fresh", "launch"]
    assert phases(reported) == ["waiting", "building", "pushing", "built", "launching", "launching", "ready"]
    # A launch has its slot before anything is built for it.
    assert script.slots == [
        "resolve in", "resolve out", "launch in", "build in", "build out", "launch out",
    ]  # fmt: skip
    (image,) = script.images
    assert json.loads(reported[-1].json) == {
        "phase": "ready",
        "message": f"server running at {SERVER.url}\n",
        "url": SERVER.url,
        "token": TOKEN,
        "image": image,
        "repo_url": REPO.url,
        "binder_ref_url": REPO.ref_url,
        "binder_launch_host": "https://binder.example/",
        "binder_request": "v2/t/u/r/main",
        "binder_persistent_request": "v2/t/u/r/c0ffee",
        "work_folder": "/w",
    }
    (launch,) = script.events_of("binderhub.jupyter.org/launch")
    assert (launch.fields["status"], launch.fields["ref"]) == ("success", "c0ffee")


async def test_an_image_that_is_there_is_launched(script: Script, tmp_path: Path) -> None:
    async with script.running(tmp_path) as app:
        first, second = await events(app), await events(app)
    assert script.calls.count("build") == 1
    assert second[0].message == "Found built image, launching...\n"
    assert phases(second) == ["built", "launching", "launching", "ready"]
    assert second[0].data == first[3].data


async def test_an_image_that_came_while_waiting_is_not_built_again(script: Script, tmp_path: Path) -> None:
    async def check_fresh(plan: Any) -> Image:
        return Image(plan.image, "oci")

    script.acts["check fresh"] = check_fresh
    async with script.running(tmp_path) as app:
        reported = await events(app)
    assert reported[-1].phase == "ready"
    assert "target" not in script.calls


async def test_what_the_builder_pushed_is_not_pushed_again(script: Script, tmp_path: Path) -> None:
    async def build(plan: Any, log: Any) -> Image:
        script.images[plan.image] = Image(plan.image, "oci", pushed=True)
        return script.images[plan.image]

    script.acts["build"] = build
    async with script.running(tmp_path) as app:
        assert (await events(app))[-1].phase == "ready"
    assert "push" not in script.calls


async def test_build_only_ends_with_the_image_and_launches_nothing(script: Script, tmp_path: Path) -> None:
    async with script.running(tmp_path) as app:
        reported = await events(app, evolve(REQUEST, build_only=True))
        again = await events(app, evolve(REQUEST, build_only=True))
    assert reported[-1].phase == "ready"
    assert reported[-1].message == "Done! Image built\n"
    assert list(reported[-1].data) == ["imageName"]
    assert again[-1].message == "Done! Found built image\n"
    # Nothing tells of a launch.
    assert not [event for event in [*reported, *again] if event.phase == "built" or "launching" in event.message]
    assert "launch" not in script.calls
    assert not script.events_of("binderhub.jupyter.org/launch")


async def test_two_links_to_one_commit_share_one_build(script: Script, tmp_path: Path) -> None:
    go = asyncio.Event()

    async def build(plan: Any, log: Any) -> Image:
        await go.wait()
        return Image(plan.image, "oci")

    script.acts["build"] = build
    async with script.running(tmp_path) as app:
        both = [asyncio.create_task(events(app, evolve(REQUEST, spec=spec))) for spec in ("u/r/a", "u/r/b")]
        while not (app.runs.active and next(iter(app.runs.active.values())).followers == 2):
            await asyncio.sleep(0)
        go.set()
        first, second = await asyncio.gather(*both)
    assert script.calls.count("build") == 1
    assert script.calls.count("launch") == 2
    of_a_build = ["building", "pushing", "built"]
    ones, others = ([event for event in seen if event.phase in of_a_build] for seen in (first, second))
    assert phases(ones) == of_a_build
    assert ones == others, "the very same events"


async def test_a_session_cancelled_while_building_leaves_the_build(script: Script, tmp_path: Path) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def build(plan: Any, log: Any) -> Image:
        begun.set()
        await go.wait()
        return Image(plan.image, "oci")

    script.acts["build"] = build
    async with script.running(tmp_path) as app:
        session = app.launch(REQUEST)
        await begun.wait()
        app.sessions.cancel(session, "stopped")
        reported = [event async for batch in session.read() for _, event in batch]
        assert (reported[-1].phase, reported[-1].message) == ("failed", "stopped\n")
        (run,) = app.runs.active.values()
        go.set()
        await run.task
        assert run.image is not None
        assert (await events(app))[-1].phase == "ready"
        await app.runs.close("")
        kept = await app.kept_log(run.id)
    assert kept is not None
    assert kept.outcome == "success"
    assert [json.loads(line)["phase"] for line in kept.lines.splitlines()] == ["building", "pushing", "built"]


async def test_only_so_many_builds_at_once(script: Script, tmp_path: Path) -> None:
    go, building, most = asyncio.Event(), 0, 0

    async def resolve(request: LaunchRequest) -> Repo:
        return evolve(REPO, slug=request.spec)

    async def build(plan: Any, log: Any) -> Image:
        nonlocal building, most
        building += 1
        most = max(most, building)
        await go.wait()
        building -= 1
        return Image(plan.image, "oci")

    script.acts |= {"resolve": resolve, "build": build}
    script.builds_at_once = {"t": 2}
    async with script.running(tmp_path) as app:
        all_of_them = [asyncio.create_task(events(app, evolve(REQUEST, spec=f"s{n}"))) for n in range(5)]
        while len(script.slots) < 20:  # resolved, left, and admitted to launch and to build
            await asyncio.sleep(0)
        go.set()
        reported = await asyncio.gather(*all_of_them)
    assert most == 2
    assert [t[-1].phase for t in reported] == ["ready"] * 5
    waited = [[event for event in t if "queue" in event.data] for t in reported]
    assert sorted((first[0].message, first[0].data["queue"]["position"]) for first in waited if first) == [
        (f"Waiting for a free place: number {position} in the queue\n", position) for position in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("hook", "phase", "words"),
    [
        ("build", "building", "The build has printed nothing for"),
        ("push", "pushing", "The push has made no progress for"),
        ("launch", "launching", "The server has not answered for"),
    ],
)
async def test_stage_that_is_silent_has_a_word(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str, phase: str, words: str
) -> None:
    monkeypatch.setattr(silence, "_FIRST_SECONDS", 0.05)
    spoken = asyncio.Event()
    usual = {"launch": SERVER}

    async def act(**arguments: Any) -> Any:
        await spoken.wait()
        plan = arguments.get("plan")
        return usual.get(hook) or Image(plan.image if plan else next(iter(script.images)), "oci")

    script.acts[hook] = act
    async with script.running(tmp_path) as app:
        session = app.launch(REQUEST)
        async for batch in session.read():
            for _, event in batch:
                if event.phase == phase and event.message.startswith(words):
                    spoken.set()
    assert spoken.is_set()
    assert event.phase == "ready"


async def test_stage_that_waits_is_not_called_silent(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "_FIRST_SECONDS", 0.01)
    spoken = asyncio.Event()

    async def build(plan: Any, log: Any) -> Image:
        log.line("Waiting for a free place: number 2 in the queue\n", "waiting")
        await asyncio.sleep(0.1)
        log.line("It begins\n")
        await spoken.wait()
        return Image(plan.image, "oci")

    script.acts["build"] = build
    reported = []
    async with script.running(tmp_path) as app:
        async for batch in app.launch(REQUEST).read():
            for _, event in batch:
                reported.append(event)
                if event.message.startswith("The build has printed nothing"):
                    spoken.set()
    lines = [event.message for event in reported if event.phase in ("waiting", "building")]
    waits = next(at for at, line in enumerate(lines) if line.startswith("Waiting for a free place"))
    assert lines[waits + 1] == "It begins\n"
    assert reported[-1].phase == "ready"
