"""Plugins judged in a process of their own, since importing one may hang, or end the process."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from signal import Signals
from typing import Any, Final

import attrs
from attrs import define, field
from ringbinder import process
from ringbinder.model import Finding
from ringbinder.plugins.check import examine, rows_of_project
from ringbinder.plugins.discovery import Row, installed

from ..logging import set_up
from ..terminal import echo

_GRACE: Final = 2.0


def rows_of(what: str | None) -> list[Row]:
    """The plugins of a project's folder, those that are installed under a name, or all. Raises ConfigError."""
    if what and (Path(what) / "pyproject.toml").exists():
        return rows_of_project(Path(what).resolve())
    return [row for row in installed() if what in (None, row.found.name)]


async def tried(what: str | None, rows: Sequence[Row], limit: float) -> AsyncIterator[tuple[Row, list[Finding]]]:
    """Each of `rows`, which are `rows_of(what)`, with its findings; `limit` is in seconds for each one.

    One process imports them one after another. Where it hangs or ends, another one goes on behind that plugin.
    """
    done = 0
    while done < len(rows):
        trial = _Trial(limit)
        async for findings in trial.of(what, done):
            yield rows[done], findings
            done += 1
        if done < len(rows):
            yield rows[done], [trial.failure(rows[done])]
            done += 1


@define(eq=False)
class _Trial:
    """One process that judges plugins, and what it says of them, each time in a line that begins with `mark`."""

    limit: float
    mark: str = field(factory=lambda: f"{secrets.token_hex(8)} ", init=False)
    _said: asyncio.Queue[list[Finding] | None] = field(factory=asyncio.Queue, init=False)
    """None: it has ended."""
    _code: int | None = field(default=None, init=False)

    async def of(self, what: str | None, first: int) -> AsyncIterator[list[Finding]]:
        """The findings of each plugin from number `first` on, as far as it comes."""
        # -P: as this command itself, it imports nothing of the current folder.
        command = [sys.executable, "-P", "-m", __name__, self.mark, what or "", str(first)]
        child = await process.start(command, cwd=Path.cwd(), env=dict(os.environ), on_line=self._receive)
        ended = asyncio.create_task(child.wait())
        ended.add_done_callback(lambda task: self._said.put_nowait(None))
        try:
            while True:
                async with asyncio.timeout(self.limit):
                    findings = await self._said.get()
                if findings is None:
                    self._code = ended.result()
                    return
                yield findings
        except TimeoutError:
            return
        finally:
            await child.stop(_GRACE)

    def failure(self, row: Row) -> Finding:
        """Why the one whose turn it was has no findings."""
        module = row.found.target.partition(":")[0]
        if self._code is None:
            message = f"{module} is not imported within {self.limit:g} seconds, and every command would hang with it"
            return Finding("error", message, "let a module wait for nothing: what takes time belongs into `lifespan`")
        how = f"signal {Signals(-self._code).name}" if self._code < 0 else f"exit code {self._code}"
        message = f"importing {module} ends the whole process ({how}), and would end every command"
        return Finding("error", message, "raise an exception instead")

    def _receive(self, line: str) -> None:
        if line.startswith(self.mark):
            reason: list[dict[str, Any]] = json.loads(line.removeprefix(self.mark))
            self._said.put_nowait([Finding(**each) for each in reason])
        elif line:
            echo(line, err=True)


def judge(mark: str, what: str, first: int, out: int) -> None:
    """The other process's part: writes a line with the findings of each plugin from number `first` on."""
    log = set_up("info")
    for row in rows_of(what or None)[first:]:
        findings = asyncio.run(examine(row, log))
        message = json.dumps([attrs.asdict(finding) for finding in findings])
        # What the plugin has printed may have no end of its own.
        os.write(out, f"\n{mark}{message}\n".encode())


if __name__ == "__main__":
    out = os.dup(sys.stdout.fileno())  # a plugin may close or replace what it finds
    judge(sys.argv[1], sys.argv[2], int(sys.argv[3]), out)
    os._exit(0)  # not held up by a thread that a plugin has left
