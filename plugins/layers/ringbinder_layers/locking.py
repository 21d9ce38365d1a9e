"""From what a repository asks for to the packages that its environment consists of."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import define, evolve, field
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from ringbinder import BuildError, Context, Declined, Log, UserError, process
from ringbinder.files import temporary_folder, write_state
from ringbinder.untrusted import MalformedError, UntrustedTree, excerpt
from ringbinder_recipe.base_environment import ALWAYS, by_frequency, missing
from ringbinder_recipe.causes import telling_line
from ringbinder_recipe.conda import (
    SOLUTION_BYTES,
    CondaPackage,
    RefusedError,
    Solution,
    SolverJob,
    virtual_packages,
    without_credentials,
)
from ringbinder_recipe.condafile import expanded
from ringbinder_recipe.request import EnvironmentRequest
from ringbinder_recipe.uv import Uv

from .lock_store import LockStore
from .model import FORMAT, Lock, Package
from .sources import Sources
from .wheels import Target, UnsolvableError, WheelSolver, Wishes, index_lines

_BASE_SECONDS: Final = 60.0
_SERVER: Final = ("jupyterlab", "jupyterhub")
"""What an environment with a Jupyter Server of its own needs to be run by a hub, where it fits."""
_OTHER_NAMES: Final[Mapping[str, str]] = {
    "brotli-python": "brotli", "dask-core": "dask", "matplotlib-base": "matplotlib", "msgpack-python": "msgpack",
    "pytables": "tables", "python-duckdb": "duckdb", "python-graphviz": "graphviz", "pytorch": "torch",
    "tensorflow-base": "tensorflow",
}  # fmt: skip
"""Names in the package index of conda packages that are known by another one."""
_FOLDER: Final = re.compile(r"[./~]|file:", re.IGNORECASE)
_REQUIRE_HASHES: Final = "--require-hashes"
_ADVICE: Final = "The 'docker' builder (repo2docker) builds it as is."


@define(eq=False)
class Locks:
    """Makes the locks of all builds of a process, and finds those that were made before."""

    context: Context
    uv: Uv
    sources: Sources
    target: Target
    store: LockStore
    relock_after: float
    """Seconds for which versions that a repository leaves open stay as they were found; 0: found for each build."""
    timeout: float = 900.0
    """Seconds for each program that finds packages."""

    async def lock(
        self, request: EnvironmentRequest, log: Log, *, private: bool = False, again: bool = False
    ) -> Lock | Declined:
        """Return the packages for `request`; those of a `private` repository are kept from other processes.

        `again`: a lock that is known is of no use any more.

        Raises `BuildError` if there are none that fit, `UserError` for a file that is wrong.
        """
        for note in request.notes:
            log.line(f"{note}\n", "building")
        python = "" if request.conda else interpreter(request, self.target)
        key = self.key(request, python)
        known = None if again else await self.store.find(key)
        if known and (request.pinned or self.context.clock.time() - known.made < self.relock_after):
            log.line(f"Known: {_summary(known.lock)}\n", "building")
            return known.lock
        async with temporary_folder(self.context.paths.state / "tmp") as folder:
            locking = _Locking(self, request, python, folder, log)
            lock = await locking.run()
        if isinstance(lock, Lock):
            log.line(f"Resolved: {_summary(lock)}\n", "building")
            if locking.is_certain:
                private = private or not all(package.shared for package in lock.packages)
                await self.store.add(key, lock, private=private)
        return lock

    def key(self, request: EnvironmentRequest, python: str) -> str:
        """Return what decides the lock for the base's interpreter `python`: 64 hexadecimal digits."""
        facts = [FORMAT, request.digest, python, self.target.platform, self.target.libc, self.sources.digest]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def interpreter(request: EnvironmentRequest, target: Target) -> str:
    """Return the version of the base's interpreter for `request`; empty: it has none, and conda's channels have one.

    Raises `UserError` (``bad-file``) if there can be none.
    """
    version, specifier = request.python, SpecifierSet(request.requires_python)
    if version and len(Version(version).release) == 3 and version not in specifier:
        raise UserError(
            "bad-file",
            f"runtime.txt asks for Python {version}, pyproject.toml for {specifier}: they exclude each other.",
        )
    for there in target.pythons:
        if f"{there}.".startswith(f"{version}.") if version else there in specifier:
            return there
    return ""


