"""Which file of a repository says what its environment is: a pure function over a folder.

The order is repo2docker's (its list of build packs and their `detect`): a ``binder`` or ``.binder`` folder
takes the place of the root; then Dockerfile, Julia, Nix, R, conda and Pipfile come before requirements.txt;
a Python package in the root counts only without such a folder. What repo2docker does not read (uv.lock, pixi)
counts only where none of its files does. What this builder cannot do is refused, naming the file.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final, Literal

from attrs import evolve, frozen
from ringbinder.errors import UserError

_INSTEAD: Final = (
    "To build it here, describe what it needs in binder/environment.yml or binder/requirements.txt: a binder "
    "folder takes the place of the root. The 'docker' builder (repo2docker) builds it as it is."
)
_CONDA: Final = "conda-forge has it too: name the packages that you need ({}) in environment.yml. " + _INSTEAD
# In repo2docker's order of precedence, each with what to do about it.
_BEFORE_PYTHON: Final = (
    (("Dockerfile",), _INSTEAD),
    (("Project.toml", "JuliaProject.toml", "REQUIRE"), _INSTEAD),
    (("default.nix",), _INSTEAD),
)
_R_ADVICE: Final = _CONDA.format("r-base, r-irkernel, ...")
_APT_ADVICE: Final = (
    "Nothing is installed into the machine itself. Many of these packages are on conda-forge: name them in "
    "environment.yml and take apt.txt away. The 'docker' builder (repo2docker) builds it as it is."
)
_ENVIRONMENTS: Final = ("environment.yml", "environment.yaml")
_PYTHON_3: Final = re.compile(r"3(\.\d+){0,2}")
_PYTHON_2: Final = re.compile(r"python-2(\.\d+)*")
_PIPFILES: Final = ("Pipfile.lock", "Pipfile")
_PIXI: Final = ("pixi.lock", "pixi.toml")

Project = Literal["none", "package", "dependencies", "locked"]


@frozen
class Recipe:
    """What to do. Paths are relative to the repository's root."""

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
        project = {
            "package": "the package in the root",
            "dependencies": "pyproject.toml",
            "locked": "uv.lock",
        }
        named = [self.conda, self.pipfile, self.pixi, self.requirements, project.get(self.project, "")]
        return " and ".join(name for name in named if name) or "no file: a plain Python environment"


def read(root: Path) -> Recipe:
    """The recipe of the repository at `root`.

    Raises `UserError`: ``unsupported-file`` for what another builder can do, ``bad-file`` for a wrong file.
    """
    folder = _binder_folder(root)
    place = root / folder
    for names, advice in _BEFORE_PYTHON:
        if file := _first(folder, place, names):
            raise _unsupported(file, advice)
    language, version = _runtime(folder, place)
    if language == "r":
        raise _unsupported(f"{folder}runtime.txt, which asks for R", _R_ADVICE)
    if not folder and (file := _first(folder, place, ("DESCRIPTION",))):
        raise _unsupported(file, _R_ADVICE)
    if file := _first(folder, place, ("apt.txt",)):
        raise _unsupported(file, _APT_ADVICE)
    scripts = Recipe(
        post_build=_first(folder, place, ("postBuild",)), start=_first(folder, place, ("start",))
    )
    if conda := _first(folder, place, _ENVIRONMENTS):
        return evolve(scripts, conda=conda)
    if pipfile := _first(folder, place, _PIPFILES):
        return evolve(scripts, pipfile=pipfile)  # which names its Python itself, as for repo2docker
    requirements = _first(folder, place, ("requirements.txt",))
    pyproject = _pyproject(root) if not folder else {}
    project: Project = "none" if folder else _project(root, pyproject, bool(requirements))
    if not (requirements or version or project == "package"):
        if pixi := _first(folder, place, _PIXI):
            return evolve(scripts, pixi=pixi)
        if project == "none" and not language and (file := _first(folder, place, ("install.R",))):
            raise _unsupported(file, _R_ADVICE)
    return evolve(
        scripts,
        python=version,
        requires_python=_requires_python(pyproject),
        requirements=requirements,
        project=project,
    )


def _binder_folder(root: Path) -> str:
    found = [name for name in ("binder", ".binder") if (root / name).is_dir()]
    if len(found) > 1:
        raise UserError(
            "bad-file",
            "The repository has both a 'binder' and a '.binder' folder; only one of them may be there. "
            "Move everything into one of the two.",
        )
    return f"{found[0]}/" if found else ""


def _first(folder: str, place: Path, names: tuple[str, ...]) -> str:
    return next((f"{folder}{name}" for name in names if (place / name).is_file()), "")


def _unsupported(what: str, advice: str) -> UserError:
    return UserError(
        "unsupported-file",
        f"The repository has {what}, which the 'local' builder cannot build. {advice}",
    )


def _runtime(folder: str, place: Path) -> tuple[str, str]:
    """Language and version of runtime.txt (``name-version``, ``r-version-yyyy-mm-dd``, ``r-yyyy-mm-dd``)."""
    file = f"{folder}runtime.txt"
    try:
        text = (place / "runtime.txt").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "", ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("bad-file", f"{file} cannot be read: {error}") from None
    name, _, rest = text.partition("-")
    if name.lower() == "r":
        return "r", ""
    if name != "python" or not _PYTHON_3.fullmatch(rest):
        if _PYTHON_2.fullmatch(text):
            raise UserError(
                "unsupported-file", f"{file} asks for {text}: this builder makes Python 3 environments."
            )
        raise UserError(
            "bad-file", f"{file} says {text[:60]!r}; expected a Python version such as python-3.12."
        )
    return name, "" if rest == "3" else rest


def _pyproject(root: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError("bad-file", f"pyproject.toml cannot be read: {error}") from None


def _requires_python(pyproject: dict[str, Any]) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    project = pyproject.get("project", {})
    value = project.get("requires-python", "") if isinstance(project, dict) else ""
    try:
        return str(SpecifierSet(value)) if isinstance(value, str) else ""
    except InvalidSpecifier:
        raise UserError(
            "bad-file", f"pyproject.toml: requires-python is {value!r}; expected such as '>=3.11'."
        ) from None


def _project(root: Path, pyproject: dict[str, Any], requirements: bool) -> Project:
    """As repo2docker: setup.py, or a project with a build system, is a package, beside any
    requirements.txt.

    Beyond it, where there is no requirements.txt: a uv.lock is taken at its word, and a project without a
    build system gives its dependencies.
    """
    if "project" in pyproject and not requirements and (root / "uv.lock").is_file():
        return "locked"
    if (root / "setup.py").is_file() or ("project" in pyproject and "build-system" in pyproject):
        return "package"
    return "dependencies" if "project" in pyproject and not requirements else "none"
