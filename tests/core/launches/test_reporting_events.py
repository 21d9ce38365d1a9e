"""Which events a launch brings about, from its request to the end of its server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from ringbinder.errors import BuildError, Refused
from ringbinder.model import Image, Plan, Target
from ringbinder.plugins.hookspecs import Ticket
from ringbinder.protocol import Log

if TYPE_CHECKING:
    from .conftest import Hear, Heard

STARTED = ["launch-requested", "resolve", "build-started"]


class Builds:
    """A general plugin whose builds do as they are told."""

    def __init__(self, error: Exception | None = None, *, hang: bool = False) -> None:
        self.error = error
        self.hang = hang
        self.began = asyncio.Event()

    async def build(self, plan: Plan, target: Target, log: Log) -> Image | None:
        self.began.set()
        if self.hang:
            await asyncio.get_running_loop().create_future()
        if self.error is not None:
            raise self.error
        return None


class Policy:
    def __init__(self, stage: str) -> None:
        self.stage = stage

    async def admit(self, ticket: Ticket) -> None:
        if ticket.stage == self.stage:
            raise Refused("not today", status=429)


async def test_a_launch_with_a_build_and_its_servers_end(hear: Hear) -> None:
    async with hear() as received:
        session = await received.launch()
        assert received.names() == [*STARTED, "push", "build-finished", "launch"]
        (server,) = await received.app.servers.running()
        await received.app.servers.stop(server)
    run = received.one("build-started")["run"]
    assert {received.one(name)["run"] for name in ("push", "build-finished")} == {run}
    assert session.run is not None
    assert session.run.id not in str(received.events)  # it opens the log
    assert session.id not in str(received.events)
    assert received.one("launch") == {
        "provider": "Fake", "spec": "a/b/main", "ref": received.one("resolve")["ref"], "status": "success",
        "build_token": False, "origin": "binder.example", "request_origin": "https://origin.example",
    }  # fmt: skip
    stopped = received.one("server-stopped")
    assert (stopped["reason"], stopped["session"]) == ("stopped", session.name)
    assert stopped["seconds"] >= 0
    assert "192.0.2.55" not in str(received.events)
    assert {event.repo for event in received.events if event.schema.endswith("/launch")} == {"https://fake.invalid/a/b"}


async def test_a_second_launch_builds_nothing(hear: Hear) -> None:
    async with hear() as received:
        await received.launch()
        received.events.clear()
        await received.launch()
        assert received.names() == ["launch-requested", "resolve", "launch"]


async def test_a_failed_build_shows_why(hear: Hear) -> None:
    async with hear(None, Builds(BuildError("a broken pin"))) as received:
        await received.launch()
        assert received.names() == [*STARTED, "build-failed", "launch-failed"]
    failed = received.one("build-failed")
    assert (failed["code"], failed["cause"]) == ("build-failed", "a broken pin")
    launch = received.one("launch-failed")
    assert (launch["stage"], launch["code"], launch["cause"]) == ("build", "build-failed", "a broken pin")
    assert launch["repo"] == "https://fake.invalid/a/b"


async def test_a_client_that_leaves_and_a_build_that_is_cancelled(hear: Hear) -> None:
    builds = Builds(hang=True)
    async with hear(None, builds) as received:
        launching = asyncio.create_task(received.launch())
        await builds.began.wait()
        received.app.sessions.cancel(next(iter(received.app.sessions.known.values())), "gone")
        await asyncio.wait({launching})
        assert received.one("launch-failed")["code"] == "cancelled"
        assert "build-failed" not in received.names()
    assert received.one("build-failed")["code"] == "cancelled"


async def test_links_that_do_not_resolve(hear: Hear) -> None:
    async with hear() as received:
        await received.launch("x", "nobody")
        assert received.names() == ["launch-requested", "launch-failed"]
        assert received.one("launch-failed")["code"] == "provider-unknown"
        assert received.one("launch-failed")["provider"] == "nobody"


async def test_a_refusal_names_the_policy(hear: Hear) -> None:
    for stage, before in (
        ("resolve", ["launch-requested"]),
        ("build", ["launch-requested", "resolve"]),
        ("launch", ["launch-requested", "resolve"]),
    ):
        async with hear(None, Policy(stage)) as received:
            await received.launch()
            assert received.names() == [*before, "refusal", "launch-failed"]
        refusal = received.one("refusal")
        assert (refusal["policy"], refusal["stage"]) == ("plugin:test0", stage)
        assert (refusal["status"], refusal["reason"]) == (429, "not today")
        assert received.one("launch-failed")["code"] == "refused"


async def test_only_an_image_is_no_launch(hear: Hear) -> None:
    async with hear() as received:
        await received.launch(build_only=True)
        assert received.names() == [*STARTED, "push", "build-finished"]
        assert received.one("launch-requested")["build_only"] is True


async def test_a_launcher_reports_a_server_that_ended_by_itself(hear: Hear) -> None:
    async with hear() as received:
        await received.launch()
        (server,) = await received.app.servers.running()
        received.app.servers.stopped(server.id, "idle", 12.5, "no one used it")
        await received.app.servers.stop(server)
        assert received.app.why_stopped(server) == "no one used it"
        received.app.servers.stopped("of an earlier run", "exited", 3.0)
    ended = [event.fields for event in received.events if event.schema == "ringbinder/server-stopped"]
    assert [(fields["reason"], fields["seconds"]) for fields in ended] == [("idle", 12.5), ("exited", 3.0)]
    assert ended[0]["repo"] == "https://fake.invalid/a/b"
    assert "repo" not in ended[1]


async def test_stages_are_timed(hear: Hear) -> None:
    async with hear() as received:
        for name in [*["a/common"] * 9, "a/rare1", "a/rare2", "a/rare3"]:
            await received.launch(f"{name}/main")
        registry = received.app.services.metrics.registry
        for stage, count in (("resolve", 12), ("check", 20), ("build", 4), ("push", 4), ("launch", 12)):
            labels = {"stage": stage, "status": "success"}
            assert registry.get_sample_value("ringbinder_stage_seconds_count", labels) == count


def launches(heard: Heard) -> dict[str, float]:
    """Launches by repository, as Prometheus reads them."""
    text = generate_latest(heard.app.services.metrics.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families["binderhub_launch_count"].samples
    return {each.labels["repo"]: each.value for each in samples if each.name.endswith("_total")}


async def test_named_repositories_stay_and_no_count_moves(hear: Hear) -> None:
    async with hear({"Ringbinder.metrics_repos": "2"}) as received:
        before: dict[str, float] = {}
        for name in ["common", "rare1", "common", "rare2", "rare2", "rare2", "rare3", "rare1", "common"]:
            await received.launch(f"a/{name}/main")
            after = launches(received)
            repo = f"https://fake.invalid/a/{name}" if name in ("common", "rare1") else "(other)"
            # One launch more is one more in one series: what `increase()` shows of each.
            assert after == {**before, repo: before.get(repo, 0) + 1}
            before = after
    assert before == {
        "https://fake.invalid/a/common": 3, "https://fake.invalid/a/rare1": 2, "(other)": 4
    }  # fmt: skip
