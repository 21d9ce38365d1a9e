"""Clients that others wrote, unchanged, against the running server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from realparts.npm import Packages

pytestmark = [pytest.mark.real("npm"), pytest.mark.timeout(300)]
LINK = "fake/owner/name/main"


async def test_binderhub_client_builds_and_launches(packages: Packages, fake: Callable[..., Any]) -> None:
    with fake(**{"BinderHub.base_url": "/b/"}) as address:
        events = await packages.binderhub_client(address, LINK)
        phases = [event["phase"] for event in events]
        assert sorted(set(phases), key=phases.index) == [
            "waiting", "building", "pushing", "built", "launching", "ready",
        ]  # fmt: skip
        assert events[-1]["url"].endswith("/")
        assert events[-1]["token"]
        again = await packages.binderhub_client(address, LINK, apiToken="not-looked-at")
        assert [event["phase"] for event in again] == [
            "built",
            "launching",
            "launching",
            "launching",
            "ready",
        ]
        assert again[-1]["url"] != events[-1]["url"]


async def test_binderhub_client_learns_why_it_failed(packages: Packages, fake: Callable[..., Any]) -> None:
    with fake(**{"FakeBuilder.fail_at": "build"}) as address:
        *_, last = await packages.binderhub_client(address, LINK)
        assert (last["phase"], "Fake failure" in last["message"]) == ("failed", True)
        [refused] = await packages.binderhub_client(address, LINK, buildToken="bad")
        assert (refused["phase"], refused["message"]) == ("failed", "Invalid build token\n")
        [refused] = await packages.binderhub_client(address, LINK, buildOnly=True)
        assert "enable_api_only_mode" in refused["message"]


async def test_binderhub_client_builds_only(packages: Packages, fake: Callable[..., Any]) -> None:
    with fake(**{"BinderHub.enable_api_only_mode": "true"}) as address:
        *_, last = await packages.binderhub_client(address, LINK, buildOnly=True)
        assert (last["phase"], set(last)) == ("ready", {"phase", "message", "imageName"})
        assert "ringbinder_launches" not in last


@pytest.mark.parametrize("closes", [True, False])
async def test_eventsource_launches_once(packages: Packages, fake: Callable[..., Any], closes: bool) -> None:
    """Also one that never closes by itself: a failed build ends, it reconnects, and is told to give up."""
    fault = {} if closes else {"FakeBuilder.fail_at": "build"}
    with fake(**fault) as address:
        events = await packages.eventsource(f"{address}build/{LINK}", closes=closes)
        reported = [event for event in events if "phase" in event]
        assert [event["phase"] for event in reported].count("ready" if closes else "failed") == 1
        assert [int(event["id"].split(".")[1]) for event in reported] == list(range(len(reported)))
        if not closes:
            assert events[-1] == {"error": True, "state": 2, "code": 204}
        metrics = httpx.get(f"{address}metrics", trust_env=False).text
        assert 'binderhub_build_count_total{provider="fake"' in metrics
        assert metrics.count("binderhub_build_count_total{") == 1
