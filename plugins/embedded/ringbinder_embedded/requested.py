"""How an environment that images share is made: from an `EnvironmentRequest`, of which none runs any code.

uv and the solver get what the request holds, in folders that hold nothing else: so all that decides the environment is
in the digest of the request.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from ringbinder import BuildError, Declined, UserError
from ringbinder.files import write_state
from ringbinder.untrusted import MAX_LOCK_VALUES, MalformedError, UntrustedTree, parse_toml
from ringbinder_recipe import condafile
from ringbinder_recipe import request as requests
from ringbinder_recipe.base_environment import ALWAYS, WHERE_THEY_FIT, WHERE_THEY_FIT_WITH_SERVER
from ringbinder_recipe.files import document, kind
from ringbinder_recipe.recipe import Recipe
from ringbinder_recipe.request import EnvironmentRequest
from ringbinder_recipe.uv import configuration_files

from .installer import CONSTRAINTS, LINES, Installer, conda_platform

_FORMAT: Final = 1
"""Version of how these environments are made: a change of that raises it."""
_OVERRIDES: Final = "overrides.txt"
_PROJECT: Final = "project"
_PIXI_LOCK: Final = "pixi.lock"
_LOGIN: Final = re.compile(r"//[^/@\s]*@")
_SECRET: Final = re.compile("PASSWORD|TOKEN|USERNAME|KEY")
_WITHOUT_EFFECT: Final = frozenset({"UV_CACHE_DIR", "UV_NO_PROGRESS"})


def read(
    tree: UntrustedTree, recipe: Recipe, passed: frozenset[str], channels: tuple[str, ...]
) -> EnvironmentRequest | None:
    """Returns what `recipe` of the repository `tree` asks for; None if that needs more of the repository. Blocks.

    `passed` are environment variables that requirements may name, `channels` those of conda that the operator names.
    """
    try:
        if recipe.post_build or _has_settings_of_uv(tree, recipe):
            return None
        request = requests.read(tree, recipe, conda_platform(), passed)
    except UserError:
        return None  # for the image alone it is refused as well, with the same words
    if isinstance(request, Declined) or not _is_apart(request, channels):
        return None
    return request


def _has_settings_of_uv(tree: UntrustedTree, recipe: Recipe) -> bool:
    """Whether uv would find settings in the repository that are not part of the request."""
    file = recipe.conda or recipe.pipfile or recipe.pixi
    for prefix in {"", file[: file.rfind("/") + 1]}:
        if kind(tree, f"{prefix}uv.toml") is not None:
            return True
        if recipe.project in ("dependencies", "locked") or kind(tree, f"{prefix}pyproject.toml") is None:
            continue
        if "uv" in _table(document(tree, f"{prefix}pyproject.toml", parse_toml), "tool"):
            return True
    return False


def _is_apart(request: EnvironmentRequest, channels: tuple[str, ...]) -> bool:
    """Whether nothing in `request` stands for something else elsewhere: a variable, or a file of the repository."""
    lines = (*request.requirements, *request.constraints, *request.overrides, request.index, *request.more_indexes)
    if any("${" in line for line in lines):
        return False
    if any(channel.startswith((".", "/", "~", "file:")) for channel in {*request.channels} - {*channels}):
        return False
    return not request.uv_lock or _needs_no_build(request)


def _needs_no_build(request: EnvironmentRequest) -> bool:
    """Whether the request's uv.lock names packages of indexes alone: uv builds any other without being asked."""
    try:
        project = parse_toml(request.pyproject)
        lock = parse_toml(request.uv_lock, values=MAX_LOCK_VALUES)
    except MalformedError:
        return False
    if "build-system" in project or "package" in _table(_table(project, "tool"), "uv"):
        return False
    packages = lock.get("package", [])
    if not isinstance(packages, list):
        return False
    sources = [_table(package, "source") for package in packages]
    return all(
        source == {"virtual": "."} or str(source.get("registry")).startswith(("https://", "http://"))
        for source in sources
    )


