"""A thousand clients of one build: each gets the whole log, and there is exactly one pod."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from attrs import define, field
from ringbinder import LaunchRequest
from ringbinder.app import Ringbinder
from ringbinder.runtime.wakeup import Wakeup
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Act, Exit, Hold, Line, Object

from .whole import application

WATCHERS = 1000
LINES = 100
REQUEST = LaunchRequest("fake", "owner/name/main", launch_host="https://binder.example/")


@define
class Watching:
    """How many watch that have read something, or more."""

    count: int = 0
    _more: Wakeup = field(factory=Wakeup)

    def one_more(self) -> None:
        self.count += 1
        self._more.notify_all()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.count < count:
                await self._more.wait()


async def watch(app: Ringbinder, watching: Watching) -> tuple[list[str], str]:
    """What the build has said, and the phase of the last event."""
    session = app.launch(REQUEST)
    lines, last = [], ""
    async for batch in session.read():
        if not last:
            watching.one_more()
        for _, event in batch:
            last = event.phase
            if last == "building":
                lines.append(event.message)
    return lines, last


async def test_a_thousand_watchers_of_two_replicas(api: KubeApi, tmp_path: Path) -> None:
    """They come before the build begins, in the midst of it, and to both of two replicas."""
    go_on, watching = asyncio.Event(), Watching()

    def said(number: int) -> Line:
        return Line(json.dumps({"message": f"line {number}\n", "phase": "building"}))

    def script(pod: Object) -> list[Act]:
        first = [said(number) for number in range(LINES // 2)]
        second = [said(number) for number in range(LINES // 2, LINES)]
        return [*first, Hold(go_on), *second, Exit(0)]

    api.script = script
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with application(api, tmp_path / "a") as a, application(api, tmp_path / "b") as b:
        early = [asyncio.create_task(watch((a, b)[number % 2], watching)) for number in range(WATCHERS // 2)]
        await api.until(lambda: api.requests["get pods/log"] >= 2)
        late = [asyncio.create_task(watch((a, b)[number % 2], watching)) for number in range(WATCHERS // 2)]
        await watching.until(WATCHERS)
        go_on.set()
        reported = await asyncio.gather(*early, *late)
        # Each replica followed it once and looked for the end, if need be again, however many watch.
        assert 4 <= api.requests["get pods/log"] < WATCHERS / 50
    whole = [f"line {number}\n" for number in range(LINES)]
    assert sum(lines == whole and last == "ready" for lines, last in reported) == WATCHERS
    assert len(api.created) == 1
