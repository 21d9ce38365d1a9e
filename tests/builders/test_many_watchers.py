"""A thousand clients of one build: each gets the whole log, and there is exactly one pod."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from ringbinder import LaunchRequest
from ringbinder.app import Ringbinder
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Exit, Hold, Line, Wait

from .whole import application

WATCHERS = 1000
LINES = 100
REQUEST = LaunchRequest("fake", "owner/name/main", launch_host="https://binder.example/")


async def watch(app: Ringbinder) -> tuple[list[str], str]:
    """What the build has said, and the phase of the last event."""
    session = app.launch(REQUEST)
    lines, last = [], ""
    async for batch in session.read():
        for _, event in batch:
            last = event.phase
            if last == "building":
                lines.append(event.message)
    return lines, last


async def test_a_thousand_watchers_of_two_replicas(api: KubeApi, tmp_path: Path) -> None:
    """They come before the build begins, in the midst of it, and to both of two replicas."""
    go_on = asyncio.Event()

    def said(number: int) -> Line:
        return Line(json.dumps({"message": f"line {number}\n", "phase": "building"}))

    def script(pod: object) -> list[object]:
        first = [said(number) for number in range(LINES // 2)]
        second = [act for number in range(LINES // 2, LINES) for act in (said(number), Wait(0.002))]
        return [*first, Hold(go_on), *second, Exit(0)]

    api.script = script  # type: ignore[assignment]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with application(api, tmp_path / "a") as a, application(api, tmp_path / "b") as b:
        early = [asyncio.create_task(watch((a, b)[number % 2])) for number in range(WATCHERS // 2)]
        async with asyncio.timeout(60):
            while api.requests["get pods/log"] < 2:
                await asyncio.sleep(0.02)
        late = [asyncio.create_task(watch((a, b)[number % 2])) for number in range(WATCHERS // 2)]
        await asyncio.sleep(0.2)
        go_on.set()
        reported = await asyncio.gather(*early, *late)
        assert api.requests["get pods/log"] == 4  # each replica followed it once, and looked for the end
    whole = [f"line {number}\n" for number in range(LINES)]
    assert sum(lines == whole and last == "ready" for lines, last in reported) == WATCHERS
    assert len(api.created) == 1
