"""Which file of a repository decides what its environment is, and what that file is.

The order is repo2docker's (its list of build packs and their `detect`): a ``binder`` or ``.binder`` folder
takes the place of the root; then Dockerfile, Julia, Nix, R, conda and Pipfile come before requirements.txt;
a Python package in the root counts only without such a folder. What repo2docker does not read (uv.lock, pixi)
counts only where none of its files does. What a builder cannot do, it refuses itself, by the fields of `Recipe`.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from attrs import evolve, frozen
from ringbinder import UserError
from ringbinder.untrusted import UntrustedTree, excerpt, parse_toml

from .files import content, document, kind

_JULIA: Final = ("Project.toml", "JuliaProject.toml", "REQUIRE")
_ENVIRONMENTS: Final = ("environment.yml", "environment.yaml")
_PIPFILES: Final = ("Pipfile.lock", "Pipfile")
_PIXI: Final = ("pixi.lock", "pixi.toml")

_PYTHON_3: Final = re.compile(r"3(\.[0-9]{1,4}){0,2}")
_PYTHON_2: Final = re.compile(r"python-2(\.[0-9]{1,4}){0,2}")
_SPECIFIER: Final = 200
"""Characters of a version specifier."""

Project = Literal["none", "package", "dependencies", "locked"]


@frozen
class Recipe:
    """What a repository asks for. Paths are relative to its root; empty: not asked for."""

    dockerfile: str = ""
    """Where this, `julia`, `nix`, `r` or `apt` is set, the other files are not read."""
    julia: str = ""
    nix: str = ""
    r: str = ""
    """runtime.txt, DESCRIPTION or install.R; packages of R in an environment.yml are `conda`'s."""
    apt: str = ""
    python: str = ""
    """Version that runtime.txt asks for (``3.11``), or empty."""
    requires_python: str = ""
    """Specifier of pyproject.toml (``>=3.12``), or empty."""
    conda: str = ""
    """environment.yml: nothing else then says what to install."""
    pipfile: str = ""
    """Pipfile.lock, else Pipfile: nothing else then says what to install."""
    pixi: str = ""
    """pixi.lock, else pixi.toml."""
    requirements: str = ""
    project: Project = "none"
    """What the root's project file is for: install it, only what it depends on, or sync its lock file."""
    post_build: str = ""
    start: str = ""

    @property
    def source(self) -> str:
        """The file that decides, for people."""
        project = {"package": "the package in the root", "dependencies": "pyproject.toml", "locked": "uv.lock"}
        named = [self.dockerfile, self.julia, self.nix, self.r, self.apt, self.conda, self.pipfile, self.pixi]
        named += [self.requirements, project.get(self.project, "")]
        return " and ".join(name for name in named if name) or "no file: a plain Python environment"


def read(tree: UntrustedTree) -> Recipe:
    """Return the recipe of the repository `tree`. Blocks.

    Raises `UserError`: ``bad-file`` for a wrong file, ``unsupported-file`` for Python 2.
    """
    folder = _binder_folder(tree)
    if file := _first(tree, folder, ("Dockerfile",)):
        return Recipe(dockerfile=file)
    if file := _first(tree, folder, _JULIA):
        return Recipe(julia=file)
    if file := _first(tree, folder, ("default.nix",)):
        return Recipe(nix=file)
    language, version = _runtime(tree, folder)
    if language == "r":
        return Recipe(r=f"{folder}runtime.txt")
    if not folder and (file := _first(tree, folder, ("DESCRIPTION",))):
        return Recipe(r=file)
    if file := _first(tree, folder, ("apt.txt",)):
        return Recipe(apt=file)
    scripts = Recipe(post_build=_first(tree, folder, ("postBuild",)), start=_first(tree, folder, ("start",)))
    if conda := _first(tree, folder, _ENVIRONMENTS):
        return evolve(scripts, conda=conda)
    if pipfile := _first(tree, folder, _PIPFILES):
        return evolve(scripts, pipfile=pipfile)  # which names its Python itself, as for repo2docker
    requirements = _first(tree, folder, ("requirements.txt",))
    pyproject = _pyproject(tree) if not folder else {}
    project: Project = "none" if folder else _project(tree, pyproject, bool(requirements))
    if not (requirements or version or project == "package"):
        if pixi := _first(tree, folder, _PIXI):
            return evolve(scripts, pixi=pixi)
        if project == "none" and not language and (file := _first(tree, folder, ("install.R",))):
            return Recipe(r=file)
    return evolve(
        scripts, python=version, requires_python=_requires_python(pyproject), requirements=requirements, project=project
    )


def _binder_folder(tree: UntrustedTree) -> str:
    found = [name for name in ("binder", ".binder") if kind(tree, name) == "folder"]
    if len(found) > 1:
        raise UserError(
            "bad-file",
            "The repository has both a 'binder' and a '.binder' folder; only one of them may be there. "
            "Move everything into one of the two.",
        )
    return f"{found[0]}/" if found else ""


def _first(tree: UntrustedTree, folder: str, names: tuple[str, ...]) -> str:
    """Return the first of `names` that is a file; a pipe or a device is refused when it is read."""
    files = (f"{folder}{name}" for name in names)
    return next((file for file in files if kind(tree, file) in ("file", "other")), "")


def _runtime(tree: UntrustedTree, folder: str) -> tuple[str, str]:
    """Language and version of runtime.txt (``name-version``, ``r-version-yyyy-mm-dd``, ``r-yyyy-mm-dd``)."""
    if not (file := _first(tree, folder, ("runtime.txt",))):
        return "", ""
    try:
        text = content(tree, file).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise UserError("bad-file", f"{file} is no text in UTF-8: save it as such.") from None
    name, _, rest = text.partition("-")
    if name.lower() == "r":
        return "r", ""
    if name != "python" or not _PYTHON_3.fullmatch(rest):
        if _PYTHON_2.fullmatch(text):
            raise UserError("unsupported-file", f"{file} asks for {text}: this builder makes Python 3 environments.")
        raise UserError("bad-file", f"{file} says '{excerpt(text)}'; expected a Python version such as python-3.12.")
    return name, "" if rest == "3" else rest


def _pyproject(tree: UntrustedTree) -> dict[str, Any]:
    file = _first(tree, "", ("pyproject.toml",))
    content: dict[str, Any] = document(tree, file, parse_toml) if file else {}
    return content


def _requires_python(pyproject: dict[str, Any]) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    project = pyproject.get("project", {})
    value = project.get("requires-python", "") if isinstance(project, dict) else ""
    if not isinstance(value, str):
        return ""
    try:
        if len(value) <= _SPECIFIER:
            return str(SpecifierSet(value))
    except InvalidSpecifier:
        pass
    raise UserError("bad-file", f"pyproject.toml: requires-python is '{excerpt(value)}'; expected such as '>=3.11'.")


def _project(tree: UntrustedTree, pyproject: dict[str, Any], requirements: bool) -> Project:
    """As repo2docker: setup.py, or a project with a build system, is a package, beside any
    requirements.txt.

    Beyond it, where there is no requirements.txt: a uv.lock is taken at its word, and a project without a
    build system gives its dependencies.
    """
    if "project" in pyproject and not requirements and _first(tree, "", ("uv.lock",)):
        return "locked"
    if _first(tree, "", ("setup.py",)) or ("project" in pyproject and "build-system" in pyproject):
        return "package"
    return "dependencies" if "project" in pyproject and not requirements else "none"
