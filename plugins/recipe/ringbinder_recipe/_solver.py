"""Program that finds the conda packages of an environment with py-rattler: ``_solver.py JOB``. It installs nothing.

It runs as a process of its own, so that limits end it as they end uv. JOB is a file of JSON as
`ringbinder_recipe.conda.SolverJob` writes it; the file that it names as ``output`` gets what `Solution` reads.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rattler import (
    BuildString,
    Channel,
    ChannelConfig,
    CondaLockedSourcePackage,
    Gateway,
    GenericVirtualPackage,
    LockFile,
    MatchSpec,
    PackageName,
    PackageRecord,
    PypiLockedPackage,
    RepoDataRecord,
    Subdir,
    Version,
    VirtualPackage,
    solve,
)

_MESSAGE = 1000
"""Characters of an error's message."""
_LOGIN = re.compile(r"//[^/\s\"']*@")
_TOKEN = re.compile(r"/t/[^/\s\"']+/")


class RefusedError(Exception):
    """A channel or a package is where this server takes none from."""


def allowed_addresses(job: dict[str, Any], config: ChannelConfig) -> list[str] | None:
    """Return the addresses that packages may come from; None: from anywhere."""
    if job["only"] is None:
        return None
    return [f"{job['alias'].rstrip('/')}/", *(Channel(channel, config).base_url for channel in job["only"])]


def require_allowed(job: dict[str, Any], address: str, allowed: list[str] | None, what: str) -> None:
    if allowed is None:
        return
    address = _plain(address)
    if "/.." in unquote(address) or not any(address.startswith(_plain(place)) for place in allowed):
        raise RefusedError(f"{what} is not below {_plain(job['alias'])}, nor named in {job['option']}")


def _plain(text: str) -> str:
    """Return `text` with addresses that have neither a password nor a token."""
    return _TOKEN.sub("/", _LOGIN.sub("//", text))


def repodata_cache(job: dict[str, Any], channels: Iterable[Channel]) -> Path:
    """Return where the data of `channels` is kept. Raises `RefusedError` for channels that may not be read.

    rattler names a channel's data by 32 bits of a hash, so that one channel could stand in for another: what comes
    from one set of channels is kept apart from what comes from any other.
    """
    addresses = [channel.base_url for channel in channels]
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme in ("file", ""):
            for subdir in (job["platform"] or str(Subdir.current()), "noarch"):
                place = Path(unquote(parts.path)) / subdir
                for path in (place, *place.glob("*repodata*")):
                    _require_readable(job, path)
    digest = hashlib.sha256("\n".join(sorted(set(addresses))).encode()).hexdigest()[:32]
    return Path(job["cache"]) / "repodata" / digest


def _require_readable(job: dict[str, Any], path: Path) -> None:
    if not any(Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) for folder in job["folders"]):
        raise RefusedError(
            "The channel is in a folder of this machine outside of the repository, which the operator has not named "
            f"in {job['option']}"
        )


def read_specs(job: dict[str, Any], config: ChannelConfig) -> tuple[list[Channel], list[MatchSpec]]:
    """Return the channels and specs of `job`; a channel that only a spec names comes last, as for conda."""
    channels = [Channel(channel, config) for channel in job["channels"]]
    specs = []
    for line in job["specs"]:
        name, separator, rest = line.partition("::")
        if separator and "[" not in name:
            # py-rattler would search for the name at conda.anaconda.org, whatever the alias is.
            named = Channel(name, config)
            named = next((channel for channel in channels if channel.name == named.name), named)
            line = f"{named.base_url}::{rest}"
        spec = MatchSpec(line)
        if job["only"] is not None and 'url="' in str(spec):
            raise RefusedError("A package that is named by its address is of no channel")
        if spec.channel is not None and all(channel.base_url != spec.channel.base_url for channel in channels):
            channels.append(spec.channel)
        specs.append(spec)
    return channels, specs


