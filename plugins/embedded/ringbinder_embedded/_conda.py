"""Program that makes a conda environment with py-rattler: ``_conda.py JOB``.

It runs as a process of its own, so that a build's limits end it as they end uv. JOB is a file of JSON with
``prefix``, ``cache``, ``alias``, ``root`` (of relative channels) and either ``channels`` and ``specs``, or
``lock``: then the lock file's PyPI packages are written to ``pip`` as lines of a requirements file.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from rattler import (
    Channel,
    ChannelConfig,
    Gateway,
    LockFile,
    MatchSpec,
    RepoDataRecord,
    Subdir,
    VirtualPackage,
    install,
    solve,
)


async def solved(job: dict[str, Any]) -> list[RepoDataRecord]:
    config = ChannelConfig(job["alias"], job["root"])
    channels = [Channel(channel, config) for channel in job["channels"]]
    told = ", ".join(job["specs"])
    print(f"Solving {told} with {', '.join(job['channels'])}", flush=True)  # noqa: T201
    return await solve(
        channels,
        [MatchSpec(spec) for spec in job["specs"]],
        gateway=Gateway(Path(job["cache"]) / "repodata"),
        platforms=[Subdir.current(), Subdir("noarch")],
        virtual_packages=VirtualPackage.detect(),
    )


def locked(job: dict[str, Any]) -> list[RepoDataRecord]:
    environment = LockFile.from_path(Path(job["lock"])).default_environment()
    if environment is None:
        raise ValueError("the lock file has no environment named 'default'")
    here = str(Subdir.current())
    for platform in environment.platforms():
        if str(platform.name) == here:
            packages = environment.pypi_packages_for_platform(platform) or []
            lines = [_line(package.name, package.location) for package in packages]
            Path(job["pip"]).write_text("".join(f"{line}\n" for line in lines))
            return environment.conda_repodata_records_for_platform(platform) or []
    names = ", ".join(str(platform.name) for platform in environment.platforms())
    raise ValueError(f"the lock file is for {names}; this machine is {here}")


def _line(name: str, location: str) -> str:
    return f"{name} @ {location}" if "://" in location else location


async def main(job: dict[str, Any]) -> None:
    records = locked(job) if "lock" in job else await solved(job)
    for record in sorted(records, key=lambda record: record.name.normalized):
        print(f" + {record.name.normalized} {record.version} {record.build}", flush=True)  # noqa: T201
    await install(records, job["prefix"], cache_dir=Path(job["cache"]) / "pkgs", show_progress=False)


if __name__ == "__main__":
    code = 0
    try:
        asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
    except Exception as error:  # what rattler raises has no base class of its own
        print(f"error: {' '.join(str(error).split())}", flush=True)  # noqa: T201
        code = 1
    # rattler's threads are still there: while Python tidies up they crash it, in one of four runs.
    os._exit(code)
