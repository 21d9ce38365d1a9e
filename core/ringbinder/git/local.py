"""Asking git about a folder of this machine, by a mirror of its repository: see `mirror`."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from attrs import evolve

from ..config.specs import shown
from ..errors import UserError
from ..runtime.retry import TooLate
from .command import Access, GitCommand, quoted

_SECONDS: Final = 45.0  # less than the hook `resolve` has: the message is about the folder

Ask = Callable[..., Awaitable[str | None]]


@asynccontextmanager
async def asking(git: GitCommand, top: Path, folder: Path) -> AsyncIterator[Ask]:
    """See `Git.local`."""
    async with git.home(top.as_uri(), Access()) as home:
        env = home.env | {
            "GIT_DIR": str(home.mirror),
            "GIT_WORK_TREE": str(top),
            "GIT_ALLOW_PROTOCOL": "",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        deadline = time.monotonic() + _SECONDS

        async def run(env: dict[str, str], *arguments: str) -> str | None:
            try:
                done = await git.run(evolve(home, env=env), folder, deadline, str(folder), *arguments)
            except TooLate:
                raise UserError(
                    "folder-too-large", f"git needs too long to look through {shown(str(folder))}."
                ) from None
            if done.truncated:
                raise UserError("folder-too-large", f"{shown(str(folder))} holds more files than can be listed.")
            return done.output if done.returncode == 0 else None

        own = {name: os.environ[name] for name in ("HOME", "XDG_CONFIG_HOME") if name in os.environ}
        person = {name: value for name, value in env.items() if name != "GIT_CONFIG_NOSYSTEM"} | own
        ignored = await run(person, "config", "--type=path", "--get", "core.excludesFile")
        if not ignored:
            config = own.get("XDG_CONFIG_HOME") or f"{own.get('HOME', '')}/.config"
            ignored = f"{config}/git/ignore"
        home.configure(f'[core]\n\texcludesFile = "{quoted(ignored.strip())}"\n')
        yield lambda *arguments: run(env, *arguments)
