"""The table of the errors that have a code: the codes are found in the code, what they mean stands here."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sources import sources

_TAKES_CODE: Final = {"UserError": 0, "BuildError": 1, "Cause": 1, "Diagnosis": 3}
"""What is made with a code, and its place among the arguments."""

_WHO: Final = {
    "ringbinder": "core",
    "ringbinder_server": "the server and its commands",
    "ringbinder_embedded": "the embedded mode",
    "ringbinder_recipe": "the reader of recipes",
}

MEANINGS: Final = {
    "address-not-allowed": "The link leads to a private address, or to a host that this server may not ask.",
    "bad-file": "A file of the repository cannot be read as what its name says, is too large, or names or leads to "
    "something outside of the repository. The message names file and line.",
    "bad-image": "Code of the repository has damaged its image while it was built; the message says what is wrong.",
    "base-image-not-found": "The image after `FROM` in a Dockerfile cannot be had.",
    "build-failed": "A step of the repository's own build failed; `line` is the line of the log that matters.",
    "build-idle": "The build wrote nothing for longer than it may, and was ended.",
    "build-limit": "The build passed a limit of time, silence or size, and was ended.",
    "build-not-started": "The build's pod could not start, for a reason that the operator has to fix.",
    "build-timeout": "The build took longer than it may, and was ended.",
    "cancelled": "The client left, or the last watcher did.",
    "command-not-found": "A script of the repository calls a program that is not installed.",
    "conda-unsolvable": "No set of conda packages fits what the repository asks for.",
    "configuration-wrong": "Of the command line: it cannot be done with this configuration; the message says why.",
    "conflicting-requirements": "The repository's requirements exclude each other.",
    "consent-unknown": "`consent forget`: this repository was not allowed.",
    "disk-full": "The disk that builds write to is full.",
    "download-failed": "The file of a package is not where its index or its lock names it.",
    "events-unreadable": "`events query`: the sink's file cannot be read.",
    "fetch-failed": "The builder could not fetch the repository or one of its submodules.",
    "field-invalid": "`events query`: a field has a name that no field can have.",
    "file-exists": "`sessions keep`: the file is there already.",
    "file-not-written": "`sessions keep`: the file cannot be written.",
    "folder-changed": "A local folder changed while it was copied.",
    "folder-too-large": "A local folder is larger than `GitRepoProvider.folder_limit`, or git needs too long for it.",
    "folder-unreadable": "A file of a local folder cannot be read or copied.",
    "format-unknown": "`sessions keep`: the name of the file does not say what to write.",
    "hash-mismatch": "The file of a package is not the one that the lock or the requirements name by its hash.",
    "hub-not-configured": "An option that the launcher `jupyterhub` cannot do without is not set.",
    "image-gone": "`sessions keep`: a patch needs the image, which is no longer there.",
    "image-in-use": "The image was not removed: something runs on it.",
    "image-unknown": "`images rebase`: the registry has no such image.",
    "internal-error": "A bug, Ringbinder's or a plugin's; `error_id` finds it in the log.",
    "launch-failed": "JupyterHub did not start the server, after as many attempts as it is given.",
    "link-not-understood": "The link has no form that is known.",
    "local-not-allowed": "Folders of this machine are launched from the command line alone.",
    "missing-file": "A file that the repository's own files name is not in it.",
    "network": "Something that the build needs could not be reached.",
    "operator-credentials": "Another service refuses the operator's credentials. The log has the option.",
    "no-answer": "`events query`: no sink of this configuration answers questions.",
    "no-events": "`events query`: nothing was written yet.",
    "no-matching-version": "The package is there, and not in the version that was asked for.",
    "no-sandbox": "Code may run in a sandbox alone here, and there is none.",
    "no-wheel": "A package has no wheel for this Python and machine.",
    "nothing-changed": "`sessions keep`: no file was changed in the session.",
    "out-of-memory": "The build took more memory than there is, or than it may.",
    "package-build-failed": "A package had to be built from its source, which failed.",
    "package-not-found": "No package has this name.",
    "patch-failed": "`sessions keep`: git could not write the patch.",
    "no-loopback": "The machine has neither 127.0.0.1 nor ::1, on which notebooks are.",
    "path-too-long": "The state folder's path is too long for a socket in it; the message says what to do.",
    "provider-left-out": "The provider that has this prefix is installed, but disabled or broken.",
    "provider-unknown": "No provider has this prefix.",
    "python-not-available": "The Python that the repository asks for is not here and could not be fetched.",
    "push-refused": "The registry did not take the image that was built.",
    "record-too-large": "The record of an archive is larger than it may be.",
    "record-unusable": "A file of the record is not open, damaged, or not safe to unpack.",
    "ref-not-found": "The repository has no such branch, tag, commit or version.",
    "refused": "A policy said no: a ban, a limit, a quota, missing consent; `status_code` says which kind.",
    "registry-unreachable": "A container registry, the hub's own or that of a Dockerfile, could not be reached.",
    "repo-not-found": "The repository is not there, or not public.",
    "repo-too-large": "A repository has more branches, tags or submodules than are fetched, or is too large for git.",
    "server-died": "JupyterLab ended before it answered; the message has its last lines.",
    "server-not-installed": "JupyterLab could not be installed (`LocalLauncher.server_requirements`).",
    "server-slow": "JupyterLab did not answer within `LocalLauncher.start_timeout`.",
    "session-runs": "The session still runs; stop its notebook first.",
    "session-unknown": "No session has this name, or several begin with it.",
    "shutting-down": "The server ends, or starts again; the same link may go on at another one, or in a moment.",
    "spec-invalid": "The part of the link behind the provider has not the provider's form, or more than 2 kB.",
    "submodule-not-found": "A submodule of the repository could not be fetched.",
    "try-again": "Something outside did not answer this time; `retry_after` says when to ask again, if it is known.",
    "unsupported-content": "The builder cannot fetch content of this kind, or a name in it fits into no image.",
    "unsupported-file": "The repository has a file that no builder here builds from; the message names it.",
    "urlpath-not-allowed": "What to open after the launch is no path in the launched server.",
    "usage-wrong": "Of a command with `--json`: an option or an argument is unknown, missing or wrong.",
    "work-not-taken": "`sessions keep`: the files are too many, too large or of a kind that cannot be taken away.",
    "wrong-python": "A package needs another Python than the environment has.",
}


class UnreadableCodeError(Exception):
    """A code is neither a literal, nor a constant of its file, nor that of another error."""


def table() -> str:
    """Every code with its meaning and who says it. Raises LookupError for one without a meaning, or without a place."""
    places = codes(sources())
    if different := sorted(places.keys() ^ MEANINGS.keys()):
        raise LookupError(f"docs/error_codes.py: {different} are codes of errors or in MEANINGS, and not both")
    rows = ["| code | meaning | said by |", "|---|---|---|"]
    rows += [f"| `{code}` | {MEANINGS[code]} | {', '.join(sorted(places[code]))} |" for code in sorted(places)]
    return "\n".join(rows) + "\n"


def codes(files: Iterable[Path]) -> dict[str, set[str]]:
    """The codes in `files`, each with who says it. Raises UnreadableCodeError."""
    found: dict[str, set[str]] = {}
    for file in files:
        for code in _in_file(file):
            found.setdefault(code, set()).add(_who(file))
    return found


def _who(file: Path) -> str:
    # The innermost: the checkout itself may be called so.
    package = next((part for part in reversed(file.parent.parts) if part.startswith("ringbinder")), "")
    return _WHO.get(package, package.removeprefix("ringbinder_"))


def _in_file(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        for expression in _codes_of_errors(node):
            yield from _texts(expression, constants, f"{file}:{expression.lineno}")
        for expression in _codes_in_answers(node):
            yield from _literals(expression)


def _codes_of_errors(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions in `node` that an error, or the default of one, takes as its code."""
    match node:
        case ast.Call(ast.Name(name) | ast.Attribute(attr=name), arguments, keywords) if name in _TAKES_CODE:
            yield from (keyword.value for keyword in keywords if keyword.arg == "code")
            yield from arguments[_TAKES_CODE[name] :][:1]
        case ast.FunctionDef(args=ast.arguments(args=[*_, ast.arg("code")], defaults=[*_, default])):
            yield default


def _texts(expression: ast.expr, constants: dict[str, ast.expr], where: str) -> Iterator[str]:
    match expression:
        case ast.Name(name) if name in constants:
            yield from _literals(constants[name])
        case ast.Attribute(attr="code"):
            pass  # another error's
        case _:
            if not (found := list(_literals(expression))):
                raise UnreadableCodeError(f"{where}: write the code as a literal or a constant of the file")
            yield from found


def _codes_in_answers(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions in `node` that become a key `code`, with or without an error behind it."""
    match node:
        case ast.Call(keywords=keywords):
            yield from (keyword.value for keyword in keywords if keyword.arg == "code")
        case ast.Dict(keys, values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "code":
                    yield value
        case ast.Assign([ast.Name("code")], value):
            yield value


def _literals(expression: ast.expr) -> Iterator[str]:
    match expression:
        case ast.Constant(str(code)):
            yield code
        case ast.IfExp(body=yes, orelse=no):
            yield from _literals(yes)
            yield from _literals(no)
