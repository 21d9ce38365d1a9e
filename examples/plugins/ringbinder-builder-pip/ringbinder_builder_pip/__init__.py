"""The builder `pip`: folder images from requirements.txt, with venv and pip."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from attrs import frozen
from ringbinder import (
    Builder,
    BuildError,
    Declined,
    Duration,
    Image,
    ImageKind,
    Log,
    Plan,
    Target,
    option,
    process,
)
from ringbinder.folder_image import FolderImage, make_folder_image
from ringbinder.untrusted import UntrustedTree

_REQUIREMENTS: Final = "requirements.txt"
_FOLDERS: Final = ("binder", ".binder")
_OF_OTHERS: Final = (
    "apt.txt", "default.nix", "DESCRIPTION", "Dockerfile", "environment.yaml", "environment.yml", "install.R",
    "JuliaProject.toml", "Pipfile", "Pipfile.lock", "pixi.lock", "pixi.toml", "postBuild", "Project.toml",
    "pyproject.toml", "REQUIRE", "runtime.txt", "setup.py", "start",
)  # fmt: skip


@frozen
class PipOptions:
    """Section `PipBuilder`."""

    build_timeout: Duration = option(1800.0, help="How long a build may take; 0: for ever.")


class PipBuilder(Builder[PipOptions]):
    """Makes a virtual environment of the Python that Ringbinder runs on."""

    Config = PipOptions
    sections = ("PipBuilder",)
    makes: ClassVar[ImageKind] = "folder"
    plugin_api = 1

    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined:
        async def fill(image: FolderImage) -> Mapping[str, Any] | Declined:
            await self.context.fetch(plan.repo, image.repo.place, log)
            if file := await asyncio.to_thread(_of_another_builder, image.repo):
                return Declined(file)
            try:
                async with asyncio.timeout(self.config.build_timeout or None):
                    await self._install(image, log)
            except TimeoutError:
                limit = f"{self.config.build_timeout:g} seconds (PipBuilder.build_timeout)"
                raise BuildError(f"The build took longer than {limit}.", "build-timeout") from None
            return {}

        return await make_folder_image(plan, target, log, fill)

    async def _install(self, image: FolderImage, log: Log) -> None:
        await self._run(image, log, [sys.executable, "-m", "venv", image.env.place])
        image.note_interpreter()
        wanted = ["-r", _REQUIREMENTS] if image.repo.is_file(_REQUIREMENTS) else []
        await self._run(image, log, [image.python, "-m", "pip", "install", "--no-cache-dir", "ipykernel", *wanted])

    async def _run(self, image: FolderImage, log: Log, argv: list[str | Path]) -> None:
        """Runs a command in the repository, without the operator's environment. Raises BuildError if it fails."""
        env = process.minimal_env() | {"HOME": str(image.home.place), "TMPDIR": str(image.scratch.place)}
        command = await process.start(
            [str(word) for word in argv],
            cwd=image.repo.place,
            env=env,
            on_line=lambda line: log.line(f"{line}\n", "building"),
        )
        try:
            code = await command.wait()
        finally:
            await command.stop()
        if code:
            raise BuildError(f"{Path(argv[0]).name} {argv[2]} ended with exit code {code}; the log has the reason.")


def _of_another_builder(repo: UntrustedTree) -> str:
    """What of a repository is for another builder; empty if there is nothing of that kind."""
    if folder := next((name for name in _FOLDERS if repo.is_folder(name)), ""):
        return f"a folder {folder}"
    if file := next((name for name in _OF_OTHERS if repo.kind(name) is not None), ""):
        return file
    # A link could lead to any file of this machine, which pip would read and show.
    if repo.kind(_REQUIREMENTS) not in (None, "file"):
        return f"{_REQUIREMENTS} is no regular file"
    return ""
