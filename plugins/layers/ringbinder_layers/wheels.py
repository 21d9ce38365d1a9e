"""Which wheels an environment consists of: uv finds them, in a folder that holds nothing but what it is given."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from attrs import define, frozen
from packaging.markers import Environment, default_environment
from packaging.pylock import Package as LockedPackage
from packaging.pylock import PackageArchive, PackageWheel, Pylock, PylockSelectError, PylockValidationError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from ringbinder import BuildError, Declined, Log, UserError, process
from ringbinder.untrusted import MAX_LOCK_VALUES, MalformedError, excerpt, parse_toml
from ringbinder_recipe.causes import telling_line
from ringbinder_recipe.request import EnvironmentRequest, address_of
from ringbinder_recipe.uv import Uv

from .model import Package
from .sources import Sources

_LOCK_BYTES: Final = 32 * 2**20
_OLDEST_GLIBC: Final = {"x86_64": 5, "aarch64": 17}
_OLD_NAMES: Final = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_UV_GLIBC: Final = (17, 28, *range(31, 41))
"""Minor versions of glibc that uv has a platform for."""
_NEEDS_BUILD: Final = re.compile(r"Wheels are required for `(?P<name>[^`]+)` because building from source is disabled")
_UNSOLVABLE: Final = "No solution found when resolving dependencies"
_HASH: Final = re.compile(r" --hash=(sha(?:256|384|512):[0-9a-f]+)")
_NAME_LENGTH: Final = 255
_MOST_TAGS: Final = 200
"""Of a wheel's file name, which stands for each of its interpreters with each ABI on each platform."""


@frozen
class Target:
    """What an environment is made for."""

    pythons: tuple[str, ...]
    """Versions of the interpreters that are there (``3.12.11``), the one for repositories that name none first."""
    platform: str
    """``linux/amd64``."""
    libc: tuple[int, int]
    """glibc's version: ``(2, 36)``."""

    @property
    def machine(self) -> str:
        """As Python names it."""
        return {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}[self.platform]

    @property
    def conda_platform(self) -> str:
        """As conda names it."""
        return {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}[self.platform]

    @property
    def uv_platform(self) -> str:
        """As uv names the newest that is not newer than this."""
        minors = [minor for minor in _UV_GLIBC if (2, minor) <= self.libc] or [_UV_GLIBC[0]]
        return f"{self.machine}-manylinux_2_{minors[-1]}"

    def tags(self, python: str) -> list[Tag]:
        """Those of wheels that run with the interpreter `python` (``3.12.11``), the most wanted first."""
        major, minor = map(int, python.split(".")[:2])
        newest = self.libc[1] if self.libc[0] == 2 else _UV_GLIBC[-1]
        platforms: list[str] = []
        for libc in range(newest, _OLDEST_GLIBC[self.machine] - 1, -1):
            platforms.append(f"manylinux_2_{libc}_{self.machine}")
            if libc in _OLD_NAMES:
                platforms.append(f"{_OLD_NAMES[libc]}_{self.machine}")
        platforms.append(f"linux_{self.machine}")
        interpreter = f"cp{major}{minor}"
        return [
            *cpython_tags((major, minor), [interpreter], platforms),
            *compatible_tags((major, minor), interpreter, platforms),
        ]

    def markers(self, python: str) -> Environment:
        """What environment markers are compared with."""
        return default_environment() | {
            "implementation_name": "cpython",
            "implementation_version": python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": python,
            "python_version": ".".join(python.split(".")[:2]),
            "sys_platform": "linux",
        }


_NO_WHEEL: Final = "which has no wheel and would have to be built"
_NO_WHEEL_ADVICE: Final = (
    "Ask for a version that has a wheel for this Python, or for the package in environment.yml: conda-forge often has "
    "it built. The 'docker' builder (repo2docker) builds it as is."
)
_ELSEWHERE: Final = "where this server takes no packages from"
_ELSEWHERE_ADVICE: Final = (
    "The operator can allow an index with LayersBuilder.indexes. The 'docker' builder (repo2docker) takes it as is."
)


class UnsolvableError(BuildError):
    """There are no wheels that fit, as opposed to: they could not be looked up."""


@frozen
class Wishes:
    """What uv is to find wheels for: lines of requirements files, and arguments."""

    requirements: Sequence[str]
    constraints: Sequence[str] = ()
    overrides: Sequence[str] = ()
    arguments: Sequence[str] = ()


