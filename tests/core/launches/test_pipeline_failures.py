"""What goes wrong in a stage: one `failed` event, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ringbinder import (
    BuildError,
    Diagnosis,
    Image,
    LaunchRequest,
    PluginError,
    Refused,
    Repo,
    Secret,
    Ticket,
    TransientError,
    UserError,
)
from structlog.testing import capture_logs

from .scripted import REPO, REQUEST, Script, events, phases

HIDDEN_WORDS = "correct horse battery"


@pytest.fixture
def script() -> Script:
    return Script()


STAGES = ["resolve", "check", "check fresh", "target", "build", "push", "launch"]
KINDS: list[tuple[BaseException, str, int | None]] = [
    (UserError("own-code", "Yours."), "own-code", None),
    (BuildError("Broken."), "build-failed", None),
    (Refused("No."), "refused", 403),
    (TransientError("Down."), "try-again", 503),
    (PluginError("x", f"said {HIDDEN_WORDS}"), "internal-error", 500),
    (ZeroDivisionError(f"said {HIDDEN_WORDS}"), "internal-error", 500),
    (asyncio.CancelledError(), "internal-error", 500),
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("error", "code", "status"), KINDS, ids=lambda value: type(value).__name__)
async def test_each_error_in_each_stage_is_one_failed_event(
    script: Script, tmp_path: Path, stage: str, error: BaseException, code: str, status: int | None
) -> None:
    script.fail(stage, error)
    with capture_logs() as logs:
        async with script.running(tmp_path) as app:
            reported = await events(app)
    assert phases(reported).count("failed") == 1
    data = reported[-1].data
    assert (data["code"], data.get("status_code")) == (code, status)
    assert HIDDEN_WORDS not in json.dumps([json.loads(event.json) for event in reported])
    launches = script.events_of("binderhub.jupyter.org/launch")
    assert "success" not in [launch.fields["status"] for launch in launches]
    if code == "internal-error":
        assert [entry for entry in logs if entry.get("error_id") == data["error_id"]]
    assert sorted(script.slots).count("build in") == sorted(script.slots).count("build out")
    if stage in ("check fresh", "target", "build", "push"):
        assert str(data["log"]).startswith("logs/"), "a build's log can be fetched"


@pytest.mark.parametrize("stage", ["target", "build", "push", "launch", "resolve", "last check"])
async def test_no_answer_where_one_is_due(script: Script, tmp_path: Path, stage: str) -> None:
    async def nothing(**arguments: Any) -> None:
        script.images.clear()

    script.acts["check fresh" if stage == "last check" else stage] = nothing
    with capture_logs() as logs:
        async with script.running(tmp_path) as app:
            reported = await events(app)
    assert reported[-1].data["code"] == ("ref-not-found" if stage == "resolve" else "internal-error")
    reasons = [str(entry["exc_info"]) for entry in logs if "error_id" in entry]
    assert stage == "resolve" or (len(reasons) == 1 and ":t'" in reasons[0]), "the log names the plugin"


async def test_unknown_provider_is_the_users_to_fix(script: Script, tmp_path: Path) -> None:
    async with script.running(tmp_path) as app:
        reported = await events(app, evolve(REQUEST, provider="nix"))
    assert (reported[-1].message, reported[-1].data["code"]) == (
        "No provider found for prefix nix\n",
        "provider-unknown",
    )
    assert not script.slots


@pytest.mark.parametrize("stage", ["resolve", "build", "launch"])
async def test_who_is_not_admitted_is_reported_and_holds_nothing(script: Script, tmp_path: Path, stage: str) -> None:
    kept: list[Ticket] = []

    async def admit(ticket: Ticket) -> None:
        kept.append(ticket)
        ticket.notify("Number 3 in the queue", position=3)
        if ticket.stage == stage:
            raise Refused("Too many at once.", retry_after=60, status=429)
        for early in kept[:-1]:
            early.notify("This stage is over")

    script.acts["admit"] = admit
    async with script.running(tmp_path) as app:
        reported = await events(app)
    assert (reported[0].phase, reported[0].message, reported[0].data) == (
        "waiting",
        "Number 3 in the queue\n",
        {"position": 3},
    )
    assert reported[-1].data["status_code"] == 429
    assert reported[-1].data["retry_after"] == 60
    assert stage not in script.calls
    assert not [event for event in reported if "over" in event.message]
    assert [slot for slot in script.slots if slot.endswith("in")] == [
        slot.replace("out", "in") for slot in script.slots if slot.endswith("out")
    ]


async def test_a_diagnosis_is_what_the_client_reads(script: Script, tmp_path: Path) -> None:
    asked: list[Any] = []

    async def diagnose(failure: Any) -> Diagnosis:
        asked.append(failure)
        return Diagnosis("numpy 9 does not exist.", "numpy==9", "Pin another.")

    script.fail("build", BuildError("exit status 1"))
    script.acts["diagnose"] = diagnose
    async with script.running(tmp_path) as app:
        reported = await events(app)
    assert reported[-1].message == "numpy 9 does not exist.\n"
    assert (reported[-1].data["line"], reported[-1].data["advice"]) == ("numpy==9", "Pin another.")
    (failure,) = asked
    assert failure.tail == ("step 1\n",)
    assert failure.stage == "build"


async def test_no_secret_is_in_any_event(script: Script, tmp_path: Path) -> None:
    secret = Secret(HIDDEN_WORDS)

    async def resolve(request: LaunchRequest) -> Repo:
        return evolve(REPO, credentials=secret, notices=(f"main was tried with {HIDDEN_WORDS}",))

    async def admit(ticket: Ticket) -> None:
        ticket.notify(HIDDEN_WORDS, detail={"a": [HIDDEN_WORDS]})

    async def build(plan: Any, log: Any) -> Image:
        log.line(f"cloning with {HIDDEN_WORDS}\n")
        log.progress({HIDDEN_WORDS: HIDDEN_WORDS})
        raise BuildError(f"git said {HIDDEN_WORDS}")

    script.acts |= {"resolve": resolve, "admit": admit, "build": build}
    async with script.running(tmp_path) as app:
        reported = await events(app)
    text = "\n".join(event.json.decode() for event in reported)
    assert reported[-1].phase == "failed"
    assert "main was tried with [secret]" in text
    assert HIDDEN_WORDS not in text
    assert HIDDEN_WORDS not in str([event.fields for event in script.emitted])


async def test_slot_that_cannot_be_left_leaves_no_server(script: Script, tmp_path: Path) -> None:
    async with script.running(tmp_path) as app:
        policy = app.plugins.get("plugin", "t")

        @asynccontextmanager
        async def slot(stage: str) -> AsyncIterator[None]:
            yield
            if stage == "launch":
                raise OSError("the queue is gone")

        policy._slot = slot
        reported = await events(app)
    assert reported[-1].data["code"] == "internal-error"
    assert script.calls.count("stop") == 1


@pytest.mark.parametrize("at", ["resolve", "build", "launch"])
async def test_shutting_down_ends_every_stage_with_a_word(script: Script, tmp_path: Path, at: str) -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    async def hang(**arguments: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(at)

    script.acts[at] = hang
    async with script.running(tmp_path) as app:
        reading = asyncio.create_task(events(app))
        await begun.wait()
    reported = await reading
    assert reported[-1].message == "Ringbinder is shutting down. Please try again in a moment.\n"
    assert ended == [at]
    assert len(asyncio.all_tasks()) == 1
