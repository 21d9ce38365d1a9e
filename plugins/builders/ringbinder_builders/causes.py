"""Why a build of repo2docker's failed, read off its log: pip, conda, apt, git, Dockerfiles and the engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import evolve
from ringbinder import BuildError, Diagnosis, Failure
from ringbinder.causes import Cause, first_known, log_excerpt
from ringbinder.untrusted import Regex

_MARK: Final = Regex(r"^\s*(?:#\d+\s+(?:[\d.]+\s+)?)?(?:ERROR: |Error: |error: |E: )?")
"""What stands before a message: BuildKit's step and seconds, and the word error."""
_TELLING: Final = Regex(
    r"(?:^|\s)(?:ERROR:|Error:|error:|E: |fatal:)\s*\S|\b\w+(?:Error|Exception|NotFound): |command not found"
    r"|No such file or directory|No space left on device|Permission denied|failed to solve"
)
_EMPTY_WORDS: Final = Regex(
    r"process \"|returned a non-zero code|exit code: \d+|executor failed running|Error during build:"
    r"|returned non-zero exit status|failed to solve with frontend|ERROR \[|^\s*------|\btime: [\d.]+$"
)
"""They say that something failed, not why."""

_COLOUR: Final = Regex(r"\x1b\[[0-9;]*m")
_OF_A_COMMAND: Final = Regex(r"#\d+ \d+\.\d+ \S")
"""What a command has printed, by BuildKit's marks."""


