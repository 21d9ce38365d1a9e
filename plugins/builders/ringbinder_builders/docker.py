"""The `docker` builder: repo2docker on this machine, with a container engine."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from attrs import define, field
from ringbinder import (
    Builder,
    BuildError,
    ConfigError,
    Context,
    Diagnosis,
    Failure,
    Finding,
    GitSource,
    Health,
    Image,
    ImageKind,
    Log,
    Phase,
    Plan,
    PluginError,
    PruneResult,
    Secret,
    Target,
    TransientError,
    process,
)
from ringbinder.files import remove_abandoned

from . import _docker_doctor, _limited, causes
from ._docker_engine import DockerEngine, address
from ._docker_options import DockerBuilderOptions
from ._image_cleaner import ImageCleaner
from ._workplace import Workplace, docker_settings, workplace
from .repo2docker import LogReader, command

_CONFIG: Final = Path(__file__).with_name("in_repo2docker") / "config.py"
_TAIL: Final = 200
_OF_DOCKERS_CLIENT: Final = ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "BUILDX_BUILDER")


class DockerBuilder(Builder[DockerBuilderOptions]):
    """Runs repo2docker, one process a build; the registry plugin pushes what it has made."""

    Config = DockerBuilderOptions
    sections = ("BuildExecutor", "ImageCleaner", "LocalRepo2dockerBuild")
    makes: ClassVar[ImageKind] = "oci"

    def __init__(self, config: DockerBuilderOptions, context: Context) -> None:
        super().__init__(config, context)
        self._folder = context.paths.state / "docker-builds"
        self._version = ""

    @property
    def builds_at_once(self) -> int:
        return self.config.builds_at_once

    @property
    def builder_info(self) -> dict[str, Any]:
        """As BinderHub has it."""
        return {"repo2docker-version": self._version, **self.config.builder_info}

    @property
    def engine(self) -> DockerEngine:
        """The engine that builds; its address is looked up again, since it may have been started since."""
        return DockerEngine(self.context.name, address(self.config.docker_host))

    @property
    def cleaner(self) -> ImageCleaner:
        return ImageCleaner(self.engine, self.config, self.context.clock)

    async def lifespan(self) -> AsyncIterator[None]:
        """Raises ConfigError for what no build can do without, the engine excepted: that may come later."""
        self._program()
        if (file := self.config.repo2docker_config) and not file.is_file():
            # repo2docker itself passes over a file that is not there.
            raise ConfigError([f"LocalRepo2dockerBuild.repo2docker_config: there is no file {file}"])
        self._docker_settings()
        await asyncio.to_thread(remove_abandoned, self._folder)
        self._version = await _docker_doctor.version([str(self._program())], process.minimal_env())
        if self.config.every:
            self._keep_clean()
        yield

    async def build(self, plan: Plan, target: Target, log: Log) -> Image:
        async with workplace(self._folder) as place:
            await self.engine.info()
            await self._run(plan, target, place, log)
        if (found := await self.engine.find(plan.image)) is None:
            raise PluginError(
                self.context.name,
                f"repo2docker says that it is done, but the engine at {self.engine.address} has no image "
                f"{plan.image}; does docker's buildx use another builder than the engine's own?",
                "build",
            )
        return Image(plan.image, self.makes, size=found.size)

    async def diagnose(self, failure: Failure) -> Diagnosis | None:
        return causes.of_failure(failure)

    async def images(self) -> Sequence[Image]:
        return await self.cleaner.images()

    async def delete(self, image: Image) -> bool:
        return await self.cleaner.delete(image)

    async def prune_images(self, dry_run: bool) -> PruneResult:
        return await self.cleaner.prune_images(dry_run=dry_run)

    async def health(self) -> Health:
        try:
            info = await self.engine.info()
        except TransientError as error:
            return Health("Container engine", ok=False, detail={"message": str(error)})
        return Health("Container engine", ok=True, detail={"version": info.get("ServerVersion", "")})

    async def doctor(self) -> Sequence[Finding]:
        async with workplace(self._folder) as place:
            env = self._environment(place, None)
            return await _docker_doctor.examine(self.engine, [str(self._program())], env)

    async def _run(self, plan: Plan, target: Target, place: Workplace, log: Log) -> None:
        """Raises BuildError, TransientError if the engine has gone, and what bringing the content raises."""
        remembered = _Remembered(log)
        reader = LogReader(remembered)
        own = self.config.registry_credentials
        env = self._environment(place, target.credentials or (own.as_secret() if own else None))
        content = None
        if isinstance(plan.repo.source, GitSource):
            if credentials := plan.repo.credentials or self.config.git_credentials:
                place.keep_git_credentials(plan.repo.source.url, credentials)
        else:
            content = place.content
            await self.context.fetch(plan.repo, content, log)
        words = command(plan, self.config, push=False, content=content, labels=self.image_labels)[1:]
        words = ["--config", str(_CONFIG), *words]
        code = await _limited.run(
            [str(self._program()), *words],
            cwd=place.folder,
            env=env,
            on_line=reader.receive,
            timeout=self.config.build_timeout,
            idle_timeout=self.config.idle_timeout,
        )
        if code:
            await self.engine.info()
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            why = causes.telling_line(remembered.tail) or reader.reason
            raise BuildError(f"repo2docker failed ({how}){f': {why}' if why else ''}")

    def _environment(self, place: Workplace, login: Secret | None) -> dict[str, str]:
        place.keep_docker_config(self._docker_settings(), login)
        given = {name: os.environ[name] for name in _OF_DOCKERS_CLIENT if name in os.environ}
        ours = {"DOCKER_HOST": self.engine.address}
        if self.config.repo2docker_config:
            ours["RINGBINDER_REPO2DOCKER_CONFIG"] = str(self.config.repo2docker_config.absolute())
        return process.minimal_env() | given | ours | place.environment()

    def _docker_settings(self) -> dict[str, object]:
        if configured := self.config.docker_config_path:
            return docker_settings(configured, logins=True)
        # Unless configured, the operator's own logins are not lent to the builds of strangers.
        home = os.environ.get("DOCKER_CONFIG") or f"{os.environ.get('HOME', '')}/.docker"
        return docker_settings(Path(home) / "config.json", logins=False)

    def _program(self) -> Path:
        name = self.config.repo2docker
        beside = Path(sys.executable).parent / name
        found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
        if found is None:
            message = f'there is no program "{name}"; install it (pip install jupyter-repo2docker)'
            raise ConfigError([f"LocalRepo2dockerBuild.repo2docker: {message}, or say where it is"])
        return Path(found)

    def _keep_clean(self) -> asyncio.Task[Any]:
        full = "they may fill the engine's disk"
        return self.context.tasks.every(self.config.every, self._clean, "the cleaner of images", full)

    async def _clean(self) -> None:
        room = await self.cleaner.prune_images(dry_run=False)
        if room.removed:
            self.context.log.info("images removed", count=len(room.removed), outcome=room.summary)


@define
class _Remembered:
    """A log that passes everything on and keeps its last lines."""

    log: Log
    tail: deque[str] = field(factory=lambda: deque(maxlen=_TAIL))

    def line(self, message: str, phase: Phase | None = None) -> None:
        self.tail.append(message)
        self.log.line(message, phase)

    def progress(self, layers: object, message: str = "Pushing image\n") -> None:
        self.log.progress(layers, message)  # type: ignore[arg-type]
