"""How an image's environment is made, each way with its tool: uv, or py-rattler for conda packages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from attrs import Factory, field, frozen
from ringbinder import BuildError, UserError
from ringbinder.files import write_state
from ringbinder.folder_image import FolderImage
from ringbinder.untrusted import LOCK_BYTES, MalformedError, UntrustedError
from ringbinder_recipe import condafile, pipfile, pixi
from ringbinder_recipe.base_environment import ALWAYS, missing
from ringbinder_recipe.conda import PROGRAM as SOLVER
from ringbinder_recipe.conda import SOLUTION_BYTES, RefusedError, Solution, SolverJob
from ringbinder_recipe.condafile import CondaPackages
from ringbinder_recipe.files import content
from ringbinder_recipe.inside import Inside
from ringbinder_recipe.recipe import Recipe
from ringbinder_recipe.requirements import Requirements
from ringbinder_recipe.uv import Uv

from .installed import has_package, versions
from .limits import LimitedBuild

_BASE_SECONDS: Final = 60.0
_CONDA_PROGRAM: Final = Path(__file__).with_name("_conda.py")
# Of the entry, where the code of the repository cannot write.
_LINES: Final = "requirements.txt"
_JOB: Final = "conda.json"
_SOLUTION: Final = "conda-packages.json"
_CONSTRAINTS: Final = "constraints.txt"


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
class Environment:
    """The environment of `entry`, whose content is there and whose `env` is not."""

    entry: FolderImage
    recipe: Recipe
    build: LimitedBuild
    uv: Uv
    conda: CondaSettings

    inside: Inside = field(
        init=False, default=Factory(lambda self: Inside(self.entry.repo, frozenset(self.uv.passed)), takes_self=True)
    )

    async def make(self) -> None:
        """Raises `UserError`; `BuildError` if a tool fails."""
        recipe = self.recipe
        await asyncio.to_thread(self._check_projects)
        if recipe.conda:
            packages = await asyncio.to_thread(condafile.read, self.entry.repo, recipe.conda)
            await self._make_conda(packages, recipe.conda)
        elif recipe.pixi.endswith(".lock"):
            await self._make_from_pixi_lock()
        elif recipe.pixi:
            packages = await asyncio.to_thread(pixi.read, self.entry.repo, recipe.pixi, _conda_platform())
            await self._make_conda(packages, recipe.pixi)
        elif recipe.pipfile:
            await self._make_from_pipfile()
        elif recipe.project == "locked":
            await self._make_from_uv_lock()
        else:
            requirements = Requirements(self.inside)
            if recipe.requirements:
                await asyncio.to_thread(requirements.add_file, recipe.requirements)
            await self._make_venv(recipe.python, recipe.requires_python)
            named = {"package": ["."], "dependencies": ["-r", "pyproject.toml"]}.get(recipe.project, [])
            await self._install_requirements(recipe.source, requirements, *named, *ALWAYS)
        if has_package(self.entry.env, "jupyter_server") and not has_package(self.entry.env, "jupyterlab"):
            # Its server extensions work only in a server of its own.
            await self.install("jupyterlab", "jupyterlab")
        await self._add_base()

    async def install(
        self, what: str, *arguments: str | Path, cwd: Path | None = None, readable: Sequence[Path] = ()
    ) -> None:
        """`uv pip install`, in the repository's root unless `cwd` is given."""
        await self.build.run(
            f"`uv pip install` of {what}",
            self._pip_install(*arguments),
            cwd=cwd or self.entry.repo.place,
            env=self._env(),
            foreign=True,
            readable=readable,
        )

    def _pip_install(self, *arguments: str | Path) -> list[str]:
        system = ["--break-system-packages"] if self.entry.is_conda else []
        return self.uv.command("pip", "install", "--python", self.entry.python, *system, *arguments)

    async def _add_base(self) -> None:
        """Adds what of repo2docker's base environment fits beside what is installed, which stays at its versions.

        Never fails: what does not solve, has no wheel or cannot be fetched is left out.
        """
        try:
            there = await asyncio.to_thread(versions, self.entry.env)
        except (OSError, UntrustedError):
            return  # what was installed has taken the place of packages: it is judged at the end
        wanted = missing(there)
        if not wanted:
            return
        left = set(wanted)
        # What an earlier build has fetched is taken as is, which is ten times as fast.
        attempts = [
            (specs, sources) for specs in (wanted, *([spec] for spec in wanted)) for sources in (["--offline"], [])
        ]
        constraints = "".join(f"{name}=={version}\n" for name, version in there.items())
        with self._own_file(_CONSTRAINTS, constraints) as path, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BASE_SECONDS):
                for specs, sources in attempts:
                    # Outside of the repository, whose settings of uv are for what it asks for itself.
                    if left.issuperset(specs) and await self.build.attempt(
                        f"`uv pip install` of {', '.join(specs)}",
                        self._pip_install("--no-build", *sources, "--constraints", path, *specs),
                        cwd=self.entry.box.place,
                        env=self._env(),
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

    @property
    def _folder(self) -> str:
        """The folder of the repository that the recipe's file is in."""
        recipe = self.recipe
        return (recipe.conda or recipe.pipfile or recipe.pixi).rpartition("/")[0]

    def _check_projects(self) -> None:
        """Looks at the files in which uv looks for its settings."""
        self.inside.project()
        self.inside.project(self._folder)

    def _env(self) -> dict[str, str]:
        scratch = self.entry.scratch.place
        # What a source distribution puts into the cache is installed for others: in a sandbox it has one of its own.
        own = {"UV_CACHE_DIR": str(scratch / "uv")} if self.build.sandbox else {}
        return self.uv.env(self.entry.home.place) | {"TMPDIR": str(scratch)} | own

    async def _make_venv(self, version: str, specifier: str = "", file: str = "") -> None:
        python = self.uv.python_for(version, specifier)
        venv = self.uv.command("venv", "--no-project", "--python", python, self.entry.env.place)
        try:
            await self.build.run("`uv venv`", venv, cwd=self.entry.folder, env=self._env())
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

    async def _make_from_uv_lock(self) -> None:
        await self._make_venv(self.recipe.python, self.recipe.requires_python)
        sync = self.uv.command("sync", "--frozen", "--no-editable", "--python", self.entry.python)
        env = {"UV_PROJECT_ENVIRONMENT": str(self.entry.env.place), "VIRTUAL_ENV": str(self.entry.env.place)}
        await self.build.run(
            "`uv sync` of uv.lock", sync, cwd=self.entry.repo.place, env=self._env() | env, foreign=True
        )
        await self.install("ipykernel", *ALWAYS)

    async def _make_from_pipfile(self) -> None:
        file = self.recipe.pipfile
        packages = await asyncio.to_thread(pipfile.read, self.entry.repo, file)
        await self._make_venv(packages.python, file=file)
        await self._install_lines(file, file, packages.lines, complete=packages.locked)
        await self.install("ipykernel", *ALWAYS)

    async def _make_conda(self, packages: CondaPackages, file: str) -> None:
        packages = packages.with_python()
        channels = packages.channels or condafile.expanded(self.conda.channels)
        await self._install_conda(file, await self._solve_conda(file, channels=channels, specs=packages.specs))
        await self._install_lines(f"the pip part of {file}", file, packages.pip)
        await self.install("ipykernel", *ALWAYS)

    async def _make_from_pixi_lock(self) -> None:
        file = self.recipe.pixi
        await asyncio.to_thread(content, self.entry.repo, file, LOCK_BYTES)
        lock = self.entry.repo.place / self.entry.repo.resolve(file)
        solution = await self._solve_conda(file, lock=lock)
        await self._install_conda(file, solution)
        lines = [package.line for package in solution.pypi]
        await self._install_lines(f"the PyPI part of {file}", file, lines, complete=True)
        await self.install("ipykernel", *ALWAYS)

    async def _solve_conda(self, file: str, **wanted: Any) -> Solution:
        """Returns the packages for what is `wanted`, as fields of a `SolverJob`."""
        job = SolverJob(
            output=self.entry.scratch.place / _SOLUTION,
            cache=self._conda_cache,
            alias=self.conda.alias,
            root=self.entry.repo.place / self._folder,
            option="LocalBuilder.conda_channels",
            folders=self._conda_folders,
            **wanted,
        )
        # Through a file: a channel's address may hold a password.
        with self._own_file(_JOB, job.to_json()) as path:
            await self._run_conda(f"Installation of {file}", job.command(path), [SOLVER, path])
        try:
            content = await asyncio.to_thread(self.entry.scratch.read, _SOLUTION, SOLUTION_BYTES)
            return Solution.from_json(content)
        except (OSError, UntrustedError, MalformedError, RefusedError) as error:
            raise BuildError(f"Installation of {file} failed: {error}") from None

    async def _install_conda(self, file: str, solution: Solution) -> None:
        """Makes the environment from conda packages.

        None of their code runs here, but they say themselves where their files go.
        """
        job = {
            "records": [package.record for package in solution.packages],
            "prefix": str(self.entry.env.place),
            "cache": str(self._conda_cache),
            "own": str(self._own_conda_cache),
            "folders": [str(folder) for folder in self._conda_folders],
        }
        with self._own_file(_JOB, json.dumps(job)) as path:
            command = [sys.executable, "-I", str(_CONDA_PROGRAM), str(path)]
            await self._run_conda(f"Installation of {file}", command, [_CONDA_PROGRAM, path])
        await asyncio.to_thread(self._check_python, file)

    @property
    def _own_conda_cache(self) -> Path:
        return self.entry.scratch.place / "conda"

    @property
    def _conda_cache(self) -> Path:
        return self._own_conda_cache if self.build.sandbox else self.conda.cache

    @property
    def _conda_folders(self) -> list[Path]:
        """Folders of this machine that packages may come from."""
        return [self.entry.repo.place, *self.conda.folders]

    async def _run_conda(self, step: str, command: Sequence[str], readable: Sequence[Path]) -> None:
        """Runs a program of ours that uses py-rattler, as a sandbox's process if there is one."""
        await self.build.run(
            step,
            command,
            cwd=self.entry.box.place,
            env=self._env(),
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

    async def _install_lines(self, what: str, file: str, lines: Sequence[str], *, complete: bool = False) -> None:
        """Installs the lines of a requirements file that stands, as it were, beside the `file` of the recipe."""
        if not lines:
            return
        requirements = Requirements(self.inside)
        await asyncio.to_thread(requirements.add_lines, lines, file)
        cwd = self.entry.repo.place / self._folder
        await self._install_requirements(what, requirements, *(["--no-deps"] if complete else []), cwd=cwd)

    async def _install_requirements(
        self, what: str, requirements: Requirements, *arguments: str, cwd: Path | None = None
    ) -> None:
        for note in requirements.notes:
            self.build.log.line(f"{note}\n", "building")
        with (
            self._own_file(_LINES, "".join(f"{line}\n" for line in requirements.content)) as lines,
            self._own_file(_CONSTRAINTS, "".join(f"{line}\n" for line in requirements.constraints)) as constraints,
        ):
            named: list[str | Path] = ["--requirements", lines] if requirements.content else []
            named += ["--constraints", constraints] if requirements.constraints else []
            await self.install(
                what, *requirements.arguments, *arguments, *named, cwd=cwd, readable=[lines, constraints]
            )

    @contextlib.contextmanager
    def _own_file(self, name: str, text: str) -> Iterator[Path]:
        """Hold a new file where the code of the repository cannot write."""
        path = self.entry.folder / name
        write_state(path, text.encode(), sync=False)
        try:
            yield path
        finally:
            path.unlink()


def _conda_platform() -> str:
    """conda's name of this machine's platform (``linux-64``)."""
    system = {"linux": "linux", "darwin": "osx"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    return f"{system}-{'64' if machine in ('x86_64', 'amd64') else machine}"