@define(eq=False)
class WheelSolver:
    """Runs uv for one environment, in the empty `folder`. The methods raise `BuildError` if uv fails."""

    uv: Uv
    sources: Sources
    target: Target
    python: str
    """Full version of the interpreter that the wheels are for."""
    folder: Path
    log: Log
    timeout: float

    async def solve(
        self, wishes: Wishes, *, require_hashes: bool = False, quiet: bool = False
    ) -> list[Package] | Declined:
        """Return wheels for `wishes`, with all that they depend on; what uv prints is not logged if `quiet`.

        `require_hashes`: each must have a hash in the requirements.
        """
        files = {
            "requirements.txt": wishes.requirements,
            "constraints.txt": wishes.constraints,
            "overrides.txt": wishes.overrides,
        }
        for name, lines in files.items():
            (self.folder / name).write_text("".join(f"{line}\n" for line in lines))
        output = await self._run(
            "pip", "compile", "--format", "pylock.toml", "--no-build", "--no-header", "--no-annotate",
            "--python-version", self.python, "--python-platform", self.target.uv_platform, *wishes.arguments,
            "--constraints", "constraints.txt", "--overrides", "overrides.txt", "requirements.txt", quiet=quiet,
        )  # fmt: skip
        if isinstance(output, Declined):
            return output
        packages = await asyncio.to_thread(self._packages, output)
        return packages if isinstance(packages, Declined) else _checked(packages, wishes.requirements, require_hashes)

    async def export(self, pyproject: bytes, uv_lock: bytes) -> list[Package] | Declined:
        """Return the wheels that a uv.lock names."""
        (self.folder / "pyproject.toml").write_bytes(pyproject)
        (self.folder / "uv.lock").write_bytes(uv_lock)
        output = await self._run(
            "export", "--frozen", "--offline", "--no-config", "--format", "pylock.toml", "--no-header"
        )
        if isinstance(output, Declined):
            return output
        return await asyncio.to_thread(self._packages, output, foreign=True)

    async def _run(self, *arguments: str, quiet: bool = False) -> str | Declined:
        command = self.uv.command(*arguments, "--quiet", "--no-python-downloads", "--python", sys.executable)
        step = f"`uv {' '.join(arguments[: 2 if arguments[0] == 'pip' else 1])}`"
        try:
            done = await process.run(
                command, cwd=self.folder, env=self.uv.env(self.folder) | {"TMPDIR": str(self.folder)},
                timeout=self.timeout, output_limit=_LOCK_BYTES,
            )  # fmt: skip
        except TimeoutError as error:
            raise BuildError(f"{step} did not end within {self.timeout:g} seconds.", "build-limit") from error
        if done.returncode == 0 and not done.truncated:
            return done.output
        lines = done.errors.splitlines()
        if needs_build := _NEEDS_BUILD.search(done.errors):
            return Declined(f"{excerpt(needs_build['name'])}, {_NO_WHEEL}", _NO_WHEEL_ADVICE)
        if not quiet:
            for line in lines:
                self.log.line(f"{line}\n", "building")
        reason = telling_line(lines)
        kind = UnsolvableError if _UNSOLVABLE in done.errors else BuildError
        raise kind(f"{step} failed (exit code {done.returncode}){f': {reason}' if reason else ''}")

    def _packages(self, output: str, *, foreign: bool = False) -> list[Package] | Declined:
        """Return what the lock `output` names for this environment; `foreign`: its addresses are the repository's."""
        try:
            document = parse_toml(output.encode(), values=MAX_LOCK_VALUES)
            if strange := next((name for name in _file_names(document) if not _is_bounded(name)), ""):
                raise BuildError(f"The lock is wrong: no package has a file such as {excerpt(strange)!r}.")
            lock = Pylock.from_dict(document)
            chosen = list(lock.select(environment=self.target.markers(self.python), tags=self.target.tags(self.python)))
        except MalformedError as error:
            raise UserError("bad-file", f"The lock file {error}.") from None
        except (PylockValidationError, PylockSelectError) as error:
            raise BuildError(f"The lock does not fit: {excerpt(str(error), 300)}") from None
        packages = []
        for locked, file in chosen:
            package = self._package(locked, file, foreign)
            if isinstance(package, Declined):
                return package
            packages.append(package)
        return packages

    def _package(self, locked: LockedPackage, file: Any, foreign: bool) -> Package | Declined:
        if not isinstance(file, PackageWheel | PackageArchive):
            what = (
                "which has no wheel and would have to be built" if locked.sdist else "which is no package of an index"
            )
            return Declined(f"{locked.name}, {what}")
        address = file.url or ""
        return self.wheel(
            locked.name, str(locked.version or ""), address, file.hashes.get("sha256", ""), file.size,
            foreign=foreign or isinstance(file, PackageArchive),
        )  # fmt: skip

    def wheel(
        self, name: str, version: str, address: str, sha256: str, size: int | None, *, foreign: bool
    ) -> Package | Declined:
        """Return the wheel at `address`, which the repository names itself if it is `foreign`."""
        parts = urlsplit(address.partition("#")[0])
        if not address_of(address) or (foreign and not self.sources.allows(address)):
            return Declined(f"{name} of {parts.hostname or 'a folder'}, {_ELSEWHERE}", _ELSEWHERE_ADVICE)
        wheel = _name_at(address)
        try:
            file_name, file_version, _, tags = parse_wheel_filename(wheel if _is_bounded(wheel) else "")
        except InvalidWheelFilename:
            return Declined(f"{name}, {_NO_WHEEL}", _NO_WHEEL_ADVICE)
        if file_name != name or (version and str(file_version) != version):
            raise BuildError(f"The lock is wrong: the file of {name} {version} is one of {file_name} {file_version}.")
        if not tags & set(self.target.tags(self.python)):
            raise BuildError(
                f"{name} has no wheel for Python {self.python} on {self.target.platform} at {parts.hostname}."
            )
        if not sha256:
            return Declined(f"{name}, whose index gives no hash")
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        shared = self.sources.is_shared(plain)
        return Package("wheel", name, str(file_version), plain, f"sha256:{sha256}", size, shared)