@define(eq=False)
class _Locking:
    """One lock being made in a folder of its own."""

    locks: Locks
    request: EnvironmentRequest
    python: str
    """Version of the base's interpreter; empty: conda brings one."""
    folder: Path
    log: Log
    is_certain: bool = field(default=True, init=False)
    """Nothing was left out only since an index did not answer."""
    _conda: Solution | None = field(default=None, init=False)

    async def run(self) -> Lock | Declined:
        request = self.request
        python = self.python
        if not python:
            solution = await self._solve_conda()
            if isinstance(solution, Declined):
                return solution
            self._conda = solution
            python = _full_python(solution) if solution.python else ""
            if not python:
                raise UserError("bad-file", f"{request.source} has no Python in its environment.")
            if solution.python.endswith("t"):
                return Declined("a Python without its global lock", _ADVICE)
        work = self.folder / "work"
        work.mkdir()
        locks = self.locks
        solver = WheelSolver(locks.uv, locks.sources, locks.target, python, work, self.log, locks.timeout)
        wheels = await self._wheels(solver)
        if isinstance(wheels, Declined):
            return wheels
        conda = self._conda_packages()
        if isinstance(conda, Declined):
            return conda
        minor = self._conda.python if self._conda else ".".join(python.split(".")[:2])
        return Lock(
            (*conda, *sorted(wheels, key=lambda wheel: by_frequency(wheel.name))), minor, self._conda is not None
        )

    async def _solve_conda(self) -> Solution | Declined:
        request, locks = self.request, self.locks
        root = self.folder / "empty"
        root.mkdir()
        specs = request.specs
        if not request.conda:
            specs = (f"python {f'{request.python}.*' if request.python else request.requires_python}",)
        lock = self.folder / "pixi.lock" if request.pixi_lock else None
        if lock:
            write_state(lock, request.pixi_lock, sync=False)
        job = SolverJob(
            output=self.folder / "solution.json",
            cache=locks.context.paths.cache / "layers-conda",
            alias=locks.sources.alias,
            root=root,
            option="LayersBuilder.conda_channels",
            channels=() if lock else request.channels or expanded(locks.sources.channels),
            specs=() if lock else specs,
            lock=lock,
            only=locks.sources.channels,
            platform=locks.target.conda_platform,
            virtual_packages=virtual_packages(locks.target.conda_platform, locks.target.libc),
        )
        for channel in job.channels:
            if _FOLDER.match(channel):
                return Declined(f"the channel {excerpt(channel)}, which is a folder", _ADVICE)
        file = self.folder / "job.json"
        write_state(file, job.to_json().encode(), sync=False)
        failure = await self._run_solver(job.command(file))
        try:
            return await asyncio.to_thread(self._solution)
        except RefusedError as error:
            return Declined(str(error), _ADVICE)
        except (MalformedError, FileNotFoundError):
            if not request.conda:
                raise UserError(
                    "python-not-available",
                    f"The repository asks for Python {request.python or request.requires_python}. The base image has "
                    f"{', '.join(locks.target.pythons)}, and none that fits was found in the conda channels{failure}",
                ) from None
            raise BuildError(f"The packages of {request.source} were not found{failure}") from None

    def _solution(self) -> Solution:
        return Solution.from_json(UntrustedTree(self.folder).read("solution.json", SOLUTION_BYTES))

    async def _run_solver(self, command: Sequence[str]) -> str:
        """Run the program; return why it has failed, as the end of a sentence."""
        env = process.minimal_env() | {"HOME": str(self.folder), "TMPDIR": str(self.folder)}
        try:
            done = await process.run(command, cwd=self.folder, env=env, timeout=self.locks.timeout)
        except TimeoutError as error:
            raise BuildError(
                f"The packages of {self.request.source} were not found within {self.locks.timeout:g} seconds.",
                "build-limit",
            ) from error
        lines = [*done.output.splitlines(), *done.errors.splitlines()]
        for line in lines:
            self.log.line(f"{line}\n", "building")
        return f": {telling_line(lines)}" if lines else "."

    async def _wheels(self, solver: WheelSolver) -> list[Package] | Declined:
        """Return the wheels that are installed, beside conda's packages if there are any."""
        request = self.request
        packages = _Packages(solver, self._from_conda())
        if request.uv_lock:
            wheels = await solver.export(request.pyproject, request.uv_lock)
        elif request.pixi_lock:
            wheels = await asyncio.to_thread(self._from_pixi, solver)
        else:
            wheels = await self._solve(packages)
        if isinstance(wheels, Declined):
            return wheels
        if any(not _is_version(packages.conda.get(wheel.name), wheel.version) for wheel in wheels):
            return Declined("packages of pip that replace conda's", _ADVICE)
        packages.add(wheels)
        if declined := await packages.require([name for name in ALWAYS if name not in packages.there]):
            return declined
        await self._add_base(packages)
        return packages.wheels

    async def _solve(self, packages: _Packages) -> list[Package] | Declined:
        """Return the wheels for the request's lines; conda's packages stay as they are."""
        request = self.request
        indexes = index_lines(request, self.locks.sources)
        if isinstance(indexes, Declined):
            return indexes
        hashed = _REQUIRE_HASHES in request.requirements
        lines = [line for line in request.requirements if line != _REQUIRE_HASHES and not _is_met(line, packages.conda)]
        if not request.complete and not hashed:
            lines += [name for name in ALWAYS if name not in packages.conda]
        if not lines:
            return []
        arguments = [*request.arguments, *(["--no-deps"] if request.complete else [])]
        wishes = Wishes([*indexes, *lines], request.constraints, request.overrides, arguments)
        packages.indexes = indexes
        return await packages.solve(wishes, require_hashes=hashed)

    async def _add_base(self, packages: _Packages) -> None:
        """Add what of repo2docker's base environment fits beside the packages, which stay at their versions."""
        wanted = missing(packages.there)
        if "jupyter-server" in packages.there:
            wanted += [name for name in _SERVER if name not in packages.there]
        left = set(wanted)
        try:
            async with asyncio.timeout(_BASE_SECONDS):
                for specs in (wanted, *([spec] for spec in wanted)):
                    if specs and left.issuperset(specs) and await packages.attempt(specs):
                        left -= set(specs)
        except (BuildError, TimeoutError):
            self.is_certain = False
        if added := [spec for spec in wanted if spec not in left]:
            self.log.line(f"Added, as repo2docker does: {', '.join(added)}\n", "building")
        if left:
            self.log.line(
                f"Left out: {', '.join(sorted(left))}, which repo2docker adds: not to be had beside what the "
                "repository asks for.\n",
                "building",
            )

    def _from_pixi(self, solver: WheelSolver) -> list[Package] | Declined:
        wheels: list[Package] = []
        for locked in self._conda.pypi if self._conda else ():
            name = canonicalize_name(locked.name)
            wheel = solver.wheel(name, locked.version, locked.location, locked.sha256, None, foreign=True)
            if isinstance(wheel, Declined):
                return wheel
            wheels.append(wheel)
        return wheels

    def _from_conda(self) -> dict[str, str]:
        """Versions of conda's Python packages, by their names in the package index."""
        if self._conda is None:
            return {}
        named = ((name, package.version) for package in self._conda.packages if (name := _python_name(package)))
        return dict(named)

    def _conda_packages(self) -> list[Package] | Declined:
        packages: list[Package] = []
        for package in self._conda.packages if self._conda else ():
            if not package.sha256:
                return Declined(f"{package.name}, whose channel gives no hash", _ADVICE)
            url = without_credentials(package.url)
            packages.append(
                Package(
                    "conda", package.name, package.version, url, f"sha256:{package.sha256}", package.size,
                    shared=url == package.url and self.locks.sources.is_open(url), facts=package.facts,
                )
            )  # fmt: skip
        return packages