@frozen
class RequestedEnvironment(Installer):
    """The environment of `request` in an entry whose `env` is not there."""

    wheels_only = ("--no-build",)

    request: EnvironmentRequest
    file: str = ""
    """The file that asks for the request's Python, if it is none of the usual ones."""

    def key(self) -> str:
        """Names everything that decides the environment: the request, and what the operator has set."""
        request = self.request
        python = "" if request.conda else self.uv.python_for(request.python, request.requires_python)
        facts = [
            _FORMAT, request.digest, python, [ALWAYS, dict(WHERE_THEY_FIT), dict(WHERE_THEY_FIT_WITH_SERVER)],
            [self.conda.channels, self.conda.alias] if request.conda else [], self.build.sandbox is not None,
            settings_of(self.uv.env(Path())),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    async def make(self) -> bool:
        """Returns whether it has all that notebooks need.

        Raises `BuildError` if a tool fails, or something is to be built; `UserError`.
        """
        request = self.request
        if request.uv_lock:
            await self._make_from_uv_lock()
        else:
            lines = request.requirements
            if request.conda:
                lines += await self._install_solution()
            else:
                await self.make_venv(request.python, request.requires_python, self.file)
            apart = request.conda or request.complete
            if lines or not apart:
                await self._install_lines(lines, () if apart else ALWAYS)
            if apart:
                await self.install("ipykernel", *ALWAYS)
        return await self.complete()

    async def _make_from_uv_lock(self) -> None:
        await self.make_venv(self.request.python, self.request.requires_python)
        folder = self.entry.scratch.place / _PROJECT
        await asyncio.to_thread(folder.mkdir)
        for name, content in (("pyproject.toml", self.request.pyproject), ("uv.lock", self.request.uv_lock)):
            await asyncio.to_thread(write_state, folder / name, content, sync=False)
        sync = self.uv.command("sync", "--frozen", *self.wheels_only, "--python", self.entry.python)
        place = str(self.entry.env.place)
        env = self.env() | {"UV_PROJECT_ENVIRONMENT": place, "VIRTUAL_ENV": place}
        if not await self.build.attempt("`uv sync` of uv.lock", [*sync, "--dry-run"], cwd=folder, env=env, readable=[]):
            raise BuildError("a package of uv.lock is not to be had as a wheel")
        await self.build.run("`uv sync` of uv.lock", sync, cwd=folder, env=env, foreign=True)
        await self.install("ipykernel", *ALWAYS)

    async def _install_solution(self) -> tuple[str, ...]:
        """Makes the environment from conda packages; returns those of PyPI in a pixi.lock, as lines."""
        request = self.request
        wanted: dict[str, Any] = {}
        if request.pixi_lock:
            wanted["lock"] = self.entry.scratch.place / _PIXI_LOCK
            await asyncio.to_thread(write_state, wanted["lock"], request.pixi_lock, sync=False)
        else:
            wanted["channels"] = request.channels or condafile.expanded(self.conda.channels)
            wanted["specs"] = request.specs
        solution = await self.solve_conda(request.source, self.entry.scratch.place, **wanted)
        if any(not package.location.startswith(("https://", "http://")) for package in solution.pypi):
            raise BuildError("its pixi.lock names packages of the repository")
        await self.install_conda(request.source, solution)
        return tuple(package.line for package in solution.pypi)

    async def _install_lines(self, lines: tuple[str, ...], more: tuple[str, ...]) -> None:
        request = self.request
        indexes = [f"--index-url {request.index}"] if request.index else []
        indexes += [f"--extra-index-url {address}" for address in request.more_indexes]
        with (
            self.own_file(LINES, _text([*indexes, *lines])) as requirements,
            self.own_file(CONSTRAINTS, _text(request.constraints)) as constraints,
            self.own_file(_OVERRIDES, _text(request.overrides)) as overrides,
        ):
            arguments: list[str | Path] = [*request.arguments, *more, "--requirements", requirements]
            arguments += ["--constraints", constraints] if request.constraints else []
            arguments += ["--overrides", overrides] if request.overrides else []
            arguments += ["--no-deps"] if request.complete or request.pixi_lock else []
            # Before that uv looks for wheels; where there are none, the image gets its own environment.
            await self.install(
                request.source, *arguments, readable=[requirements, constraints, overrides], from_line="Resolved "
            )


def settings_of(env: Mapping[str, str]) -> list[Any]:
    """What the operator has set for uv, without its credentials."""
    settings = {
        name: _LOGIN.sub("//", value)
        for name, value in env.items()
        if name.startswith("UV_") and not _SECRET.search(name) and name not in _WITHOUT_EFFECT
    }
    return [settings, [_version(file) for file in configuration_files(env)]]


def _version(file: Path) -> list[int]:
    try:
        facts = file.stat()
    except OSError:
        return []
    return [facts.st_size, facts.st_mtime_ns]


def _text(lines: list[str] | tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _table(content: Any, key: str) -> dict[str, Any]:
    value = content.get(key, {}) if isinstance(content, dict) else {}
    return value if isinstance(value, dict) else {}
