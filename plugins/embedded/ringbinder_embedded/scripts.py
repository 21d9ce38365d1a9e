"""The repository's own scripts, postBuild and start, and where they find programs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ringbinder import process


def command(script: Path) -> list[str]:
    """How to run `script`. As in repo2docker it need not have the executable bit.

    Without a first line that names its interpreter it is the shell's, as in a Dockerfile's RUN.
    """
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with script.open("rb") as file:
        return [str(script)] if file.read(2) == b"#!" else ["/bin/sh", str(script)]


def environment(path: Iterable[Path], passed: Iterable[str]) -> dict[str, str]:
    """What code of the repository may see of our environment: nothing that could hold a credential.

    `path` comes before the machine's own search path; `passed` names what the operator gives in addition.
    """
    env = process.without_credentials(process.minimal_env())
    env |= {name: value for name in passed if (value := os.environ.get(name)) is not None}
    env["PATH"] = os.pathsep.join([*map(str, path), env.get("PATH", os.defpath)])
    return env
