"""Program that has py-rattler install packages, as itself: ``rattler_install.py RECORDS FOLDER PREFIX CACHE``.

FOLDER gets what an environment at PREFIX would hold. A process of its own, since rattler's threads outlive it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from rattler import PrefixRecord, install


async def main(records: Path, folder: str, prefix: str, cache: Path) -> None:
    read = []
    for record in json.loads(records.read_text()):
        records.write_text(json.dumps(record))
        read.append(PrefixRecord.from_path(records))
    await install(
        list(read),
        folder,
        cache_dir=cache,
        show_progress=False,
        execute_link_scripts=False,
        alternative_target_prefix=prefix,
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])))
    sys.stdout.flush()
    os._exit(0)
