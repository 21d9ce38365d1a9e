"""Sessions are bounded: in what one keeps, in how many one client has, and in how many there are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from realparts.serving import Live, Serve
from ringbinder.model import LONGEST_SPEC, Client, LaunchRequest, User

FORWARDED = {"Ringbinder.trusted_proxies": "[127.0.0.1]"}
FAILING = "build/nowhere/a/b"


async def failed(live: Live, ip: str = "192.0.2.1") -> dict[str, Any]:
    """The only event of a launch that cannot succeed."""
    (event,) = await live.events(FAILING, {"X-Forwarded-For": ip})
    return event


@pytest.mark.parametrize("route", ["build", "api/v1/images"])
async def test_spec_of_60_kb_is_refused_and_not_kept(serve: Serve, route: str) -> None:
    async with serve() as live:
        answer = await live.client.get(f"{live.address}{route}/fake/{'x' * 60_000}")
        assert f"more than {LONGEST_SPEC} bytes" in answer.text
        assert '"spec-invalid"' in answer.text
        assert len(answer.content) < 1000
        assert not live.binder.sessions.known
        assert max(len(str(entry)) for entry in live.logged) < 8000


async def test_spec_of_60_kb_in_json_is_refused(serve: Serve) -> None:
    async with serve() as live:
        wish = {"provider": "fake", "spec": "x" * 60_000}
        answer = await live.client.post(f"{live.address}api/v1/launches", json=wish)
        assert (answer.status_code, answer.json()["code"]) == (400, "spec-invalid")
        assert not live.binder.sessions.known


@pytest.mark.parametrize(("length", "phase"), [(LONGEST_SPEC, "launch"), (LONGEST_SPEC + 1, "refusal")])
async def test_spec_is_refused_from_its_bound_on(serve: Serve, length: int, phase: str) -> None:
    async with serve() as live:
        await live.events("build/fake/" + "a" * length)
        assert len(live.binder.sessions.known) == (phase == "launch")


async def test_launch_keeps_no_long_header_or_path(serve: Serve) -> None:
    long, host = "x" * 10_000, "a." * 5000 + "example"
    allowed = {"Ringbinder.allowed_hosts": "['*']", "BinderHub.cors_allow_origin": "'*'"}
    async with serve(allowed, gate=True) as live:
        headers = {"User-Agent": long, "Host": host, "Origin": f"http://{host}"}
        await live.events(f"build/fake/a/b/main?urlpath={long}", headers)
        (request,) = live.gate.requests
    assert len(str(request) + request.urlpath + request.launch_host) < 4000


async def test_client_beyond_its_limit_gets_one_event(serve: Serve) -> None:
    limits = {**FORWARDED, "Ringbinder.max_sessions_per_client": "3", "Ringbinder.session_memory": "7m"}
    async with serve(limits) as live:
        assert [(await failed(live))["code"] for _ in range(3)] == ["provider-unknown"] * 3
        sessions = live.binder.sessions
        first = min(timer.when() for timer in sessions._timers.values())
        event = await failed(live)
        assert (event["code"], event["status_code"]) == ("refused", 429)
        assert 0 <= event["retry_after"] - (first - asyncio.get_running_loop().time()) <= 2
        assert f"Try again in {event['retry_after']} seconds" in event["message"]
        assert len(sessions.known) == 3
        assert (await failed(live, "192.0.2.2"))["code"] == "provider-unknown"


async def test_program_beyond_its_limit_gets_the_wait(serve: Serve) -> None:
    async with serve({"Ringbinder.max_sessions_per_client": "1"}) as live:
        url, wish = f"{live.address}api/v1/launches", {"provider": "nowhere", "spec": "a"}
        assert (await live.client.post(url, json=wish)).status_code == 201
        answer = await live.client.post(url, json=wish)
        assert (answer.status_code, answer.json()["code"]) == (429, "refused")
        assert int(answer.headers["Retry-After"]) > 1
        assert len(live.binder.sessions.known) == 1


async def test_server_beyond_its_limit_refuses_everybody(serve: Serve) -> None:
    async with serve({**FORWARDED, "Ringbinder.max_sessions": "2"}) as live:
        for number in (1, 2):
            assert (await failed(live, f"192.0.2.{number}"))["code"] == "provider-unknown"
        event = await failed(live, "192.0.2.3")
        assert (event["code"], event["status_code"]) == ("refused", 503)
        assert len(live.binder.sessions.known) == 2


async def test_place_is_free_once_a_session_is_forgotten(serve: Serve) -> None:
    async with serve({"Ringbinder.max_sessions_per_client": "1"}) as live:
        await failed(live)
        (session,) = live.binder.sessions.known.values()
        live.binder.sessions.forget(session)
        assert (await failed(live))["code"] == "provider-unknown"


async def test_launches_that_succeeded_make_room(serve: Serve) -> None:
    async with serve({"Ringbinder.max_sessions_per_client": "2"}) as live:
        for _ in range(4):
            assert (await live.events("build/fake/a/b/main"))[-1]["phase"] == "ready"
        assert len(live.binder.sessions.known) == 2


async def test_launches_under_way_are_not_forgotten(serve: Serve) -> None:
    async with serve({"Ringbinder.max_sessions_per_client": "1"}, gate=True) as live:
        live.gate.shut()
        async with live.stream("build/fake/a/b/main") as stream:
            await stream.next()
            (event,) = await live.events("build/fake/a/b/main")
            assert (event["code"], event["retry_after"]) == ("refused", 600)
            live.gate.open.set()
            assert (await stream.rest())[-1]["phase"] == "ready"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_owner_is_an_address_or_a_home_network(one: str, other: str, same: bool) -> None:
    owners = {LaunchRequest("fake", "a", client=Client(ip)).owner for ip in (one, other)}
    assert (len(owners) == 1) is same


def test_owner_is_the_user_where_people_log_in() -> None:
    asked = [LaunchRequest("fake", "a", user=User(name), client=Client("192.0.2.1")) for name in ("a", "b")]
    assert asked[0].owner != asked[1].owner