_CAUSES: Final = (
    Cause(
        r"[Nn]o space left on device|Disk quota exceeded",
        "disk-full",
        "The disk on which images are built is full.",
        "Try again later; for the operator: `ringbinder images prune` makes room.",
    ),
    Cause(
        r"Could not find a version that satisfies the requirement (?P<name>\S+) \(from versions: none\)",
        "package-not-found",
        "There is no package named {name} for this system and version of Python in the package index.",
        "Check its spelling; the name on PyPI may differ from the name that is imported. Some, such as pywin32, are "
        "for another system alone.",
    ),
    Cause(
        r"(?:Could not find a version that satisfies the requirement|No matching distribution found for) "
        r"(?P<name>\S+)",
        "no-matching-version",
        "There is no version {name} for this version of Python in the package index.",
        "Ask for a version that exists, or for another Python in runtime.txt.",
    ),
    Cause(
        r"ResolutionImpossible|Cannot install .* because these package versions have conflicting dependencies",
        "conflicting-requirements",
        "The requirements exclude each other.",
        "Loosen one of the versions; the log says which ones conflict.",
    ),
    Cause(
        r"nothing provides (?:requested )?(?P<name>[\w.-]+)|(?P<name2>[\w.-]+)\S* does not exist \(perhaps a typo",
        "package-not-found",
        "The conda channels have no package {name}.",
        "Check its spelling, or add the channel that has it to environment.yml.",
    ),
    Cause(
        r"Could not solve for environment specs|LibMambaUnsatisfiableError|UnsatisfiableError",
        "conda-unsolvable",
        "The conda channels have no set of packages that fits.",
        "Loosen a version in environment.yml; the log says which ones conflict.",
    ),
    Cause(
        r"Unable to locate package (?P<name>\S+)|Package '?(?P<name2>[\w.+-]+)'? has no installation candidate",
        "package-not-found",
        "apt knows no package {name}, which apt.txt or the Dockerfile names.",
        "Check its spelling: packages of the image's own distribution are meant.",
    ),
    Cause(
        r"https?://(?P<name>[^/\s\"]+)/v2/.*(?:connection refused|no such host|i/o timeout|no route to host|: EOF|TLS"
        r"|x509|server gave HTTP response to HTTPS client|network is unreachable)",
        "registry-unreachable",
        "The container registry {name} could not be reached.",
        "Try again; if it stays so, tell the operator: `ringbinder doctor` asks the registry.",
    ),
    Cause(
        r"(?:pull access denied for|manifest for|failed to resolve source metadata for) (?P<name>\S+?)"
        r"(?:,| not found|: )|(?:^|\s)(?P<name2>\w[\w.-]*/[\w./-]+:[\w.-]+): not found$",
        "base-image-not-found",
        "The image {name}, on which the Dockerfile builds, cannot be had.",
        "Check its name and tag after FROM; it must be public.",
    ),
    Cause(
        r"(?:^|: )(?:denied|unauthorized|insufficient_scope): |no basic auth credentials"
        r"|failed to push .*(?:denied|unauthorized|authorization failed|status.*: 40[13])",
        "push-refused",
        "The container registry refused access: most often to the image that was built, which this hub has no right "
        "to push.",
        "Tell the operator: `ringbinder doctor` asks the registry.",
    ),
    Cause(
        r"[Dd]ockerfile parse error[^:]*: (?P<name>.+)|unknown instruction: (?P<name2>\S+)",
        "bad-file",
        "The Dockerfile has a line that is no instruction: {name}",
        "Correct it.",
    ),
    Cause(
        r"(?:COPY|ADD) failed:.* (?P<name>\S+): (?:not found|no such file)"
        r"|(?:failed to compute cache key|checksum of ref \S+): .*?\"?(?P<name2>[^\s\"]+)\"?:? not found",
        "missing-file",
        "The Dockerfile copies {name}, which is not in the repository.",
        "Add the file, or take the line out.",
    ),
    Cause(
        r"No module named '(?P<name>distutils|imp|asyncore|asynchat)'|has no attribute '(?P<name2>ImpImporter)'",
        "wrong-python",
        "A package is too old for this version of Python, which no longer has {name}.",
        "Ask for another Python in runtime.txt (python-3.x), or for another version of the package.",
    ),
    Cause(
        r"The '(?P<name>sklearn)' PyPI package is deprecated",
        "package-not-found",
        "The package that is imported so is not {name} in the package index, but scikit-learn.",
        "Correct its name in the requirements.",
    ),
    Cause(
        r"Failed building wheel for (?P<name>\S+)|Failed to build '?(?P<name2>[\w.-]+)'?(?:$| when )",
        "package-build-failed",
        "The package {name} had to be built from its source, which failed.",
        "Ask for a version that has a wheel for this Python, or name what it needs in apt.txt.",
    ),
    Cause(
        r"Could not open requirements file.*'(?P<name>[^']+)'",
        "missing-file",
        "A requirements file is not in the repository: {name}",
        "Add it, or take the line out that names it.",
    ),
    Cause(
        r"(?:Failed to clone repository from|Authentication failed for|fatal: repository) '?(?P<name>[^\s']+)'?"
        r"(?: \(ref| not found| does not exist|[.!]?$)",
        "fetch-failed",
        "The repository {name} could not be fetched.",
        "Check that it is there and public, submodules included; then try again.",
    ),
    Cause(
        r"Temporary failure (?:in name resolution|resolving)|Could not resolve host|[Cc]onnection (?:refused|reset)"
        r"|[Cc]onnection timed out|ReadTimeoutError|i/o timeout|TLS handshake timeout",
        "network",
        "Something that the build needs could not be reached.",
        "Try again; if it stays so, tell the operator.",
    ),
    Cause(
        r"(?:^|\s)(?P<name>(?:\./)?(?:\.?binder/)?(?:postBuild|start)): "
        r"(?:not found|cannot execute: required file not found|.*bad interpreter)"
        r"|\$'(?P<name2>[^']*)\\r': command not found|env: .[\w./-]+\\r.: No such file",
        "bad-file",
        "A script, or the program that its first line names, cannot be run: most often since its lines end as on "
        "Windows (CRLF). {name}",
        "Convert it, as `sed -i 's/\\r$//' postBuild` does, and commit it.",
    ),
    Cause(
        r"(?P<name>[\w./-]+): (?:command )?not found$",
        "command-not-found",
        "A script calls {name}, which is not installed.",
        "Name its package in apt.txt or environment.yml.",
    ),
)


def of_failure(failure: Failure) -> Diagnosis | None:
    """The answer of a builder's hook `diagnose`; None where the failure says of itself what it is."""
    error = failure.error
    if failure.stage != "build" or not isinstance(error, BuildError) or error.code != "build-failed":
        return None
    return diagnose([*failure.tail, error.message])


def diagnose(lines: Iterable[str]) -> Diagnosis | None:
    """The first known cause, looked for from the last line upwards; None if nothing is known."""
    found = first_known(_CAUSES, _lines(lines))
    return evolve(found, line=_plain(found.line)) if found else None


def telling_line(lines: Iterable[str]) -> str:
    """The line that tells most of why a build failed; empty if none does."""
    reason = [line for line in _lines(lines) if not _EMPTY_WORDS.search(line)]
    telling = [line for line in reason if _TELLING.search(line)] or [
        line for line in reason if _OF_A_COMMAND.match(line)
    ]
    return _plain(telling[-1]) if telling else ""


def _lines(messages: Iterable[str]) -> list[str]:
    """Colours are left out."""
    return [line for found in log_excerpt(messages) if (line := _COLOUR.sub("", found).strip())]


def _plain(line: str) -> str:
    return _MARK.sub("", line).strip()
