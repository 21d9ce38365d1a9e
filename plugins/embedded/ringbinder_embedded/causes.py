"""Why a build failed, read off the output of uv and of scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import evolve
from ringbinder.causes import Cause, excerpt, first_known
from ringbinder.model import Diagnosis
from ringbinder.patterns import Regex

# uv marks a chain of causes with "cause:" (since 0.12) or with box drawing before it.
_MARK: Final = Regex(r"(?i)^\s*(?:error:|cause:|Caused by:|[×╰─▶├│ ]+)\s*")
_TELLING: Final = Regex(
    r"^\s*(?:error:|cause:|Caused by:|[×╰]|ERROR:|fatal:|\w+(?:\.\w+)*(?:Error|Exception)\b)"
    r"|command not found|No such file or directory|No space left on device|Permission denied",
)
_NAME: Final = r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)"


_WRONG_PYTHON_ADVICE: Final = (
    "Ask for another Python in runtime.txt (python-3.x), or for another version of the package."
)
_CAUSES: Final = (
    Cause(
        r"No space left on device|Disk quota exceeded",
        "disk-full",
        "The disk is full.",
        "Free space: `ringbinder images prune` removes images, `ringbinder paths` says where they are.",
    ),
    Cause(
        r"[Cc]annot solve the request because of: ?(?P<name>.+)",
        "conda-unsolvable",
        "The conda channels have no set of packages that fits: {name}",
        "Loosen a version, check the spelling, or add the channel that has the package.",
    ),
    Cause(
        _NAME + r" was not found in the (?:package registry|cache|provided package locations)",
        "package-not-found",
        "There is no package named {name} in the package index.",
        "Check its spelling; the name on PyPI may differ from the name that is imported.",
    ),
    Cause(
        r"current Python version \((?P<python>[\d.]+)\) does not satisfy (?P<name>Python\S+)",
        "wrong-python",
        "A package needs {name}, but the environment has Python {python}.",
        _WRONG_PYTHON_ADVICE,
    ),
    Cause(
        r"(?P<name>[\w.-]+)(?:==\S+)? has no (?:usable wheels|wheels with a matching)",
        "no-wheel",
        "The package {name} has no wheel for this version of Python and this machine.",
        _WRONG_PYTHON_ADVICE,
    ),
    Cause(
        r"[Tt]here (?:is|are) no versions? of (?P<name>[\w.\[\]-]+?)(?P<version>[=<>!~].*?)(?: and|,|$)",
        "no-matching-version",
        "There is no version of {name}{version} in the package index.",
        "Ask for a version that exists.",
    ),
    Cause(
        r"your requirements are unsatisfiable",
        "conflicting-requirements",
        "The requirements exclude each other.",
        "Loosen one of the versions that the line names.",
    ),
    Cause(
        r"Couldn't parse requirement in `(?P<name>[^`]+)`",
        "bad-file",
        "{name} has a line that is not a requirement.",
        "Correct it: such as six==1.17.0, with two equals signs.",
    ),
    Cause(
        r"Failed to (?:download and )?build `?(?P<name>[^`\s]+)",
        "package-build-failed",
        "The package {name} had to be built from its source, which failed.",
        "Ask for a version that has a wheel for this Python, or for another Python in runtime.txt.",
    ),
    Cause(
        r"(?:failed to read from file|File not found:|Distribution not found at:) ?`?(?P<name>[^`]+)`?",
        "missing-file",
        "A file that is named in the requirements is not in the repository: {name}",
        "Add it, or take the line out.",
    ),
    Cause(
        r"error sending request|dns error|Failed to fetch:|[Cc]onnection (?:refused|reset)|timed out",
        "network",
        "The package index could not be reached.",
        "Try again; if it stays so, tell the operator.",
    ),
    Cause(
        r"failed \((?:signal 9|exit code 137)\)|\bMemoryError\b|Cannot allocate memory|std::bad_alloc",
        "out-of-memory",
        "The build was ended by the system or could not go on, most likely for want of memory.",
        "Do less at a time in the build, or close what else takes memory on this machine.",
    ),
    Cause(
        r"(?P<name>\S+): (?:command )?not found$",
        "command-not-found",
        "A script calls {name}, which is not installed.",
        "Only what pip can install and what the machine has is there.",
    ),
)


def diagnose(lines: Iterable[str]) -> Diagnosis | None:
    """The first known cause, looked for from the last line upwards; None if nothing is known."""
    found = first_known(_CAUSES, lines)
    return evolve(found, line=_MARK.sub("", found.line)) if found else None


def telling_line(lines: Iterable[str]) -> str:
    """The line that tells most of why a command failed: an error's last cause, else the last line."""
    said = [line.strip() for line in excerpt(lines)]
    telling = [line for line in said if _TELLING.search(line)]
    return _MARK.sub("", (telling or said or [""])[-1]).strip()
