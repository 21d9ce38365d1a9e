"""What uv, git, compilers and scripts write when a build fails, and the cause that each text must get, no other.

The texts are those of the real programs (uv 0.13, git 2.39, gcc 12, dash, bash), cut to the lines that count, with
names and addresses changed; only that of "no key" was not provoked, but written after OpenSSH's.
"""

from __future__ import annotations

from typing import Final

import pytest
from ringbinder_embedded import causes
from ringbinder_recipe.causes import telling_line

NONE: Final = "error: No solution found when resolving dependencies\n"
PYWIN32: Final = (
    "  cause: Because pywin32==306 has no wheels with a matching platform tag (e.g., `manylinux_2_36_x86_64`) and you "
    "require pywin32==306, we can conclude that your requirements are unsatisfiable.\n\n"
    "hint: Wheels are available for `pywin32` (v306) on the following platforms: `win32`, `win_amd64`, `win_arm64`\n"
)
GIT: Final = "   Updating https://git.example/a/b (HEAD)\nerror: Git operation failed\n"

TEXTS: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "another system": (NONE + PYWIN32, "no-wheel", ("pywin32", "another operating system")),
    "another system, in many versions": (
        NONE + "             pywin32>=303\n         we can conclude that pywin32>=223,<303 cannot be used.\n"
        "         And because pywin32>=303 has no wheels with a matching platform tag (e.g., `manylinux_2_36_x86_64`), "
        "we can conclude that pywin32>=223 cannot be used.\n         And because pypiwin32>=223 depends on "
        "pywin32>=223 and you require pypiwin32==223, we can conclude that your requirements are unsatisfiable.\n\n"
        "hint: You require CPython 3.11 (`cp311`), but we only found wheels for `pywin32` (v302) with the following "
        "Python ABI tags: `cp36m`, `cp37m`, `cp38`, `cp39`, `cp310`\n\n"
        "hint: Wheels are available for `pywin32` (v312) on the following platforms: `win32`, `win_amd64`\n",
        "no-wheel", ("The package pywin32 is for another operating system",),
    ),
    "another system, built": (
        "error: Failed to build `pywinpty==3.1.2`\n  cause: The build backend returned an error\n"
        "         [6] Could not resolve hostname (Could not resolve host: index.crates.io)\n",
        "no-wheel", ("pywinpty", "another operating system"),
    ),
    "another Python": (
        NONE + "  cause: Because tensorflow==1.15.0 has no wheels with a matching Python ABI tag (e.g., "
        "`cp311`) and you "
        "require tensorflow==1.15, we can conclude that your requirements are unsatisfiable.\n\n"
        "hint: You require CPython 3.11 (`cp311`), but we only found wheels for `tensorflow` (v1.15.0) with the "
        "following Python ABI tags: `cp27m`, `cp27mu`, `cp35m`, `cp36m`, `cp37m`\n",
        "no-wheel", ("The package tensorflow has no wheel",),
    ),
    "a newer Python": (
        NONE + "  cause: Because the current Python version (3.11.7) does not satisfy Python>=3.12 and "
        "django==6.0 depends "
        "on Python>=3.12, we can conclude that django==6.0 cannot be used.\n         And because you require "
        "django==6.0, we can conclude that your requirements are unsatisfiable.\n",
        "wrong-python", ("django==6.0 needs Python>=3.12", "has Python 3.11.7"),
    ),
    "yanked": (
        NONE + "  cause: Because attrs==21.1.0 was yanked (reason: Installable but not importable on Python "
        "3.4) and only "
        "the following versions of attrs are available:\n             attrs<=20.3\n             attrs==21.1.0\n"
        "             attrs>=21.2\n         we can conclude that attrs>20.3,<21.2 cannot be used.\n         And "
        "because "
        "you require attrs>20.3,<21.2, we can conclude that your requirements are unsatisfiable.\n",
        "no-matching-version", ("attrs", "yanked"),
    ),
    "yanked, all of it": (
        NONE + "  cause: Because yy==1.0 was yanked (reason: broken) and only yy==1.0 is available, we can "
        "conclude that "
        "all versions of yy cannot be used.\n",
        "no-matching-version", ("of yy has only", "yanked"),
    ),
    "not yet a version": (
        NONE + "  cause: Because only numpy<=2.5.5 is available and you require numpy>=99, we can conclude that your "
        "requirements are unsatisfiable.\n",
        "no-matching-version", ("no version numpy>=99", "there is numpy<=2.5.5"),
    ),
    "no such version": (
        NONE + "  cause: Because there is no version of six==99.0 and you require six==99.0, we can conclude that your "
        "requirements are unsatisfiable.\n",
        "no-matching-version", ("six==99.0",),
    ),
    "no such package": (
        NONE + "  cause: Because wininst was not found in the package registry and you require wininst, we can "
        "conclude "
        "that your requirements are unsatisfiable.\n",
        "package-not-found", ("wininst",),
    ),
    "a wrong dependency": (
        "error: Failed to build `x @ file:///x`\n  cause: The build backend returned an error\n"
        "         configuration error: `project.dependencies[1]` must be pep508\n",
        "bad-file", ("pyproject.toml", "project.dependencies[1]"),
    ),
    "a project's package": (
        "error: Failed to build `x @ file:///x`\n  cause: The build backend returned an error\n"
        "         FileNotFoundError: [Errno 2] No such file or directory: 'req.txt'\n",
        "package-build-failed", ("own package x",),
    ),
    "a wrong project file": (
        "error: Failed to parse metadata from built wheel\n  cause: TOML parse error at line 6, column 9\n",
        "bad-file", ("line 6",),
    ),
    "a confused name": (
        "error: Failed to build `sklearn==0.0.post12`\n"
        "hint: `sklearn` is often confused for `scikit-learn`. Did you mean to install `scikit-learn` instead?\n",
        "package-not-found", ("not sklearn", "but scikit-learn"),
    ),
    "a module of old": (
        "error: Failed to build `x==1.0`\n         ModuleNotFoundError: No module named 'distutils'\n",
        "wrong-python", ("distutils",),
    ),
    "a library": (
        "error: Failed to build `pygraphviz==1.11`\n         pygraphviz/graphviz_wrap.c:3020:10: fatal error: "
        "graphviz/cgraph.h: No such file or directory\n\nhint: This error likely indicates that you need to install a "
        "library that provides `graphviz/cgraph.h` for `pygraphviz@1.11`\n",
        "package-build-failed", ("pygraphviz", "graphviz/cgraph.h"),
    ),
    "a compiler": (
        "error: Failed to build `pygraphviz==1.11`\n"
        "         error: [Errno 2] No such file or directory: 'gcc'\n",
        "package-build-failed", ("the program gcc",),
    ),
    "a configuration program": (
        "error: Failed to build `mysqlclient==2.3.2`\n         Exception: Can not find valid pkg-config name.\n"
        "hint: Build failures usually indicate a problem with the package or the build environment\n",
        "package-build-failed", ("mysqlclient==2.3.2",),
    ),
    "no such branch": (
        GIT + "  cause: failed to fetch branch or tag `nobranch`\n         --- stderr\n         fatal: couldn't "
        "find remote "
        "ref refs/tags/nobranch\n",
        "fetch-failed", ("no branch, tag or commit nobranch",),
    ),
    "no key": (
        GIT + "         git@git.example: Permission denied (publickey).\n         fatal: Could not read from remote "
        "repository.\n\n         Please make sure you have the correct access rights\n         and the "
        "repository exists.\n",
        "fetch-failed", ("ssh",),
    ),
    "no ssh there": (
        GIT + "         ssh: connect to host 127.0.0.1 port 22: Connection refused\n         fatal: Could not "
        "read from "
        "remote repository.\n",
        "fetch-failed", ("ssh",),
    ),
    "no such repository": (
        GIT + "         fatal: repository 'https://git.example/a/b/' not found\n",
        "fetch-failed", ("https://git.example/a/b/",),
    ),
    "no such host": (
        GIT + "         fatal: unable to access 'https://git.example/a/b/': Could not resolve host: git.example\n",
        "network", ("https://git.example/a/b/",),
    ),
    "an archive's host": (
        "error: Request failed after 3 retries in 10.7s\n  cause: Failed to fetch: https://h.example/a.zip\n"
        "  cause: error sending request for url (https://h.example/a.zip)\n  cause: client error (Connect)\n"
        "  cause: dns error\n  cause: failed to lookup address information: Name or service not known\n",
        "network", ("https://h.example/a.zip",),
    ),
    "a program of Jupyter": (
        "Available subcommands: dejavu execute kernel\n\nJupyter command `jupyter-labextension` not found.\n",
        "command-not-found", ("jupyter labextension",),
    ),
    "an extension that is built": (
        "  debuglog.py:55: UserWarning: RuntimeError: npm dependencies failed to install\n    warnings.warn(msg)\n",
        "package-build-failed", ("jupyter labextension install", "Node.js"),
    ),
    "Windows lines in bash": ("x.sh: line 3: $'foo\\r': command not found\n", "bad-file", ("CRLF",)),
    "Windows lines over env": (
        "/usr/bin/env: ‘bash\\r’: No such file or directory\n/usr/bin/env: use -[v]S to pass options in shebang "
        "lines\n",
        "bad-file", ("CRLF",),
    ),
    "a program": ("binder/postBuild: 3: foo: not found\n", "command-not-found", ("foo",)),
}  # fmt: skip


@pytest.mark.parametrize(("text", "code", "words"), TEXTS.values(), ids=TEXTS)
def test_text_of_a_tool_gets_its_cause(text: str, code: str, words: tuple[str, ...]) -> None:
    lines = text.splitlines()
    message = f"`uv pip install` of requirements.txt failed (exit code 1): {telling_line(lines)}"
    found = causes.diagnose([message, *lines])
    assert found is not None
    assert found.code == code, found
    for word in words:
        assert word in found.cause
    assert found.advice
    assert "{" not in found.cause + found.advice


@pytest.mark.parametrize(
    "text",
    [
        "Added, as repo2docker does: ipywidgets>=8,<9, nbconvert, nbformat\n",
        "Left out: nbconvert, which repo2docker adds: not to be had beside what the repository asks for.\n",
        "requirements.txt (line 1): --trusted-host is passed over.\n",
        "test_slow PASSED after a request timed out as expected\n",
    ],
)
def test_line_without_a_failure_is_no_cause(text: str) -> None:
    assert causes.diagnose([text, "AssertionError"]) is None
