"""One command within its limits of time and of silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ringbinder import BuildError, process

_GRACE: Final = 5.0


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    timeout: float,  # noqa: ASYNC109 - it ends the command too
    idle_timeout: float,
) -> int:
    """The exit code. Past a limit (seconds; 0: none) it raises `BuildError`, cancelled it raises that.

    Either way everything that the command has started has ended by then.
    """
    now = asyncio.get_running_loop().time
    began = received = now()

    def receive(line: str) -> None:
        nonlocal received
        received = now()
        on_line(line)

    command = await process.start(argv, cwd=cwd, env=env, on_line=receive)
    ended = asyncio.ensure_future(command.wait())
    try:
        while True:
            ends = [began + timeout] if timeout else []
            ends += [received + idle_timeout] if idle_timeout else []
            await asyncio.wait({ended}, timeout=max(min(ends) - now(), 0.0) if ends else None)
            if ended.done():
                return ended.result()
            if timeout and now() >= began + timeout:
                raise _passed(f"took longer than {timeout:g} seconds", "build_timeout")
            if idle_timeout and now() >= received + idle_timeout:
                raise _passed(f"was silent for {idle_timeout:g} seconds", "idle_timeout")
    finally:
        if not ended.done():
            await command.stop(_GRACE)
        ended.cancel()


def _passed(what: str, option: str) -> BuildError:
    return BuildError(f"The build {what} (LocalRepo2dockerBuild.{option}); it was ended.", "build-limit")
