"""A build of one image in a process of its own, to be killed at any moment; and what makes the image whole.

``python -m tests.embedded.store_killed STATE CACHE SOURCE`` builds and publishes it, then prints ``published``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Final

import structlog
from ringbinder.folder_image import FolderImage
from ringbinder.model import Image, Plan
from ringbinder.plugins.context import Context
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from ringbinder.testing import RecordingLog, folder_plan, make_context
from ringbinder_embedded.builder import LocalBuilder, LocalBuilderOptions
from ringbinder_embedded.registry import LocalRegistry, LocalRegistryOptions

FILES: Final = 200
SOURCE: Final = {
    "requirements.txt": "six==1.17.0\n",
    "data/table.csv": "a,b\n" * 50_000,
    # Some of it in a session of its own and in the background, as careless scripts do.
    "postBuild": "#!/bin/sh\nset -e\nmkdir made\n(setsid sh -c 'sleep 0.2; echo late > late.txt' &)\n"
    f"for i in $(seq {FILES}); do echo $i > made/$i; done\nsleep 0.3\necho end > made/end\n",
}


def context(state: Path, cache: Path, fetch: Context) -> Context:
    services = Services(structlog.get_logger(), Paths(state, cache))
    return Context("local", services, structlog.get_logger(), fetch.application)


def plan_of(source: Path) -> Plan:
    return folder_plan(source, SOURCE)


def faults(image: Image) -> list[str]:
    """What a launch would miss in `image`; a whole one lacks nothing."""
    assert image.path is not None
    entry = FolderImage(image.path)
    box = entry.box.place
    found = []
    made = {path.name for path in (box / "repo" / "made").glob("*")}
    if entry.box.is_folder("env") and made != {*map(str, range(1, FILES + 1)), "end"}:
        found.append(f"postBuild made {len(made)} files")
    if (box / "repo" / "data" / "table.csv").read_text() != SOURCE["data/table.csv"]:
        found.append("the content differs")
    if (box / "tmp").exists():
        found.append("the temporary folder is there")
    code = "import six, ipykernel, pip; print(six.__version__)"
    done = subprocess.run([entry.python, "-c", code], capture_output=True, text=True)
    if done.stdout != "1.17.0\n":
        found.append(f"the environment: {done.stderr[-200:]}")
    return found


async def main(state: Path, cache: Path, source: Path) -> None:
    local = context(state, cache, make_context(state / "unused", "local"))
    registry = LocalRegistry(LocalRegistryOptions(), local)
    plan = plan_of(source)
    log = RecordingLog()
    async with registry.lifespan():
        target = await registry.target(plan)
        built = await LocalBuilder(LocalBuilderOptions(), local).build(plan, target, log)
        assert isinstance(built, Image)
        image = await registry.push(built, target, log)
        assert image is not None
        assert (found := faults(image)) == [], found  # pytest does not add the values to the message in this process
    await local.services.close()
    print("published", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:])))
