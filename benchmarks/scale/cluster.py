"""The cluster of the simulated day, in a process of its own: the small API server, build pods that log, user pods.

    python -m benchmarks.scale.cluster FOLDER SECONDS_OF_A_DAY

says ``ready`` when it listens; ends when its input ends, and then writes the requests that it was asked, as JSON.
The benchmark's launcher, which stands for the hub, asks for user pods at ``/-/users/NAME?image=...``; that is not
counted. Each goes when its time is over.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from aiohttp import web
from attrs import define
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Act, Exit, Line, Wait

from benchmarks.scale.day import BUILD_SECONDS, DAY, SERVER_SECONDS

LINES = 200
"""Of a build's log."""


@define(eq=False)
class DayApi(KubeApi):
    lifetime: float = 1.0
    """Of a user pod, in seconds."""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith("/-/users/"):
            return await super()._answer(request)
        name = request.path.rpartition("/")[2]
        labels = {"app": "jupyterhub", "component": "singleuser-server"}
        container = {"name": "notebook", "image": request.query["image"]}
        self.put_pod({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}})
        asyncio.get_running_loop().call_later(self.lifetime, self.remove_pod, name)
        return web.json_response({})


async def main(folder: Path, seconds: float) -> None:
    chance = random.Random(2)

    def script(pod: dict[str, Any]) -> list[Act]:
        pause = chance.uniform(*BUILD_SECONDS) * seconds / DAY / 10
        acts: list[Act] = []
        for number in range(LINES):
            acts.append(Line(json.dumps({"message": f"step {number}\n", "phase": "building"})))
            if number % (LINES // 10) == 0:
                acts.append(Wait(pause))
        return [*acts, Exit(0)]

    lifetime = SERVER_SECONDS * seconds / DAY
    async with DayApi.running(folder, script=script, bookmarks=5.0, lifetime=lifetime) as api:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps({"requests": api.requests, "pods": len(api.created)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