async def solved(job: dict[str, Any], config: ChannelConfig) -> list[RepoDataRecord]:
    channels, specs = read_specs(job, config)
    allowed = allowed_addresses(job, config)
    for channel in channels:
        parts = urlsplit(channel.base_url)
        require_allowed(job, channel.base_url, allowed, f"The channel {parts.hostname or ''}{parts.path.rstrip('/')}")
    print(f"Solving {', '.join(job['specs'])} with {', '.join(map(_plain, job['channels']))}", flush=True)  # noqa: T201
    records = await solve(
        channels,
        specs,
        gateway=Gateway(repodata_cache(job, channels)),
        platforms=[Subdir(job["platform"]) if job["platform"] else Subdir.current(), Subdir("noarch")],
        virtual_packages=virtual_packages(job["virtual_packages"]),
        channel_relations="disabled",  # a channel may not bring in others
    )
    for record in records:
        require_allowed(job, record.url, allowed, record.name.normalized)
    return records


def virtual_packages(named: list[str] | None) -> list[VirtualPackage] | list[GenericVirtualPackage]:
    """Return the packages `named` (``__glibc=2.36=0``); None: those of this machine."""
    if named is None:
        return VirtualPackage.detect()
    return [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
        for name, version, build in (text.split("=") for text in named)
    ]


def locked(job: dict[str, Any], config: ChannelConfig) -> tuple[list[RepoDataRecord], list[dict[str, Any]]]:
    """Return the conda packages and the packages of PyPI in the lock file of `job`."""
    environment = LockFile.from_path(Path(job["lock"])).default_environment()
    if environment is None:
        raise ValueError("the lock file has no environment named 'default'")
    wanted = job["platform"] or str(Subdir.current())
    platform = next((platform for platform in environment.platforms() if str(platform.name) == wanted), None)
    if platform is None:
        names = ", ".join(str(platform.name) for platform in environment.platforms())
        raise ValueError(f"the lock file is for {names}; this machine is {wanted}")
    for package in environment.packages(platform) or []:
        if isinstance(package, CondaLockedSourcePackage):
            raise RefusedError(f"{package.name} is to be built from its source")
    records = environment.conda_repodata_records_for_platform(platform) or []
    allowed = allowed_addresses(job, config)
    for record in records:
        require_allowed(job, record.url, allowed, record.name.normalized)
    pypi = []
    for package in environment.pypi_packages_for_platform(platform) or []:
        facts = {"name": package.name, "version": package.version, "location": package.location}
        pypi.append(facts | {"sha256": _sha256(package)})
    return records, pypi


def _sha256(package: PypiLockedPackage) -> str:
    try:
        digest = package.hashes.sha256 if package.hashes else None
    except AttributeError:  # py-rattler 0.28 has no hashes and does not say so
        digest = None
    return digest.hex() if digest else ""


def described(record: RepoDataRecord) -> dict[str, Any]:
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "subdir": record.subdir,
        "url": record.url,
        "sha256": record.sha256.hex() if record.sha256 else "",
        "size": record.size,
        "record": json.loads(record.to_json()),
    }


async def main(job: dict[str, Any]) -> dict[str, Any]:
    config = ChannelConfig(f"{job['alias'].rstrip('/')}/", job["root"])  # else its last part would be left out
    pypi: list[dict[str, Any]] = []
    if job["lock"]:
        records, pypi = locked(job, config)
    else:
        records = await solved(job, config)
    # In the order in which they are installed: what a package depends on comes before it.
    by_name = {record.name.normalized: record for record in records}
    ordered = PackageRecord.sort_topologically([by_name[name] for name in sorted(by_name)])
    names = [record.name.normalized for record in ordered]
    for name in sorted(names):
        print(f" + {name} {by_name[name].version} {by_name[name].build}", flush=True)  # noqa: T201
    return {"packages": [described(by_name[name]) for name in names], "pypi": pypi}


if __name__ == "__main__":
    code = 0
    job = json.loads(Path(sys.argv[1]).read_text())
    try:
        Path(job["output"]).write_text(json.dumps(asyncio.run(main(job))))
    except RefusedError as error:
        Path(job["output"]).write_text(json.dumps({"refused": str(error)}))
        print(f"error: {error}", flush=True)  # noqa: T201
        code = 1
    except Exception as error:  # what rattler raises has no base class of its own
        # Specs of a channel are quoted with its address, which may hold the operator's password.
        message = _plain(" ".join(str(error).split()))
        print(f"error: {message[:_MESSAGE]}", flush=True)  # noqa: T201
        code = 1
    # rattler's threads are still there: while Python tidies up they crash it, in one of four runs.
    os._exit(code)
