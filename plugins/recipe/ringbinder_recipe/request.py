"""What a repository's environment is made from: exactly what an installer is given, and nothing else of its files.

An installer that gets no more than an `EnvironmentRequest`, in a folder without the repository, cannot read anything
that the request's digest does not cover. So two commits, or two repositories, with the same digest share an
environment, however else they differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from typing import Final

from attrs import asdict, evolve, field, frozen
from ringbinder import Declined
from ringbinder.untrusted import LOCK_BYTES, UntrustedTree, excerpt, parse_toml

from . import condafile, pipfile, pixi
from .files import content, document
from .inside import Inside
from .project import dependencies
from .recipe import Recipe
from .requirements import ARCHIVES, Requirements

_SETTINGS: Final = ("--only-binary", "--require-hashes", "--no-index")
_ADDRESS: Final = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]*\s*+(?:\[[^\[\]]*\])?\s*@\s*)?"
    r"(https?://[A-Za-z0-9.-]+(?::[0-9]+)?/[^\s#?@\\]*)(?=[\s#]|$)"
)
"""Nothing in it that two parsers of addresses could take for two hosts, and no password."""
_NAMED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*+(?:\[[^\[\]]*\])?\s*(?:[<>=!~;(]|$)")


@frozen
class EnvironmentRequest:
    """What is handed to uv, and to the solver of conda packages."""

    source: str = field(metadata={"decides": False})
    """The file that decides, for people."""
    python: str = ""
    """Version that is asked for (``3.11``), or empty."""
    requires_python: str = ""
    """Specifier of a pyproject.toml (``>=3.12``), or empty."""
    requirements: tuple[str, ...] = field(default=(), repr=False)
    """Lines of a requirements file, without indexes. None names anything of the repository."""
    constraints: tuple[str, ...] = field(default=(), repr=False)
    overrides: tuple[str, ...] = field(default=(), repr=False)
    arguments: tuple[str, ...] = ()
    """For uv's command line."""
    index: str = field(default="", repr=False)
    """Address of the index that takes the place of the operator's, or empty."""
    more_indexes: tuple[str, ...] = field(default=(), repr=False)
    complete: bool = False
    """The requirements name everything, dependencies of dependencies too."""
    conda: bool = False
    """The environment is one of conda packages, to which the requirements are added."""
    channels: tuple[str, ...] = ()
    """Names and addresses of conda channels; empty: the operator's."""
    specs: tuple[str, ...] = ()
    """Of conda packages."""
    pixi_lock: bytes = field(default=b"", repr=False)
    """A whole pixi.lock: nothing else then says what to install."""
    uv_lock: bytes = field(default=b"", repr=False)
    """A whole uv.lock: nothing else then says what to install."""
    pyproject: bytes = field(default=b"", repr=False)
    """The pyproject.toml beside `uv_lock`."""
    notes: tuple[str, ...] = field(default=(), metadata={"decides": False}, repr=False)
    """What is done in another way than pip does it, for the log."""

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of everything that decides what is installed."""
        facts = asdict(self, filter=lambda attribute, _: attribute.metadata.get("decides", True))
        text = json.dumps(facts, sort_keys=True, default=lambda value: hashlib.sha256(value).hexdigest())
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def pinned(self) -> bool:
        """A lock file of the repository decides every version."""
        return self.complete or bool(self.uv_lock or self.pixi_lock)


def read(
    tree: UntrustedTree, recipe: Recipe, conda_platform: str, passed: frozenset[str] = frozenset()
) -> EnvironmentRequest | Declined:
    """Return what `recipe` of the repository `tree` asks for; `Declined` if that needs more of the repository. Blocks.

    `conda_platform` is conda's name of the environment's platform (``linux-64``); `passed` are environment variables
    that requirements may name. Raises `UserError` for a file that is wrong or missing.
    """
    request = EnvironmentRequest(recipe.source)
    inside = Inside(tree, passed)
    if recipe.project == "package":
        return Declined("the package in the root")
    if recipe.project == "locked":
        inside.project()  # uv looks for the members of a workspace wherever its pattern leads
        return evolve(
            request, python=recipe.python, requires_python=recipe.requires_python,
            uv_lock=content(tree, "uv.lock", LOCK_BYTES), pyproject=content(tree, "pyproject.toml"),
        )  # fmt: skip
    if recipe.pixi.endswith(".lock"):
        return evolve(request, conda=True, pixi_lock=content(tree, recipe.pixi, LOCK_BYTES))
    requirements = Requirements(inside)
    if recipe.conda or recipe.pixi:
        file = recipe.conda or recipe.pixi
        read_packages = condafile.read(tree, file) if recipe.conda else pixi.read(tree, file, conda_platform)
        packages = read_packages.with_python()
        requirements.add_lines(packages.pip, file)
        request = evolve(request, conda=True, channels=packages.channels, specs=packages.specs)
    elif recipe.pipfile:
        locked = pipfile.read(tree, recipe.pipfile)
        requirements.add_lines(locked.lines, recipe.pipfile)
        request = evolve(request, python=locked.python, complete=locked.locked)
    else:
        request = evolve(request, python=recipe.python, requires_python=recipe.requires_python)
        if recipe.requirements:
            requirements.add_file(recipe.requirements)
        if recipe.project == "dependencies":
            project = dependencies(document(tree, "pyproject.toml", parse_toml))
            if isinstance(project, Declined):
                return project
            requirements.add_lines(project.requirements, "pyproject.toml")
            requirements.add_lines(project.constraints, "pyproject.toml", constraint=True)
            requirements.arguments += project.arguments
            overrides = Requirements(inside)
            overrides.add_lines(project.overrides, "pyproject.toml")
            if any(line.startswith("-") or _beyond(line) for line in overrides.lines):
                return Declined("override-dependencies in pyproject.toml")
            request = evolve(request, overrides=tuple(overrides.lines))
    return _with(request, requirements)


def _with(request: EnvironmentRequest, requirements: Requirements) -> EnvironmentRequest | Declined:
    lines: list[str] = []
    index, more_indexes = "", list[str]()
    for line in requirements.content:
        option, _, value = line.partition(" ")
        if option == "--index-url":
            index = value
        elif option == "--extra-index-url":
            more_indexes.append(value)
        elif reason := _beyond(line):
            return Declined(reason)
        else:
            lines.append(line)
    for line in requirements.constraints:
        if reason := _beyond(line):
            return Declined(reason)
    return evolve(
        request, requirements=tuple(lines), constraints=tuple(requirements.constraints),
        arguments=tuple(requirements.arguments), index=index, more_indexes=tuple(more_indexes),
        notes=tuple(requirements.notes),
    )  # fmt: skip


def address_of(line: str) -> str:
    """Return the address of a file that the `line` of a requirements file names, or nothing."""
    match = _ADDRESS.match(line)
    return match[1] if match else ""


def _beyond(line: str) -> str:
    """Why the `line` needs more than a wheel of an index or an address; empty: it does not."""
    text = line.partition(" --hash=")[0].strip()
    if text.startswith(_SETTINGS) or (_NAMED.match(text) and not text.lower().endswith(ARCHIVES)):
        return ""
    if address := address_of(text):
        return "" if address.lower().endswith(".whl") else f"{excerpt(text)}, which is no wheel"
    # Its value is the place of the repository on this machine.
    return "--find-links" if text.startswith("--find-links") else excerpt(text)
