"""The `local` builder: an isolated environment made with uv from the repository's own files."""

from __future__ import annotations

import asyncio
import errno
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from attrs import frozen
from ringbinder import (
    Builder,
    BuildError,
    ByteSize,
    Context,
    Declined,
    Diagnosis,
    Duration,
    Failure,
    Image,
    ImageKind,
    Log,
    Plan,
    Target,
    UserError,
    option,
)
from ringbinder.folder_image import FolderImage, make_folder_image
from ringbinder_recipe import recipe, scripts
from ringbinder_recipe.files import LFS_NOTICE, uses_lfs
from ringbinder_recipe.recipe import Recipe
from ringbinder_recipe.uv import Uv

from . import causes, requested
from .environment import Environment
from .installer import CondaSettings
from .limits import LimitedBuild
from .requested import RequestedEnvironment
from .sandbox import SANDBOXED, Mode, Sandbox, interpreters, was_sandboxed
from .shared import environments

_LEAST_BYTES: Final = 256 * 1024
_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded")
_INSTEAD: Final = (
    "To build it here, describe what it needs in binder/environment.yml or binder/requirements.txt: a binder "
    "folder takes the place of the root. The 'docker' builder (repo2docker) builds it as is."
)
_R_ADVICE: Final = (
    f"conda-forge has it too: name the packages that you need (r-base, r-irkernel, ...) in environment.yml. {_INSTEAD}"
)
_APT_ADVICE: Final = (
    "Nothing is installed into the machine itself. Many of these packages are on conda-forge: name them in "
    "environment.yml and take apt.txt away. The 'docker' builder (repo2docker) builds it as is."
)


@frozen
class LocalBuilderOptions:
    build_timeout: Duration = option(1800.0, help="How long a build may take; 0: for ever.")
    build_output_limit: ByteSize = option(
        32 * 1024**2,
        help="How much a build may write into its log, where a line counts as 100 bytes at least; 0: no limit.",
    )
    build_disk_limit: ByteSize = option(10 * 1024**3, help="How much disk an image may take; 0: no limit.")
    build_nice: int = option(5, help="How much a build gives way to other programs, as for nice: 0 to 19.")
    sandbox: Mode = option(
        "off",
        help="`auto`: installers and postBuild run in bubblewrap where it is installed and works, without the home "
        "folder and with the rest of the machine read-only, and packages are fetched again for each environment; "
        "`required`: else nothing is built.",
    )
    uv_cache: str = option("", help="Folder of uv's cache; empty: in Ringbinder's cache folder.")
    conda_channels: tuple[str, ...] = option(
        ("conda-forge",), help="Channels for an environment.yml or pixi.toml that names none."
    )
    conda_channel_alias: str = option(
        "https://conda.anaconda.org/", help="Address below which a conda channel's name is searched for."
    )
    pass_environment: tuple[str, ...] = option(
        (), help="Names of environment variables that builds may see, besides UV_*, which only uv sees."
    )
    relock_after: Duration = option(
        7 * 86400.0,
        help="How old an environment may be that a build uses which another build has made, where no lock file "
        "decides all versions: an older one stays for the images that have it. 0: each build makes its own.",
    )


