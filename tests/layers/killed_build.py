"""A process with the builder `layers`, to be killed where it stops; it prints its log.

``python -m tests.layers.killed_build STATE REGISTRY REPOSITORY LINE`` builds the folder REPOSITORY up to
the line with LINE in its log.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import define
from ringbinder.protocol import Phase
from ringbinder.testing.ociregistry import OciServer

from .building import Site
from .conftest import registry_context

FILES: Final = {"requirements.txt": "gamma\n", "a.txt": "text", ".git/HEAD": "ref"}


@define
class Printed:
    """A log on standard output, where all ends that comes to the line with `last` in it."""

    last: str

    def line(self, message: str, phase: Phase | None = None) -> None:
        print(message.rstrip("\n"), flush=True)
        if self.last in message:
            threading.Event().wait()

    def progress(self, layers: Mapping[str, Any], message: str = "Pushing image\n") -> None:
        self.line(message)


async def main(state: Path, registry: str, repository: Path, last: str) -> None:
    server = OciServer(url=registry)
    async with (
        registry_context(state, server) as context,
        Site.open(context, f"{server.host}/binder-", base_image=f"{server.host}/base:1") as site,
    ):
        plan = site.plan(repository, FILES)
        await site.builder.build(plan, site.target(plan), Printed(last))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
