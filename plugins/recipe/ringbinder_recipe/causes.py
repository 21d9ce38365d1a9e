"""Why what a repository asks for cannot be had, read off the output of uv and py-rattler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import evolve
from ringbinder import Diagnosis
from ringbinder.causes import Cause, first_known, log_excerpt
from ringbinder.untrusted import Regex

# uv marks a chain of causes with "cause:" (since 0.12) or with box drawing before it.
_MARK: Final = Regex(r"(?i)^\s*(?:error:|cause:|Caused by:|[×╰─▶├│ ]+)\s*")
_TELLING: Final = Regex(
    r"^\s*(?:error:|cause:|Caused by:|[×╰]|ERROR:|fatal:|\w+(?:\.\w+)*(?:Error|Exception)\b)"
    r"|command not found|No such file or directory|No space left on device|Permission denied"
)
_NAME: Final = r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)"
WRONG_PYTHON_ADVICE: Final = (
    "Ask for another Python in runtime.txt (python-3.x), or for another version of the package."
)
UNSOLVABLE: Final = (
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
        r"Wheels are available for `(?P<name>[^`]+)`.* on the following platforms?: (?:`(?:win|macosx)\w+`(?:, )?)+$"
        r"|Failed to build `?(?P<name2>pywinpty|pypiwin32|pywin32[\w-]*|windows-curses|pyobjc[\w-]*)",
        "no-wheel",
        "The package {name} is for another operating system.",
        "Take it out, or write behind it where it is needed: ; sys_platform == 'win32'",
    ),
    Cause(
        r"(?P<name>[\w.-]+)==\S+ was yanked",
        "no-matching-version",
        "What was asked for of {name} has only releases that its authors have withdrawn (yanked).",
        "Ask for other versions; a withdrawn one is taken if it is named exactly, with ==.",
    ),
    Cause(
        r"current Python version \((?P<python>[\d.]+)\) does not satisfy (?P<needs>Python\S+) and (?P<name>\S+) "
        r"depends on",
        "wrong-python",
        "The package {name} needs {needs}, but the environment has Python {python}.",
        WRONG_PYTHON_ADVICE,
    ),
    Cause(
        r"current Python version \((?P<python>[\d.]+)\) does not satisfy (?P<name>Python\S+)",
        "wrong-python",
        "A package needs {name}, but the environment has Python {python}.",
        WRONG_PYTHON_ADVICE,
    ),
    Cause(
        r"(?P<name>[\w.-]+)(?:[=<>!~]\S+)? has no (?:usable wheels|wheels with a matching)",
        "no-wheel",
        "The package {name} has no wheel for this version of Python and this machine.",
        WRONG_PYTHON_ADVICE,
    ),
    Cause(
        r"[Tt]here (?:is|are) no versions? of (?P<name>[\w.\[\]-]+?)(?P<version>[=<>!~].*?)(?: and|,|$)",
        "no-matching-version",
        "There is no version of {name}{version} in the package index.",
        "Ask for a version that exists.",
    ),
    Cause(
        r"only (?P<there>\S+) is available and you require (?P<name>\S+), we can conclude",
        "no-matching-version",
        "There is no version {name} in the package index; there is {there}.",
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
        "{name} has a line that is no requirement.",
        "Correct it: such as six==1.17.0, with two equals signs.",
    ),
    Cause(
        r"configuration error: `(?P<name>[^`]+)` must be pep508",
        "bad-file",
        "An entry of a pyproject.toml is no requirement: {name}",
        "Correct it: such as six==1.17.0, with two equals signs.",
    ),
    Cause(
        r"TOML parse error at (?P<name>line \d+)",
        "bad-file",
        "A pyproject.toml or uv.toml is no valid TOML at {name}.",
        "Correct it; the log says which file, and shows the line.",
    ),
    Cause(
        r"hint: `(?P<name>[^`]+)` is often confused for `(?P<right>[^`]+)`",
        "package-not-found",
        "The package that is imported so is not {name} in the package index, but {right}.",
        "Correct its name in the requirements.",
    ),
)
UNREACHABLE: Final = (
    Cause(
        r"(?:failed to read from file|File not found: `|Distribution not found at:) ?`?(?P<name>[^`]+)`?",
        "missing-file",
        "A file that is named in the requirements is not in the repository: {name}",
        "Add it, or take the line out.",
    ),
    Cause(
        r"couldn't find remote ref (?:refs/(?:tags|heads)/)?(?P<name>\S+)",
        "fetch-failed",
        "The git repository of a package has no branch, tag or commit {name}.",
        "Correct what stands after @ in the address of the repository.",
    ),
    Cause(
        r"Permission denied \((?P<name>publickey)|Host key verification failed|cannot run ssh|ssh: connect to host",
        "fetch-failed",
        "The git repository of a package is named by an address for ssh, with which it could not be fetched.",
        "Name it by git+https://, which needs no key if it is public.",
    ),
    Cause(
        r"repository '(?P<name>[^']+)' not found|could not read Username for '(?P<name2>[^']+)'",
        "fetch-failed",
        "The git repository of a package is not there, or not public: {name}",
        "Check its address.",
    ),
    Cause(
        r"error sending request for url \((?P<name>\S+?)\)|fatal: unable to access '(?P<name2>[^']+)'",
        "network",
        "Something that the build needs could not be reached: {name}",
        "Try again; if it stays so, tell the operator.",
    ),
    Cause(
        r"error sending request|dns error|Failed to fetch:|[Cc]onnection (?:refused|reset|timed out)"
        r"|operation timed out|Could not resolve host|Temporary failure in name resolution",
        "network",
        "Something that the build needs could not be reached.",
        "Try again; if it stays so, tell the operator.",
    ),
)


def diagnose(causes: Iterable[Cause], lines: Iterable[str]) -> Diagnosis | None:
    """Return the first known cause, searched from the last line upwards."""
    found = first_known(causes, lines)
    return evolve(found, line=_MARK.sub("", found.line)) if found else None


def telling_line(lines: Iterable[str]) -> str:
    """The line that tells most of why a command failed: an error's last cause, else the last line."""
    reason = [line.strip() for line in log_excerpt(lines)]
    telling = [line for line in reason if _TELLING.search(line)]
    return _MARK.sub("", (telling or reason or [""])[-1]).strip()
