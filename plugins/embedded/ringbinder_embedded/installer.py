"""Tools that make an environment, each called as far as both kinds of environments need it: uv, and py-rattler."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import unquote, urlsplit

from attrs import frozen
from ringbinder import BuildError, UserError
from ringbinder.files import write_state
from ringbinder.folder_image import FolderImage
from ringbinder.untrusted import MalformedError, UntrustedError
from ringbinder_recipe.base_environment import missing
from ringbinder_recipe.conda import PROGRAM as SOLVER
from ringbinder_recipe.conda import SOLUTION_BYTES, RefusedError, Solution, SolverJob
from ringbinder_recipe.uv import Uv

from .installed import has_package, versions
from .limits import LimitedBuild

_BASE_SECONDS: Final = 60.0
_CONDA_PROGRAM: Final = Path(__file__).with_name("_conda.py")
# Of the entry, where the code of the repository cannot write.
LINES: Final = "requirements.txt"
CONSTRAINTS: Final = "constraints.txt"
_JOB: Final = "conda.json"
_SOLUTION: Final = "conda-packages.json"


@frozen
class CondaSettings:
    """Where conda packages come from."""

    channels: tuple[str, ...]
    """Used where the repository's file names none."""
    alias: str
    """Address below which a channel's name is searched for."""
    cache: Path

    @property
    def folders(self) -> list[Path]:
        """Folders of this machine that the operator's channels are in."""
        parts = [urlsplit(channel) for channel in (*self.channels, self.alias)]
        paths = [unquote(part.path) for part in parts if part.scheme in ("file", "")]
        return [Path(path) for path in paths if path.startswith("/")]


