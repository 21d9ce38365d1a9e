"""A server with an access token answers to nobody else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.server.conftest import Serve

TOKEN = "planted-hunter2-access"
SETS = {"Ringbinder.access_token": TOKEN}
GUARDED = (
    "",
    "v2/fake/a/b/c",
    "build/fake/a/b/c",
    "metrics",
    "api/repoproviders",
    "nowhere",
    "api/v1/launches",
)


async def test_without_it_nothing_but_probes_and_badges(serve: Serve) -> None:
    async with serve(SETS) as live:
        cookie = f"ringbinder-access-{httpx.URL(live.address).port}"
        wrong: tuple[dict[str, Any], ...] = (
            {},
            {"headers": {"Authorization": f"Bearer {TOKEN}x"}},
            {"headers": {"Authorization": f"Basic {TOKEN}"}},
            {"params": {"token": "x"}},
            {"headers": {"Cookie": f"ringbinder-access={TOKEN}; {cookie}={TOKEN}"}},
            {"headers": {"Cookie": f"{cookie}=\xff\xfe".encode("latin-1")}},
        )
        for path in GUARDED:
            for request in wrong:
                answer = await live.client.get(live.address + path, **request)
                assert answer.status_code == 401, (path, request)
                assert TOKEN not in answer.text
        assert (await live.client.post(live.address + "api/v1/launches", json={})).status_code == 401
        assert not live.binder.sessions.known
        for path in ("health", "versions", "badge.svg", "badge_logo.svg", "favicon.ico"):
            assert (await live.client.get(live.address + path)).status_code == 200, path
        assert TOKEN not in str(live.logged)


@pytest.mark.parametrize("scheme", ["Bearer", "token"])
async def test_a_program_sends_a_header(serve: Serve, scheme: str) -> None:
    async with serve(SETS) as live:
        events = await live.events("build/fake/a/b/c", headers={"Authorization": f"{scheme} {TOKEN}"})
        assert events[-1]["phase"] == "ready"


async def test_a_browser_is_given_a_cookie_and_a_clean_address(serve: Serve) -> None:
    async with serve(SETS | {"BinderHub.base_url": "/some/"}) as live:
        address = live.address + "v2/fake/a/b/c?urlpath=lab%2Ftree&token=" + TOKEN
        first = await live.client.get(address)
        assert first.status_code == 200
        assert TOKEN not in first.text
        assert 'location.replace("/some/v2/fake/a/b/c?urlpath=lab%2Ftree")' in first.text
        assert first.headers["referrer-policy"] == "no-referrer"
        assert first.headers["cache-control"] == "no-store"
        cookie = first.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=Lax", "Path=/some/", "Max-Age=43200"} <= set(cookie.split("; "))
        page = await live.client.get(live.address + "v2/fake/a/b/c?urlpath=lab%2Ftree")
        assert page.status_code == 200
        for path, status in (("nowhere", 404), ("v2", 404), ("api/v1/nowhere", 404), ("metrics", 401)):
            assert (await live.client.get(live.address + path)).status_code == status, path
        for path, status in (("nowhere", 404), ("about", 405), ("api/v1/launches", 401)):
            assert (await live.client.post(live.address + path)).status_code == status, path
        key = re.search(r'localStorage.setItem\("ringbinder-access /some/", "([^"]+)"\)', first.text)
        assert key is not None
        bearer = {"Authorization": f"Bearer {key[1]}"}
        assert (await live.events("build/fake/a/b/c", bearer))[-1]["phase"] == "ready"
        assert TOKEN not in str(live.logged)
        assert key[1] not in str(live.logged)


async def test_a_link_cannot_send_the_browser_elsewhere(serve: Serve) -> None:
    async with serve(SETS) as live:
        answer = await live.client.get(live.address + "/evil.example/?token=" + TOKEN)
        assert answer.status_code == 404


async def test_the_wire_is_the_same_with_a_token(serve: Serve) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with serve(SETS) as live:
        # A native EventSource can send no header, and reconnects to the same address.
        async with live.stream(f"build/fake/a/b/c?token={TOKEN}") as stream:
            whole = await stream.rest()
        assert [event["phase"] for event in whole][-1] == "ready"
        resumed = {"Last-Event-ID": stream.ids[0]}
        assert await live.events(f"build/fake/a/b/c?token={TOKEN}", resumed) == whole[1:]
        assert await live.events("build/fake/a/b/c", {**resumed, **bearer}) == whole[1:]
        answer = await live.client.get(live.address + "build/fake/a/b/c", headers=resumed)
        assert answer.status_code == 401, "the id alone opens nothing"
        made = await live.client.post(live.address + "api/v1/launches", json={"link": "fake/a/b/c"}, headers=bearer)
        assert made.status_code == 201
        launch = live.address + made.json()["url"][1:]
        assert (await live.client.get(launch)).status_code == 401
        assert (await live.client.get(launch, headers=bearer)).status_code == 200
        preflight = await live.client.options(launch)
        assert preflight.status_code == 200
        assert TOKEN not in str(live.logged)
