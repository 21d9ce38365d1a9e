"""How the environment of one image is made from its repository, whose code may run meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from attrs import Factory, field, frozen
from ringbinder.untrusted import LOCK_BYTES
from ringbinder_recipe import condafile, pipfile, pixi
from ringbinder_recipe.base_environment import ALWAYS
from ringbinder_recipe.condafile import CondaPackages
from ringbinder_recipe.files import content
from ringbinder_recipe.inside import Inside
from ringbinder_recipe.recipe import Recipe
from ringbinder_recipe.requirements import Requirements

from .installer import CONSTRAINTS, LINES, Installer, conda_platform


@frozen
class Environment(Installer):
    """The environment of an image whose content is there and whose `env` is not."""

    recipe: Recipe

    inside: Inside = field(
        init=False, default=Factory(lambda self: Inside(self.entry.repo, frozenset(self.uv.passed)), takes_self=True)
    )

    @property
    def cwd(self) -> Path:
        return self.entry.repo.place

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
            packages = await asyncio.to_thread(pixi.read, self.entry.repo, recipe.pixi, conda_platform())
            await self._make_conda(packages, recipe.pixi)
        elif recipe.pipfile:
            await self._make_from_pipfile()
        elif recipe.project == "locked":
            await self._make_from_uv_lock()
        else:
            requirements = Requirements(self.inside)
            if recipe.requirements:
                await asyncio.to_thread(requirements.add_file, recipe.requirements)
            await self.make_venv(recipe.python, recipe.requires_python)
            named = {"package": ["."], "dependencies": ["-r", "pyproject.toml"]}.get(recipe.project, [])
            await self._install_requirements(recipe.source, requirements, *named, *ALWAYS)
        await self.complete()

    @property
    def _folder(self) -> str:
        """The folder of the repository that the recipe's file is in."""
        recipe = self.recipe
        return (recipe.conda or recipe.pipfile or recipe.pixi).rpartition("/")[0]

    def _check_projects(self) -> None:
        """Looks at the files in which uv looks for its settings."""
        self.inside.project()
        self.inside.project(self._folder)

    async def _make_from_uv_lock(self) -> None:
        await self.make_venv(self.recipe.python, self.recipe.requires_python)
        sync = self.uv.command("sync", "--frozen", "--no-editable", "--python", self.entry.python)
        env = {"UV_PROJECT_ENVIRONMENT": str(self.entry.env.place), "VIRTUAL_ENV": str(self.entry.env.place)}
        await self.build.run(
            "`uv sync` of uv.lock", sync, cwd=self.entry.repo.place, env=self.env() | env, foreign=True
        )
        await self._install_always()

    async def _make_from_pipfile(self) -> None:
        file = self.recipe.pipfile
        packages = await asyncio.to_thread(pipfile.read, self.entry.repo, file)
        await self.make_venv(packages.python, file=file)
        await self._install_lines(file, file, packages.lines, complete=packages.locked)
        await self._install_always()

    async def _make_conda(self, packages: CondaPackages, file: str) -> None:
        packages = packages.with_python()
        channels = packages.channels or condafile.expanded(self.conda.channels)
        await self._install_solution(file, channels=channels, specs=packages.specs)
        await self._install_lines(f"the pip part of {file}", file, packages.pip)
        await self._install_always()

    async def _make_from_pixi_lock(self) -> None:
        file = self.recipe.pixi
        await asyncio.to_thread(content, self.entry.repo, file, LOCK_BYTES)
        lock = self.entry.repo.place / self.entry.repo.resolve(file)
        lines = await self._install_solution(file, lock=lock)
        await self._install_lines(f"the PyPI part of {file}", file, lines, complete=True)
        await self._install_always()

    async def _install_solution(self, file: str, **wanted: object) -> list[str]:
        """Makes the environment from the conda packages for what is `wanted`; returns those of PyPI, as lines."""
        repo = self.entry.repo.place
        solution = await self.solve_conda(file, repo / self._folder, [repo], **wanted)
        await self.install_conda(file, solution, [repo])
        return [package.line for package in solution.pypi]

    async def _install_always(self) -> None:
        await self.install("ipykernel", *ALWAYS)

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
            self.own_file(LINES, "".join(f"{line}\n" for line in requirements.content)) as lines,
            self.own_file(CONSTRAINTS, "".join(f"{line}\n" for line in requirements.constraints)) as constraints,
        ):
            named: list[str | Path] = ["--requirements", lines] if requirements.content else []
            named += ["--constraints", constraints] if requirements.constraints else []
            await self.install(
                what, *requirements.arguments, *arguments, *named, cwd=cwd, readable=[lines, constraints]
            )
