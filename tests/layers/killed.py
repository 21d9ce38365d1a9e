"""A process that puts an image together, to be killed at any moment.

``python -m tests.layers.killed FOLDER PREFIX NAME`` makes the image of `GROUPS`; its layers are made one by one.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from .places import alone, package, process_of

GROUPS: Final = alone(package(name, 50_000) for name in ("numpy", "pandas", "six"))


async def main(folder: Path, prefix: str, name: str) -> None:
    process = process_of(folder, prefix)
    # One by one: what has been done when it is killed is then the same each time.
    upload = process.upload(name)
    for each in GROUPS:
        await upload.packages([each])
    await process.build(name, GROUPS, upload=upload)
    await process.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
