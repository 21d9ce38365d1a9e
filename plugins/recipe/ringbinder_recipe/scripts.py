"""The repository's own scripts, postBuild and start, and where they find programs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ringbinder import UserError, process
from ringbinder.untrusted import UntrustedError, UntrustedTree

_HEAD_BYTES: Final = 1024


def command(tree: UntrustedTree, script: str) -> list[str]:
    """How to run `script` of `tree`. As in repo2docker it need not have the executable bit.

    Without a first line that names its interpreter it is the shell's, as in a Dockerfile's RUN. Raises `UserError`
    (``bad-file``) if it is no regular file, a link that leads out of the tree, or written on Windows.
    """
    try:
        path = tree.resolve(script)
        with tree.open(path) as file:
            executable = os.fstat(file.fileno()).st_mode & stat.S_IXUSR
            first = file.read(_HEAD_BYTES).partition(b"\n")[0]
    except (UntrustedError, FileNotFoundError) as error:
        reason = error.reason if isinstance(error, UntrustedError) else "is not there any more"
        raise UserError("bad-file", f"{script} {reason}, so it cannot be run.") from None
    if first.endswith(b"\r"):
        raise UserError(
            "bad-file",
            f"{script} has Windows line endings (CRLF): Linux takes the invisible character at the end of each line "
            "for a part of it, and finds no such program. Convert it, as "
            f"`sed -i 's/\\r$//' {script}` does, and commit it.",
        )
    place = str(tree.place / path)
    if not first.startswith(b"#!"):
        return ["/bin/sh", place]
    # What git sees as changed would count in a version that is computed from tags: the bit is not set here.
    interpreter = os.fsdecode(first[2:]).strip().split(maxsplit=1) or ["/bin/sh"]
    return [place] if executable else [*interpreter, place]


def environment(path: Iterable[Path], passed: Iterable[str]) -> dict[str, str]:
    """What code of the repository may see of our environment: nothing that could hold a credential.

    `path` comes before the machine's own search path; `passed` names what the operator gives in addition.
    """
    env = process.without_credentials(process.minimal_env())
    env |= {name: value for name in passed if (value := os.environ.get(name)) is not None}
    env["PATH"] = os.pathsep.join([*map(str, path), env.get("PATH", os.defpath)])
    return env
