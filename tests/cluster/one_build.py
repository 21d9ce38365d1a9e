"""One build of the builder `kubernetes` in a process of its own, for a test that kills it.

Arguments: a folder, the namespace, what the pod's shell runs.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ringbinder.testing import RecordingLog

from tests.cluster.building import builder, make_plan, target


async def main(folder: str, namespace: str, script: str) -> None:
    plan = make_plan()
    log = RecordingLog()
    async with builder(Path(folder), namespace, script) as running:
        building = asyncio.create_task(running.build(plan, target(plan), log))
        await log.until("line 5")
        print("it builds", flush=True)
        await building


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
