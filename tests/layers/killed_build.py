"""A process with the builder `layers`, to be killed at any moment; it prints its log.

``python -m tests.layers.killed_build STATE REGISTRY REPOSITORY`` builds the folder REPOSITORY.
"""

from __future__ import annotations

import asyncio
import sys
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
    """A log on standard output."""

    def line(self, message: str, phase: Phase | None = None) -> None:
        print(message.rstrip("\n"), flush=True)

    def progress(self, layers: Mapping[str, Any], message: str = "Pushing image\n") -> None:
        self.line(message)


async def main(state: Path, registry: str, repository: Path) -> None:
    server = OciServer(url=registry)
    async with (
        registry_context(state, server) as context,
        Site.open(context, f"{server.host}/binder-", base_image=f"{server.host}/base:1") as site,
    ):
        plan = site.plan(repository, FILES)
        await site.builder.build(plan, site.target(plan), Printed())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
