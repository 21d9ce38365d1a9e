"""Why a build failed, read off the output of uv, of what it builds and of the repository's scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ringbinder import Diagnosis
from ringbinder.causes import Cause
from ringbinder_recipe.causes import UNREACHABLE, UNSOLVABLE, WRONG_PYTHON_ADVICE
from ringbinder_recipe.causes import diagnose as first_of

_NO_LIBRARY_ADVICE: Final = (
    "Ask for a version that has a wheel for this Python, or for the package in binder/environment.yml: conda-forge "
    "often has it built. apt.txt has no effect here."
)
_CAUSES: Final = (
    Cause(
        r"No space left on device|Disk quota exceeded",
        "disk-full",
        "The disk is full.",
        "Free space: `ringbinder images prune` removes images, `ringbinder paths` says where they are.",
    ),
    *UNSOLVABLE,
    Cause(
        r"No module named '(?P<name>distutils|imp|asyncore|asynchat)'|has no attribute '(?P<name2>ImpImporter)'",
        "wrong-python",
        "A package is too old for this version of Python, which no longer has {name}.",
        WRONG_PYTHON_ADVICE,
    ),
    Cause(
        r"install a library that provides `(?P<file>[^`]+)` for `(?P<name>[^`@]+)",
        "package-build-failed",
        "The package {name} had to be built from its source, which needs {file} of a library that is not here.",
        _NO_LIBRARY_ADVICE,
    ),
    Cause(
        r"command '?(?P<name>[\w./+-]*(?:gcc|g\+\+|cc|clang|gfortran|cmake|cargo|rustc|swig))'? failed: No such file"
        r"|No such file or directory: '(?P<name2>[\w./+-]*(?:gcc|g\+\+|cc|clang|gfortran|cmake|cargo|rustc|swig))'",
        "package-build-failed",
        "A package had to be built from its source, which needs the program {name}, and that is not here.",
        _NO_LIBRARY_ADVICE,
    ),
    Cause(
        r"Failed to (?:download and )?build `(?P<name>[^`\s]+) @ file:",
        "package-build-failed",
        "The repository's own package {name} could not be built.",
        "See its pyproject.toml or setup.py; the log says what went wrong.",
    ),
    Cause(
        r"Failed to (?:download and )?build `?(?P<name>[^`\s]+)",
        "package-build-failed",
        "The package {name} had to be built from its source, which failed.",
        "Ask for a version that has a wheel for this Python, or for another Python in runtime.txt.",
    ),
    *UNREACHABLE,
    Cause(
        r"failed \((?:signal 9|exit code 137)\)|\bMemoryError\b|Cannot allocate memory|std::bad_alloc",
        "out-of-memory",
        "The build was ended by the system or could not go on, most likely for want of memory.",
        "Do less at a time in the build, or close what else takes memory on this machine.",
    ),
    Cause(
        r"npm dependencies failed to install|Please install (?P<name>[Nn]ode\.?js)",
        "package-build-failed",
        "JupyterLab could not be built again, as `jupyter labextension install` does: that needs Node.js, and packages "
        "of npm's.",
        "Name the extension's Python package in the requirements instead: most need no such build any more.",
    ),
    Cause(
        r"Jupyter command `jupyter-(?P<name>[\w-]+)` not found",
        "command-not-found",
        "A script calls `jupyter {name}`, which is not installed.",
        "Name the package that brings it in the requirements: jupyterlab for labextension, notebook<7 for nbextension.",
    ),
    Cause(
        r"\$'(?P<name>[^']*)\\r': command not found|env: .(?P<name2>[\w./-]+)\\r.: No such file",
        "bad-file",
        "A script has Windows line endings (CRLF).",
        "Convert it, as `sed -i 's/\\r$//' FILE` does, and commit it.",
    ),
    Cause(
        r"(?P<name>\S+): (?:command )?not found$",
        "command-not-found",
        "A script calls {name}, which is not installed.",
        "Only what pip can install and what the machine has is there.",
    ),
)


def diagnose(lines: Iterable[str]) -> Diagnosis | None:
    """Return the first known cause, searched from the last line upwards."""
    return first_of(_CAUSES, lines)
