"""Clients that others wrote, unchanged, against the running server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

HERE = Path(__file__).parent
pytestmark = [pytest.mark.real("npm"), pytest.mark.timeout(300)]
LINK = "fake/owner/name/main"


def node(script: str, *words: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["node", HERE / script, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def client(packages: Path, address: str, spec: str = LINK, **options: Any) -> list[dict[str, Any]]:
    return node("binderhub_client.mjs", str(packages), f"{address}build/", spec, json.dumps(options))


def test_binderhub_client_builds_and_launches(packages: Path, fake: Callable[..., Any]) -> None:
    with fake(**{"BinderHub.base_url": "/b/"}) as address:
        events = client(packages, address)
        phases = [event["phase"] for event in events]
        assert sorted(set(phases), key=phases.index) == [
            "waiting", "building", "pushing", "built", "launching", "ready",
        ]  # fmt: skip
        assert events[-1]["url"].endswith("/")
        assert events[-1]["token"]
        again = client(packages, address, apiToken="not-looked-at")
        assert [event["phase"] for event in again] == [
            "built",
            "launching",
            "launching",
            "launching",
            "ready",
        ]
        assert again[-1]["url"] != events[-1]["url"]


def test_binderhub_client_is_told_why_it_failed(packages: Path, fake: Callable[..., Any]) -> None:
    with fake(**{"FakeBuilder.fail_at": "build"}) as address:
        *_, last = client(packages, address)
        assert (last["phase"], "Fake failure" in last["message"]) == ("failed", True)
        [refused] = client(packages, address, buildToken="bad")
        assert (refused["phase"], refused["message"]) == ("failed", "Invalid build token\n")
        [refused] = client(packages, address, buildOnly=True)
        assert "enable_api_only_mode" in refused["message"]


def test_binderhub_client_builds_only(packages: Path, fake: Callable[..., Any]) -> None:
    with fake(**{"BinderHub.enable_api_only_mode": "true"}) as address:
        *_, last = client(packages, address, buildOnly=True)
        assert (last["phase"], set(last)) == ("ready", {"phase", "message", "imageName"})
        assert "ringbinder_launches" not in last


@pytest.mark.parametrize("closes", [True, False])
def test_eventsource_launches_once(packages: Path, fake: Callable[..., Any], closes: bool) -> None:
    """Also one that never closes by itself: a failed build ends, it reconnects, and is told to give up."""
    fault = {} if closes else {"FakeBuilder.fail_at": "build"}
    with fake(**fault) as address:
        events = node("eventsource.cjs", str(packages), f"{address}build/{LINK}", str(closes).lower())
        told = [event for event in events if "phase" in event]
        assert [event["phase"] for event in told].count("ready" if closes else "failed") == 1
        assert [int(event["id"].split(".")[1]) for event in told] == list(range(len(told)))
        if not closes:
            assert events[-1] == {"error": True, "state": 2, "code": 204}
        metrics = httpx.get(f"{address}metrics", trust_env=False).text
        assert 'binderhub_build_count_total{provider="fake"' in metrics
        assert metrics.count("binderhub_build_count_total{") == 1