@define(eq=False)
class _Packages:
    """Wheels that are chosen one after another, so that a later one changes none that is there."""

    solver: WheelSolver
    conda: Mapping[str, str]
    """Versions of the Python packages that conda brings, which stay."""
    wheels: list[Package] = field(factory=list, init=False)
    indexes: Sequence[str] = ()

    @property
    def there(self) -> dict[str, str]:
        """Versions by name."""
        return {**self.conda, **{wheel.name: wheel.version for wheel in self.wheels}}

    def add(self, wheels: Iterable[Package]) -> None:
        there = self.there
        self.wheels += [wheel for wheel in wheels if wheel.name not in there]

    async def solve(self, wishes: Wishes, *, require_hashes: bool) -> list[Package] | Declined:
        """Return the wheels for `wishes`, which keep to conda's versions."""
        if not self.conda:
            return await self.solver.solve(wishes, require_hashes=require_hashes)
        try:
            pinned = evolve(wishes, constraints=[*wishes.constraints, *_pins(self.conda)])
            wheels = await self.solver.solve(pinned, require_hashes=require_hashes, quiet=True)
        except UnsolvableError:
            # Without conda's packages there would be a way, or the error is the requirements' own.
            await self.solver.solve(wishes, require_hashes=require_hashes)
            return Declined("packages of pip that replace conda's", _ADVICE)
        return wheels

    async def require(self, specs: Sequence[str]) -> Declined | None:
        """Add `specs` beside what is there. Raises `BuildError` if they do not fit."""
        if not specs:
            return None
        wheels = await self.solver.solve(Wishes([*self.indexes, *specs], _pins(self.there)))
        if isinstance(wheels, Declined):
            return wheels
        self.add(wheels)
        return None

    async def attempt(self, specs: Sequence[str]) -> bool:
        """Add `specs` if they fit beside what is there. Raises `BuildError` if that cannot be found out."""
        try:
            wheels = await self.solver.solve(Wishes([*self.indexes, *specs], _pins(self.there)), quiet=True)
        except UnsolvableError:
            return False
        if isinstance(wheels, Declined):
            return False
        self.add(wheels)
        return True


