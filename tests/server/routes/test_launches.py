"""The API beside the protocol: launches, images, kept logs, and its description."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

CACHED = {"FakeRegistry.cached": "true"}
WISH = {"provider": "fake", "spec": "owner/name/main"}
CLOSE = {"Connection": "close"}
"""The server ends a connection that is kept when a test turns its timers."""


async def post(live: Live, body: Any = WISH, **headers: str) -> tuple[int, dict[str, Any]]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await live.client.post(live.address + "api/v1/launches", json=body, headers=names)
    return response.status_code, response.json()


async def get(live: Live, path: str) -> Any:
    response = await live.client.get(live.address + path.removeprefix("/"), headers=CLOSE)
    assert response.status_code == 200, response.text
    return response.json()


async def until_ended(live: Live, launch: dict[str, Any]) -> dict[str, Any]:
    while not launch["ended"]:
        await asyncio.sleep(0.02)
        launch = await get(live, launch["url"])
    return launch


async def test_a_launch_is_started_watched_asked_for_and_stopped(serve: Serve) -> None:
    async with serve({"BinderHub.base_url": "/b"}) as live:
        live = type(live)(live.address.removesuffix("b/"), live.binder, live.client, live.logged, live.gate)
        response = await live.client.post(live.address + "b/api/v1/launches", json=WISH)
        launch = response.json()
        assert (response.status_code, response.headers["location"]) == (201, launch["url"])
        assert launch["url"].startswith("/b/api/v1/launches/")
        events = await live.events(launch["events_url"][1:])
        assert [events[0]["phase"], events[-1]["phase"]] == ["waiting", "ready"]
        after = await get(live, launch["url"])
        assert (after["ended"], after["state"], after["result"]) == (True, "ready", events[-1])
        log = await live.client.get(live.address + after["log_url"][1:])
        assert log.text.startswith("Fake build of")
        assert len(await live.binder.servers.running()) == 1
        assert (await live.client.delete(live.address + launch["url"][1:])).status_code == 204
        assert await live.binder.servers.running() == []
        assert (await live.client.get(live.address + launch["url"][1:])).status_code == 404
        assert not [entry for entry in live.logged if launch["id"] in str(entry)]


async def test_a_launch_that_is_only_asked_for_lives(serve: Serve, turn_timers: Callable[[float], None]) -> None:
    async with serve({**CACHED, "Ringbinder.session_grace": "60"}, gate=True) as live:
        live.gate.shut()
        _, launch = await post(live, **CLOSE)
        await live.gate.began.wait()
        for _ in range(4):
            turn_timers(30)
            assert (await get(live, launch["url"]))["ended"] is False
        live.gate.open.set()
        launch = await until_ended(live, launch)
        assert launch["result"]["token"]
        turn_timers(90)
        assert (await get(live, launch["url"]))["ended"] is True
        assert live.gate.stopped == [], "its client was told of it"


async def test_a_launch_can_be_cancelled(serve: Serve) -> None:
    async with serve(CACHED, gate=True) as live:
        live.gate.shut()
        _, launch = await post(live)
        await live.gate.began.wait()
        response = await live.client.delete(live.address + launch["url"][1:])
        assert response.status_code == 202
        await live.gate.cancelled.wait()
        assert (await until_ended(live, launch))["result"]["message"] == "The launch was cancelled.\n"


KEY = "7c0a1c52-2d0e-4a53-9c7e-6a1d3f0b8a11"


async def test_the_same_key_is_the_same_launch(serve: Serve) -> None:
    async with serve({**CACHED, "Ringbinder.trusted_proxies": "[127.0.0.1]"}, gate=True) as live:
        status, launch = await post(live, Idempotency_Key=KEY)
        again, same = await post(live, Idempotency_Key=KEY)
        assert (status, again, launch["id"]) == (201, 200, same["id"])
        assert (await post(live, {**WISH, "spec": "a/b/c"}, Idempotency_Key=KEY))[0] == 422
        others = [
            await post(live, Idempotency_Key=f"{KEY}2"),
            await post(live),
            await post(live, Idempotency_Key=KEY, X_Forwarded_For="192.0.2.1"),
        ]
        assert [status for status, _ in others] == [201] * 3
        assert len({launch["id"], *(each["id"] for _, each in others)}) == 4
        await live.client.delete(live.address + (await until_ended(live, launch))["url"][1:])
        assert (await post(live, Idempotency_Key=KEY))[0] == 201, "that launch is gone"
        assert (await post(live, Idempotency_Key="k" * 256))[0] == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ([], 400), ("x", 400), (None, 400), ({"provider": "fake"}, 400),
        ({**WISH, "link": "x"}, 400), ({**WISH, "more": 1}, 400), ({**WISH, "build_only": 1}, 400),
        ({**WISH, "build_only": True}, 403), ({"link": "what is that"}, 400), ({"provider": "fake", "spec": ""}, 400),
    ],
)  # fmt: skip
async def test_what_is_malformed_starts_nothing(serve: Serve, body: Any, status: int) -> None:
    async with serve(CACHED, gate=True) as live:
        code, reported = await post(live, body)
        assert (code, set(reported)) == (status, {"code", "message"})
        assert live.gate.requests == []


async def test_foreign_page_starts_nothing_and_allowed_one_reads(serve: Serve) -> None:
    async with serve({**CACHED, "BinderHub.cors_allow_origin": "https://docs.example"}, gate=True) as live:
        assert (await post(live, Origin="https://evil.example"))[0] == 403
        assert live.gate.requests == []
        url = live.address + "api/v1/launches"
        origin = {"Origin": "https://docs.example"}
        asked = {**origin, "Access-Control-Request-Method": "POST"}
        preflight = await live.client.options(url, headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://docs.example"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "idempotency-key" in preflight.headers["access-control-allow-headers"]
        assert (await live.client.post(url, json=WISH, headers=origin)).status_code == 201


async def test_the_state_of_an_image(serve: Serve) -> None:
    sets = {"FakeBuilder.lines": "1", "BinderHub.concurrent_build_limit": "1"}
    path = "api/v1/images/fake/owner/name/"
    async with serve(sets, gate=True) as live:
        cold = await get(live, path + "main")
        assert (cold["state"], cold["built"], cold["built_at"], cold["queue"]) == ("cold", False, None, None)
        assert cold["resolved_spec"] == f"owner/name/{cold['ref']}"
        live.gate.shut()
        async with live.stream("build/fake/owner/name/one") as first:
            await first.until("building")
            assert (await get(live, path + "one"))["state"] == "building"
            assert (await get(live, path + "two"))["queue"] == {"position": 1}
            async with live.stream("build/fake/owner/name/two") as second:
                await second.until("waiting")
                while (await get(live, path + "two"))["state"] != "building":
                    await asyncio.sleep(0.02)
                assert (await get(live, path + "two"))["queue"] == {"position": 1}
                assert (await get(live, path + "three"))["queue"] == {"position": 2}
                live.gate.open.set()
                await first.until("ready")
                await second.until("ready")
        ready = await get(live, path + "one")
        assert (ready["state"], ready["built"], ready["queue"]) == ("ready", True, None)
        await live.events("build/fake/owner/name/main")
        assert (await get(live, path + "main"))["state"] == "ready", "cold was true until a build ended"
        assert ready["built_at"] > 1.7e9
        while live.binder.runs._unkept:
            await asyncio.sleep(0.02)
        new = await get(live, path + "new")
        assert (new["state"], new["last_build_seconds"] >= 0) == ("cold", True)
        assert 0 <= new["usual_launch_seconds"] < 60
        assert live.gate.launches == 3


async def test_after_a_restart_it_still_shows_how_long_a_launch_takes(serve: Serve) -> None:
    path = "api/v1/images/fake/owner/name/main"
    async with serve(CACHED) as live:
        assert (await get(live, path))["usual_launch_seconds"] is None
        await live.events("build/fake/owner/name/main")
        usual = (await get(live, path))["usual_launch_seconds"]
    async with serve(CACHED) as live:
        assert (await get(live, path))["usual_launch_seconds"] == usual


async def test_badges_show_ready_cold_or_broken(serve: Serve) -> None:
    async def word(live: Live, spec: str) -> str:
        response = await live.client.get(live.address + f"badge/fake/{spec}.svg")
        assert response.headers["content-type"].startswith("image/svg+xml")
        assert response.headers["cache-control"] == "public, max-age=60"
        return response.text.split("launch: ")[1].split('"')[0]

    async with serve(CACHED) as live:
        assert await word(live, "a/b/c") == "ready"
        assert await word(live, "%3Cscript%3E") == "unknown"
        assert (await live.client.get(live.address + "badge/nope/x.svg")).status_code == 200
    async with serve({"FakeBuilder.fail_at": "build"}) as live:
        assert await word(live, "a/b/c") == "cold"
        [*_, last] = await live.events("build/fake/a/b/x")
        while (await live.client.get(live.address + "api/v1/images/fake/a/b/x")).json()["state"] != "broken":
            await asyncio.sleep(0.05)
        assert await word(live, "a/b/x") == "broken"
        assert last["phase"] == "failed"
        assert (await live.client.get(live.address + "api/v1/images/fake/x")).status_code == 400
        assert (await live.client.get(live.address + "api/v1/images/nope/x")).status_code == 404


async def test_a_log_is_read_while_it_is_written_and_after(serve: Serve) -> None:
    async with serve({"FakeBuilder.lines": "3"}, gate=True) as live:
        live.gate.shut()
        _, launch = await post(live)
        await live.gate.began.wait()
        path = (await get(live, launch["url"]))["log_url"][1:]
        assert (await live.client.get(live.address + path)).text == "gate: building\n"

        async def follow() -> str:
            return (await live.client.get(f"{live.address}{path}?follow=true&format=jsonl")).text

        following = asyncio.create_task(follow())
        done, _ = await asyncio.wait({following}, timeout=0.3)
        assert not done
        live.gate.open.set()
        lines = [json.loads(line) for line in (await following).splitlines()]
        assert [lines[0]["message"], lines[-1]["phase"]] == ["gate: building\n", "built"]
        while live.binder.runs._unkept:
            await asyncio.sleep(0.02)
        kept = await live.client.get(live.address + path, headers={"Accept": "application/jsonl"})
        assert kept.headers["content-type"] == "application/jsonl"
        assert [json.loads(line) for line in kept.text.splitlines()] == lines
        text = await live.client.get(live.address + path + "?format=text")
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
        assert text.text == "".join(line["message"] for line in lines)
        assert (await live.client.get(live.address + path + "?format=pdf")).status_code == 400
        assert (await live.client.get(live.address + "api/v1/builds/0123/log")).status_code == 404


async def test_old_addresses(serve: Serve) -> None:
    async with serve({"BinderHub.base_url": "/b"}) as live:
        for path, target in (
            ("repo/u/r", "/b/v2/gh/u/r/master"),
            ("repo/u/r/", "/b/v2/gh/u/r/master"),
            ("repo/u/r/notebooks/a%20b.ipynb", "/b/v2/gh/u/r/master?urlpath=%2Fnotebooks%2Fa%20b.ipynb"),
        ):
            response = await live.client.get(live.address + path)
            assert (response.status_code, response.headers["location"]) == (302, target)
        providers = {each["id"]: each["displayName"] for each in await get(live, "api/repoproviders")}
        assert providers["fake"] == "Fake"
        config = await get(live, "_config")
        assert config.keys() == providers.keys()
        assert config["fake"] == {
            "text": "Fake repository (nothing is fetched)",
            "tag_text": "Git ref (branch, tag, or commit)",
            "ref_prop_disabled": False,
            "label_prop_disabled": False,
        }
        for address in (live.address, live.address.removesuffix("b/")):
            response = await live.client.get(address + "robots.txt")
            assert response.text == "User-agent: *\nDisallow: /\n"
        for path in ("badge.svg", "badge_logo.svg", "about", "robots.txt", "health", "versions", "metrics"):
            response = await live.client.head(live.address + path)
            assert (response.status_code, response.content) == (200, b""), path


@pytest.mark.slow
async def test_the_description_holds_against_the_routes(serve: Serve, tmp_path: Path) -> None:
    sets = {"FakeBuilder.lines": "2", "FakeRegistry.push_layers": "0", "BinderHub.base_url": "/b/"}
    async with serve(sets) as live:
        program = Path(sys.executable).with_name("schemathesis")
        process = await asyncio.create_subprocess_exec(
            program, "run", live.address + "api/v1/openapi.json", "--checks", "all",
            "--exclude-checks", "unsupported_method,positive_data_acceptance,negative_data_rejection",
            "--max-examples", "25", "--workers", "1", "--request-timeout", "20", "--no-color", "--seed", "1",
            "--generation-database", "none",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()[-6000:]
        assert not [entry for entry in live.logged if entry["event"] == "internal error"]