class LocalBuilder(Builder[LocalBuilderOptions]):
    """Builds what `recipe` names: Python packages with uv, conda packages with py-rattler, then postBuild."""

    Config = LocalBuilderOptions
    sections = ("LocalBuilder",)
    makes: ClassVar[ImageKind] = "folder"

    def __init__(self, config: LocalBuilderOptions, context: Context) -> None:
        super().__init__(config, context)
        self._sandbox = Sandbox(config.sandbox, context.paths, "LocalBuilder.sandbox")
        self._environments = environments(context.paths.state)
        self._uv = Uv.of(
            context.paths, config.uv_cache, config.pass_environment, apart=self._sandbox.mode == "required"
        )
        for name in self._uv.without_address():
            context.log.warning(
                "the login of an index is not used: no word of UV_INDEX or UV_DEFAULT_INDEX has its address",
                variables=f"UV_INDEX_{name}_USERNAME, UV_INDEX_{name}_PASSWORD",
                remedy=f"UV_INDEX={name.lower()}=https://...",
            )

    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined:
        lack = await self._sandbox.lack()

        def outdated(facts: Mapping[str, object]) -> str:
            sandboxed = bool(lack) or was_sandboxed(facts)
            return "" if sandboxed else "was built without the sandbox that LocalBuilder.sandbox asks for"

        async def fill(image: FolderImage) -> Mapping[str, object] | Declined:
            with _naming_a_full_disk(image.folder):
                return await self._fill(image, plan, log)

        if target.folder is None:
            raise ValueError("the local builder needs a folder to build into")
        with _naming_a_full_disk(target.folder):
            return await make_folder_image(plan, target, log, fill, outdated)

    async def diagnose(self, failure: Failure) -> Diagnosis | None:
        if failure.stage != "build" or not isinstance(failure.error, BuildError):
            return None
        if failure.error.code != "build-failed":
            return None
        return causes.diagnose([failure.error.message, *failure.tail])

    async def _fill(self, entry: FolderImage, plan: Plan, log: Log) -> Mapping[str, object] | Declined:
        build = LimitedBuild(
            entry.box, log,
            timeout=self.config.build_timeout,
            output_limit=self.config.build_output_limit,
            disk_limit=self.config.build_disk_limit,
            nice=self.config.build_nice,
        )  # fmt: skip

        async def work() -> tuple[str, int] | Declined:
            await self.context.fetch(plan.repo, entry.repo.place, log)
            if await asyncio.to_thread(uses_lfs, entry.repo):
                log.line(LFS_NOTICE, "fetching")
            return await self._install(entry, build, log)

        made = await build.within(work())
        if isinstance(made, Declined):
            return made
        start, shared = made
        await asyncio.to_thread(entry.scratch.remove_tree)
        size = await asyncio.to_thread(build.size)
        build.check_size(size + shared)
        return {"start": start, "size": size, SANDBOXED: build.sandbox is not None}

    async def _sandbox_for(
        self, entry: FolderImage, log: Log
    ) -> Callable[[Path, Mapping[str, str], Sequence[Path]], list[str]] | None:
        """How commands of this build are put into the sandbox; None: not at all. `log` gets a line."""
        if lack := await self._sandbox.lack():
            log.line(f"The build runs without a sandbox, with the rights of Ringbinder: {lack}.\n", "building")
            return None
        log.line(
            "What runs code of the repository runs in a sandbox (bubblewrap): no home folder, only its own files to "
            "write, but the network.\n",
            "building",
        )
        return self._wrapper(entry)

    def _wrapper(self, entry: FolderImage) -> Callable[[Path, Mapping[str, str], Sequence[Path]], list[str]]:
        def wrapper(cwd: Path, env: Mapping[str, str], readable: Sequence[Path]) -> list[str]:
            readable = [*interpreters(entry), Path(self._uv.command()[0]), *readable]
            if config := env.get("XDG_CONFIG_HOME"):
                readable.append(Path(config, "uv", "uv.toml"))
            return self._sandbox.wrapper(entry.box.root, readable, cwd, env)

        return wrapper

    async def _install(self, entry: FolderImage, build: LimitedBuild, log: Log) -> tuple[str, int] | Declined:
        """Makes the environment; returns the path of the repository's start script, or nothing.

        Beside it the bytes of an environment that others use too.
        """
        plan = await asyncio.to_thread(recipe.read, entry.repo)
        if declined := _for_another_builder(plan):
            return declined
        log.line(f"Building from {plan.source}\n", "building")
        build.sandbox = await self._sandbox_for(entry, log)
        conda = CondaSettings(
            self.config.conda_channels, self.config.conda_channel_alias, self.context.paths.cache / "conda"
        )
        if (shared := await self._share(entry, plan, build, conda, log)) is not None:
            return plan.start, shared
        await Environment(entry, build, self._uv, conda, plan).make()
        if plan.post_build:
            await self._run_post_build(entry, plan.post_build, build)
        return plan.start, 0

    async def _share(
        self, entry: FolderImage, plan: Recipe, build: LimitedBuild, conda: CondaSettings, log: Log
    ) -> int | None:
        """Lets the image use an environment that others may use too; returns its bytes. None: it needs its own."""
        passed = frozenset(self._uv.passed)
        request = await asyncio.to_thread(requested.read, entry.repo, plan, passed, conda.channels)
        if request is None:
            return None
        own_sandbox, now = build.sandbox, self.context.clock.time()

        def environment(of: FolderImage) -> RequestedEnvironment:
            return RequestedEnvironment(of, build, self._uv, conda, request, plan.pipfile)

        async def make(of: FolderImage) -> bool:
            build.environment = of.box
            build.sandbox = self._wrapper(of) if own_sandbox else None
            try:
                return await environment(of).make()
            finally:
                build.environment, build.sandbox = None, own_sandbox

        oldest = 0.0 if request.pinned else now - self.config.relock_after
        try:
            size = await self._environments.share(entry, environment(entry).key(), oldest, now, make, log)
        except BuildError:
            # Without the reason, which would be taken for that of a failure that follows.
            log.line(
                "The environment is made for this image alone: not all of it is to be had as wheels.\n", "building"
            )
            return None
        for note in request.notes:
            log.line(f"{note}\n", "building")
        return size

    async def _run_post_build(self, entry: FolderImage, script: str, build: LimitedBuild) -> None:
        env = scripts.environment(
            (entry.env.place / "bin", entry.home.place / ".local" / "bin"), self.config.pass_environment
        ) | {
            "HOME": str(entry.home.place),
            "TMPDIR": str(entry.scratch.place),
            "REPO_DIR": str(entry.repo.place),
            ("CONDA_PREFIX" if entry.is_conda else "VIRTUAL_ENV"): str(entry.env.place),
            "UV_CACHE_DIR": str(entry.scratch.place / "uv"),
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONUNBUFFERED": "1",
        }
        command = await asyncio.to_thread(scripts.command, entry.repo, script)
        await build.run(script, command, cwd=entry.repo.place, env=env, foreign=True)


def _for_another_builder(recipe: Recipe) -> Declined | None:
    r = f"{recipe.r}, which asks for R" if recipe.r.endswith("runtime.txt") else recipe.r
    for file, advice in (
        (recipe.dockerfile or recipe.julia or recipe.nix, _INSTEAD),
        (r, _R_ADVICE),
        (recipe.apt, _APT_ADVICE),
    ):
        if file:
            return Declined(file, advice)
    return None


@contextmanager
def _naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Raises UserError (``disk-full``) for what failed since there was no room left in `folder`."""
    try:
        yield
    except Exception as error:
        if not _is_full(error, folder):
            raise
        raise UserError(
            "disk-full",
            "There is no room left on the disk for images and packages. `ringbinder images prune` removes images, "
            "`ringbinder paths` says what is where.",
        ) from error


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether `error` came of a full disk, whichever program ran into it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if _FULL.search(str(error)):
        return True
    try:
        return shutil.disk_usage(folder).free < _LEAST_BYTES
    except OSError:
        return False