def _python_name(package: CondaPackage) -> str:
    """The name in the package index of a package of conda; empty: it is no Python package."""
    record = package.record
    for address in record.get("purls") or ():
        if str(address).startswith("pkg:pypi/"):
            return canonicalize_name(str(address).removeprefix("pkg:pypi/").partition("@")[0].partition("?")[0])
    depends = {str(line).split(" ", 1)[0] for line in record.get("depends") or ()}
    if record.get("noarch") != "python" and not depends & {"python", "python_abi"}:
        return ""
    return canonicalize_name(_OTHER_NAMES.get(package.name, package.name))


def _is_met(line: str, versions: Mapping[str, str]) -> bool:
    """Whether one of the packages with these `versions` is what the `line` asks for."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    version = versions.get(canonicalize_name(requirement.name))
    if version is None or requirement.url or requirement.extras:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def _is_version(version: str | None, wanted: str) -> bool:
    """Whether `version` is the one that is `wanted`, or none."""
    try:
        return version is None or Version(version) == Version(wanted)
    except InvalidVersion:
        return False


def _pins(versions: Mapping[str, str]) -> list[str]:
    pins: list[str] = []
    for name, version in sorted(versions.items()):
        try:
            pins.append(f"{name}=={Version(version)}")
        except InvalidVersion:
            continue
    return pins


def _full_python(solution: Solution) -> str:
    return next((package.version for package in solution.packages if package.name == "python"), "")


def _summary(lock: Lock) -> str:
    counts = {kind: sum(package.kind == kind for package in lock.packages) for kind in ("wheel", "conda")}
    named = {"wheel": "wheels", "conda": "conda packages"}
    return (
        f"{' and '.join(f'{n} {named[kind]}' for kind, n in counts.items() if n) or 'nothing'} for Python {lock.python}"
    )