@frozen
class Installer:
    """Fills the environment `env` of `entry`. Its methods raise `BuildError` if a tool fails."""

    wheels_only: ClassVar[tuple[str, ...]] = ()
    """Arguments for uv that keep it from building packages."""

    entry: FolderImage
    build: LimitedBuild
    uv: Uv
    conda: CondaSettings

    @property
    def cwd(self) -> Path:
        """Where uv runs, and looks for settings."""
        return self.entry.box.place

    async def install(
        self,
        what: str,
        *arguments: str | Path,
        cwd: Path | None = None,
        readable: Sequence[Path] = (),
        from_line: str = "",
    ) -> None:
        """`uv pip install`; see `LimitedBuild.run`."""
        await self.build.run(
            f"`uv pip install` of {what}",
            self.pip_install(*self.wheels_only, *arguments),
            cwd=cwd or self.cwd,
            env=self.env(),
            foreign=True,
            readable=readable,
            from_line=from_line,
        )

    def pip_install(self, *arguments: str | Path) -> list[str]:
        system = ["--break-system-packages"] if self.entry.is_conda else []
        return self.uv.command("pip", "install", "--python", self.entry.python, *system, *arguments)

    def env(self) -> dict[str, str]:
        scratch = self.entry.scratch.place
        # What a source distribution puts into the cache is installed for others: in a sandbox it has one of its own.
        own = {"UV_CACHE_DIR": str(scratch / "uv")} if self.build.sandbox else {}
        return self.uv.env(self.entry.home.place) | {"TMPDIR": str(scratch)} | own

    async def make_venv(self, version: str, specifier: str = "", file: str = "") -> None:
        python = self.uv.python_for(version, specifier)
        venv = self.uv.command("venv", "--no-project", "--python", python, self.entry.env.place)
        try:
            await self.build.run("`uv venv`", venv, cwd=self.entry.folder, env=self.env())
            self.entry.note_interpreter()
        except BuildError as error:
            wanted = version or specifier
            if not wanted:
                raise
            there = ", ".join(await self.uv.pythons_there(self.entry.home.place)) or "none"
            file = file or ("runtime.txt" if version else "pyproject.toml")
            raise UserError(
                "python-not-available",
                f"{file} asks for Python {wanted}, which is not on this machine and could not be fetched. "
                f"There are: {there}. ({error.message})",
            ) from error

    async def complete(self) -> bool:
        """Adds what a notebook needs beside the packages of the repository; returns whether all of it is there."""
        if has_package(self.entry.env, "jupyter_server") and not has_package(self.entry.env, "jupyterlab"):
            # Its server extensions work only in a server of its own.
            await self.install("jupyterlab", "jupyterlab")
        return await self._add_base()

    async def _add_base(self) -> bool:
        """Adds what of repo2docker's base environment fits beside what is installed, which stays at its versions.

        Never fails: what does not solve, has no wheel or cannot be fetched is left out.
        """
        try:
            there = await asyncio.to_thread(versions, self.entry.env)
        except (OSError, UntrustedError):
            return False  # what was installed has taken the place of packages: it is judged at the end
        wanted = missing(there)
        if not wanted:
            return True
        left = set(wanted)
        # What an earlier build has fetched is taken as is, which is ten times as fast.
        attempts = [
            (specs, sources) for specs in (wanted, *([spec] for spec in wanted)) for sources in (["--offline"], [])
        ]
        constraints = "".join(f"{name}=={version}\n" for name, version in there.items())
        with self.own_file(CONSTRAINTS, constraints) as path, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BASE_SECONDS):
                for specs, sources in attempts:
                    # Outside of the repository, whose settings of uv are for what it asks for itself.
                    if left.issuperset(specs) and await self.build.attempt(
                        f"`uv pip install` of {', '.join(specs)}",
                        self.pip_install("--no-build", *sources, "--constraints", path, *specs),
                        cwd=self.entry.box.place,
                        env=self.env(),
                        readable=[path],
                    ):
                        left -= set(specs)
                        if not left:
                            break
        added = ", ".join(spec for spec in wanted if spec not in left)
        if added:
            self.build.log.line(f"Added, as repo2docker does: {added}\n", "building")
        if left:
            self.build.log.line(
                f"Left out: {', '.join(sorted(left))}, which repo2docker adds: not to be had beside what the "
                "repository asks for.\n",
                "building",
            )
        return not left

    async def solve_conda(self, file: str, root: Path, folders: Sequence[Path] = (), **wanted: Any) -> Solution:
        """Returns the packages for what is `wanted`, as fields of a `SolverJob`; relative channels are of `root`.

        `folders` of this machine may have packages, beside the operator's.
        """
        job = SolverJob(
            output=self.entry.scratch.place / _SOLUTION,
            cache=self._conda_cache,
            alias=self.conda.alias,
            root=root,
            option="LocalBuilder.conda_channels",
            folders=[*folders, *self.conda.folders],
            **wanted,
        )
        # Through a file: a channel's address may hold a password.
        with self.own_file(_JOB, job.to_json()) as path:
            await self._run_conda(f"Installation of {file}", job.command(path), [SOLVER, path])
        try:
            content = await asyncio.to_thread(self.entry.scratch.read, _SOLUTION, SOLUTION_BYTES)
            return Solution.from_json(content)
        except (OSError, UntrustedError, MalformedError, RefusedError) as error:
            raise BuildError(f"Installation of {file} failed: {error}") from None

    async def install_conda(self, file: str, solution: Solution, folders: Sequence[Path] = ()) -> None:
        """Makes the environment from conda packages.

        None of their code runs here, but they say themselves where their files go.
        """
        job = {
            "records": [package.record for package in solution.packages],
            "prefix": str(self.entry.env.place),
            "cache": str(self._conda_cache),
            "own": str(self._own_conda_cache),
            "folders": [str(folder) for folder in (*folders, *self.conda.folders)],
        }
        with self.own_file(_JOB, json.dumps(job)) as path:
            command = [sys.executable, "-I", str(_CONDA_PROGRAM), str(path)]
            await self._run_conda(f"Installation of {file}", command, [_CONDA_PROGRAM, path])
        await asyncio.to_thread(self._check_python, file)

    @property
    def _own_conda_cache(self) -> Path:
        return self.entry.scratch.place / "conda"

    @property
    def _conda_cache(self) -> Path:
        return self._own_conda_cache if self.build.sandbox else self.conda.cache

    async def _run_conda(self, step: str, command: Sequence[str], readable: Sequence[Path]) -> None:
        """Runs a program of ours that uses py-rattler, as a sandbox's process if there is one."""
        await self.build.run(
            step,
            command,
            cwd=self.entry.box.place,
            env=self.env(),
            foreign=True,
            readable=[Path(sys.prefix), Path(sys.base_prefix), *self.conda.folders, *readable],
        )

    def _check_python(self, file: str) -> None:
        """Makes sure that the packages have brought an interpreter, and no link to another program."""
        try:
            there = self.entry.env.is_file(self.entry.env.resolve("bin/python"))
        except UntrustedError:
            there = False
        if not there:
            raise UserError("bad-file", f"{file} has no Python in its environment.")

    @contextlib.contextmanager
    def own_file(self, name: str, text: str) -> Iterator[Path]:
        """Hold a new file where the code of the repository cannot write."""
        path = self.entry.folder / name
        write_state(path, text.encode(), sync=False)
        try:
            yield path
        finally:
            path.unlink()


def conda_platform() -> str:
    """conda's name of this machine's platform (``linux-64``)."""
    system = {"linux": "linux", "darwin": "osx"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    return f"{system}-{'64' if machine in ('x86_64', 'amd64') else machine}"
