"""Program that installs conda packages with py-rattler: ``_conda.py JOB``.

It runs as a process of its own, so that a build's limits end it as they end uv. JOB is a file of JSON with ``records``
(as `ringbinder_recipe.conda.CondaPackage` has them), ``prefix``, ``cache`` and ``own``. Packages of this machine's
folders must lie in one of ``folders``.

Builds share the folder ``cache``. In it, what comes from one set of channels is kept apart from what comes from any
other: rattler names a package's folder by the package's name, version and build, so that one channel could stand in
for another. A package without a SHA-256 could not be distinguished from another one of the same name: then, as for
packages of this machine, all packages are kept in ``own``, which no other build sees.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rattler import PrefixRecord, install

_ADVICE = "which the operator has not named in LocalBuilder.conda_channels"
_MESSAGE = 1000
"""Characters of an error's message."""


def package_cache(job: dict[str, Any]) -> Path:
    """Return where the packages are kept. Raises ValueError for packages that may not be read."""
    shared = True
    for record in job["records"]:
        if (path := _path(record["url"])) is not None:
            if not any(_is_below(path, folder) for folder in job["folders"]):
                name = record["name"]
                raise ValueError(f"{name} is in a folder of this machine outside of the repository, {_ADVICE}")
            shared = False
        shared = shared and bool(record.get("sha256"))
    if not shared:
        return Path(job["own"])
    sources = {record["url"].rsplit("/", 2)[0] for record in job["records"]}
    return Path(job["cache"]) / "pkgs" / hashlib.sha256("\n".join(sorted(sources)).encode()).hexdigest()[:32]


def _path(address: str) -> Path | None:
    """Return the path on this machine that `address` stands for; None: it is elsewhere."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme in ("file", "") else None


def _is_below(path: Path, folder: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def read_records(job: dict[str, Any]) -> list[PrefixRecord]:
    """Return the records of `job`. py-rattler reads them from files of conda-meta alone, one each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "record.json")
        records = []
        for record in job["records"]:
            file.write_text(json.dumps(record))
            records.append(PrefixRecord.from_path(file))
    return records


async def main(job: dict[str, Any]) -> None:
    await install(
        list(read_records(job)),
        job["prefix"],
        cache_dir=package_cache(job),
        show_progress=False,
        execute_link_scripts=False,  # they are strangers' code
    )


if __name__ == "__main__":
    code = 0
    try:
        asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
    except Exception as error:  # what rattler raises has no base class of its own
        print(f"error: {' '.join(str(error).split())[:_MESSAGE]}", flush=True)  # noqa: T201
        code = 1
    # rattler's threads are still there: while Python tidies up they crash it, in one of four runs.
    os._exit(code)
