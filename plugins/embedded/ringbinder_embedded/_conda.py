"""Program that makes a conda environment with py-rattler: ``_conda.py JOB``.

It runs as a process of its own, so that a build's limits end it as they end uv. JOB is a file of JSON with
``prefix``, ``cache``, ``alias``, ``root`` (of relative channels) and either ``channels`` and ``specs``, or
``lock``: then the lock file's PyPI packages are written to ``pip`` as lines of a requirements file. Packages of
this machine's folders must lie in one of ``folders``.

Builds share the folder ``cache``. In it, what comes from one set of channels is kept apart from what comes from any
other: rattler names a package's folder by the package's name, version and build, and a channel's data by 32 bits of a
hash, so that one channel could stand in for another. A package without a SHA-256 could not be distinguished from
another one of the same name: then, as for packages of this machine, all packages are kept in ``own``, which no other
build sees.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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

_ADVICE = "which the operator has not named in LocalBuilder.conda_channels"
_MESSAGE = 1000
"""Characters of an error's message."""


def repodata_cache(job: dict[str, Any], channels: Iterable[Channel]) -> Path:
    """Return where the data of `channels` is kept. Raises ValueError for channels that may not be read."""
    for channel in channels:
        if (folder := _folder(channel.base_url)) is not None:
            for subdir in (Subdir.current(), Subdir("noarch")):
                place = folder / str(subdir)
                for path in (place, *place.glob("*repodata*")):
                    _require_readable(job, path, "The channel")
    return Path(job["cache"]) / "repodata" / _digest(channel.base_url for channel in channels)


def package_cache(job: dict[str, Any], records: list[RepoDataRecord]) -> Path:
    """Return where the packages `records` are kept. Raises ValueError for packages that may not be read."""
    shared = True
    for record in records:
        if (path := _folder(record.url)) is not None:
            _require_readable(job, path, record.name.normalized)
            shared = False
        shared = shared and record.sha256 is not None
    sources = (record.url.rsplit("/", 2)[0] for record in records)
    return Path(job["cache"]) / "pkgs" / _digest(sources) if shared else Path(job["own"])


def _folder(address: str) -> Path | None:
    """Return the path on this machine that `address` stands for; None: it is elsewhere."""
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme in ("file", "") else None


def _require_readable(job: dict[str, Any], path: Path, what: str) -> None:
    if not any(Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) for folder in job["folders"]):
        raise ValueError(f"{what} is in a folder of this machine outside of the repository, {_ADVICE}")


def _digest(addresses: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(set(addresses))).encode()).hexdigest()[:32]


async def solved(job: dict[str, Any]) -> list[RepoDataRecord]:
    config = ChannelConfig(job["alias"], job["root"])
    channels = [Channel(channel, config) for channel in job["channels"]]
    message = ", ".join(job["specs"])
    print(f"Solving {message} with {', '.join(job['channels'])}", flush=True)  # noqa: T201
    return await solve(
        channels,
        [MatchSpec(spec) for spec in job["specs"]],
        gateway=Gateway(repodata_cache(job, channels)),
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
    await install(
        records,
        job["prefix"],
        cache_dir=package_cache(job, records),
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
