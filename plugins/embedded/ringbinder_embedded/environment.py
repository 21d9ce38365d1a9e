"""How an image's environment is made, each way with its tool: uv, or py-rattler for conda packages."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from attrs import frozen
from ringbinder.errors import BuildError, UserError

from . import condafile, pipfile, pixi
from .condafile import CondaPackages
from .limits import LimitedBuild
from .recipe import Recipe
from .store import Entry
from .uv import Uv

# pip, since notebooks say !pip install.
_ALWAYS: Final = ("ipykernel", "pip")
_CONDA_PROGRAM: Final = Path(__file__).with_name("_conda.py")
_LINES: Final = ".ringbinder-requirements.txt"


@frozen
class CondaSettings:
    """Where conda packages come from."""

    channels: tuple[str, ...]
    """Used where the repository's file names none."""
    alias: str
    """Address below which a channel's name is looked for."""
    cache: Path


@frozen
class Environment:
    """The environment of `entry`, whose content is there and whose `env` is not."""

    entry: Entry
    recipe: Recipe
    build: LimitedBuild
    uv: Uv
    conda: CondaSettings

    async def make(self) -> None:
        """Raises `UserError`; `BuildError` if a tool fails."""
        recipe = self.recipe
        if recipe.conda:
            path = self.entry.repo.place / recipe.conda
            await self._make_conda(condafile.read(path, recipe.conda), recipe.conda)
        elif recipe.pixi.endswith(".lock"):
            await self._make_from_pixi_lock()
        elif recipe.pixi:
            path = self.entry.repo.place / recipe.pixi
            await self._make_conda(pixi.read(path, recipe.pixi, _conda_platform()), recipe.pixi)
        elif recipe.pipfile:
            await self._make_from_pipfile()
        elif recipe.project == "locked":
            await self._make_from_uv_lock()
        else:
            await self._make_venv(recipe.python, recipe.requires_python)
            named = ["-r", recipe.requirements] if recipe.requirements else []
            named += {"package": ["."], "dependencies": ["-r", "pyproject.toml"]}.get(recipe.project, [])
            await self.install(recipe.source, *named, *_ALWAYS)
        if self.entry.has_package("jupyter_server") and not self.entry.has_package("jupyterlab"):
            # Its server extensions work only in a server of its own.
            await self.install("jupyterlab", "jupyterlab")

    async def install(self, what: str, *arguments: str | Path, cwd: Path | None = None) -> None:
        """`uv pip install`, in the repository's root unless `cwd` is given."""
        system = ["--break-system-packages"] if self.entry.is_conda else []
        command = self.uv.command("pip", "install", "--python", self.entry.python, *system, *arguments)
        await self.build.run(
            f"`uv pip install` of {what}",
            command,
            cwd=cwd or self.entry.repo.place,
            env=self._env(),
            foreign=True,
        )

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
        await self.install("ipykernel", *_ALWAYS)

    async def _make_from_pipfile(self) -> None:
        file = self.recipe.pipfile
        found = pipfile.read(self.entry.repo.place / file, file)
        await self._make_venv(found.python, file=file)
        await self._install_lines(file, found.lines, complete=found.locked)
        await self.install("ipykernel", *_ALWAYS)

    async def _make_conda(self, packages: CondaPackages, file: str) -> None:
        packages = packages.with_python()
        channels = packages.channels or condafile.expanded(self.conda.channels)
        await self._run_conda(file, {"channels": channels, "specs": packages.specs})
        await self._install_lines(f"the pip part of {file}", packages.pip)
        await self.install("ipykernel", *_ALWAYS)

    async def _make_from_pixi_lock(self) -> None:
        file = self.recipe.pixi
        lines = self.entry.scratch.place / "pypi.txt"
        await self._run_conda(file, {"lock": str(self.entry.repo.place / file), "pip": str(lines)})
        if not self.entry.python.exists():
            raise UserError("bad-file", f"{file} has no Python in its default environment.")
        await self._install_lines(f"the PyPI part of {file}", lines.read_text().splitlines(), complete=True)
        await self.install("ipykernel", *_ALWAYS)

    async def _run_conda(self, file: str, what: dict[str, object]) -> None:
        # Through a file: a channel's address may hold a password.
        job = self.entry.scratch.place / "conda.json"
        job.touch(mode=0o600)
        settings = {
            "prefix": str(self.entry.env.place),
            "cache": str(self.conda.cache),
            "alias": self.conda.alias,
            "root": str((self.entry.repo.place / file).parent),
        }
        job.write_text(json.dumps(settings | what))
        command = [sys.executable, "-I", str(_CONDA_PROGRAM), str(job)]
        await self.build.run(f"Installation of {file}", command, cwd=self.entry.folder, env=self._env())

    async def _install_lines(self, what: str, lines: Sequence[str], *, complete: bool = False) -> None:
        """Installs the lines of a requirements file that stands, as it were, beside the file of the recipe."""
        if not lines:
            return
        recipe = self.recipe
        place = (self.entry.repo.place / (recipe.conda or recipe.pipfile or recipe.pixi)).parent
        file = place / _LINES
        file.write_text("".join(f"{line}\n" for line in lines))
        try:
            await self.install(what, *(["--no-deps"] if complete else []), "-r", file, cwd=place)
        finally:
            file.unlink()


def _conda_platform() -> str:
    """conda's name of this machine's platform (``linux-64``)."""
    system = {"linux": "linux", "darwin": "osx"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    return f"{system}-{'64' if machine in ('x86_64', 'amd64') else machine}"
