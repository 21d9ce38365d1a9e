"""A server with an access token answers to nobody else."""

from __future__ import annotations

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
        wrong: tuple[dict[str, Any], ...] = (
            {},
            {"headers": {"Authorization": f"Bearer {TOKEN}x"}},
            {"headers": {"Authorization": f"Basic {TOKEN}"}},
            {"params": {"access_token": "x"}},
            {"headers": {"Cookie": f"ringbinder-access={TOKEN}"}},
            {"headers": {"Cookie": b"ringbinder-access=\xff\xfe"}},
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
        address = live.address + "v2/fake/a/b/c?urlpath=lab%2Ftree&access_token=" + TOKEN
        first = await live.client.get(address)
        assert first.status_code == 303
        assert first.headers["location"] == "/some/v2/fake/a/b/c?urlpath=lab%2Ftree"
        cookie = first.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=Lax", "Path=/some/"} <= set(cookie.split("; "))
        page = await live.client.get(httpx.URL(live.address).join(first.headers["location"]))
        assert page.status_code == 200
        assert (await live.events("build/fake/a/b/c"))[-1]["phase"] == "ready"
        assert TOKEN not in str(live.logged)


async def test_a_link_cannot_send_the_browser_elsewhere(serve: Serve) -> None:
    async with serve(SETS) as live:
        answer = await live.client.get(live.address + "/evil.example/?access_token=" + TOKEN)
        assert not answer.headers.get("location", "/").startswith("//")