def index_lines(request: EnvironmentRequest, sources: Sources) -> list[str] | Declined:
    """Return lines of a requirements file for the indexes that `request` names.

    `Declined` for an index, or for the address of a wheel, that is not the operator's.
    """
    for line in (*request.requirements, *request.constraints, *request.overrides):
        if (address := address_of(line)) and not sources.allows(address):
            host = urlsplit(address).hostname
            return Declined(f"the package at {excerpt(host or address)}, {_ELSEWHERE}", _ELSEWHERE_ADVICE)
    lines: list[str] = []
    for option, address in (
        *((("--index-url", request.index),) if request.index else ()),
        *(("--extra-index-url", more) for more in request.more_indexes),
    ):
        if (real := sources.index(address)) is None:
            host = urlsplit(address).hostname
            return Declined(f"the package index at {excerpt(host or address)}", _ELSEWHERE_ADVICE)
        if real:
            lines.append(f"{option} {real}")
    return lines


def _file_names(lock: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the document of a lock calls its files, which is not judged yet."""
    for package in lock.get("packages", ()):
        for file in (*package.get("wheels", ()), package.get("archive", {}), package.get("sdist", {})):
            yield file.get("name") or _name_at(file.get("url") or file.get("path") or "")


def _name_at(address: str) -> str:
    return unquote(address.partition("#")[0].rpartition("/")[2])


def _is_bounded(name: str) -> bool:
    """Whether the file `name`, which a repository may have made up, can be taken apart."""
    tags = math.prod(part.count(".") + 1 for part in name.split("-")[-3:])
    return len(name) <= _NAME_LENGTH and tags <= _MOST_TAGS


def _checked(packages: list[Package], lines: Iterable[str], require_hashes: bool) -> list[Package]:
    """Return `packages`, which fit the hashes in `lines`. Raises `BuildError` if they do not."""
    wanted: dict[str, set[str]] = {}
    for line in lines:
        if digests := _HASH.findall(line):
            wanted.setdefault(_project(line), set()).update(digests)
    for package in packages:
        hashes = wanted.get(package.name)
        if hashes is None and require_hashes:
            raise BuildError(
                f"The requirements ask for hashes (--require-hashes), and have none of {package.name}.", "hash-mismatch"
            )
        if hashes is not None and package.digest not in hashes:
            raise BuildError(
                f"The index has another file of {package.name} {package.version} than the requirements: "
                f"{package.digest} is not among their hashes.",
                "hash-mismatch",
            )
    return packages


def _project(line: str) -> str:
    try:
        return canonicalize_name(Requirement(line.partition(" --hash=")[0]).name)
    except InvalidRequirement:  # an address without a name
        return canonicalize_name(urlsplit(line).path.rpartition("/")[2].partition("-")[0])
