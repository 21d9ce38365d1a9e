"""A build's commands, and its limits of time, output and disk."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import define, field
from ringbinder import BuildError, Log, process
from ringbinder.concurrency import error_summary
from ringbinder.untrusted import UntrustedError, UntrustedTree
from ringbinder_recipe.causes import telling_line

T = TypeVar("T")

LINE_COST: Final = 100
"""Bytes that a line counts as at least: each becomes an event."""
_TAIL: Final = 200
_DISK_LOOK_SECONDS: Final = 1.0


@define(eq=False)
class LimitedBuild:
    """Runs commands one after another; the first limit that is passed ends everything."""

    folder: UntrustedTree
    log: Log
    timeout: float
    """Seconds; 0: no limit. So with the others, in bytes."""
    output_limit: int
    disk_limit: int
    nice: int = 0
    sandbox: Callable[[Path, Mapping[str, str], Sequence[Path]], list[str]] | None = None
    """Gives, for a working folder, an environment and what is to be readable, what comes before a command that runs
    the repository's code."""
    environment: UntrustedTree | None = field(default=None, init=False)
    """What is made beside `folder` at the moment, and counts as well."""
    _step: str = field(default="it began", init=False)
    _output: int = field(default=0, init=False)
    _passed: asyncio.Future[str] = field(factory=lambda: asyncio.get_running_loop().create_future(), init=False)

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns the result of `work`.

        Raises `BuildError` (``build-limit``) once a limit is passed, when all has ended.
        """
        task = asyncio.create_task(work)
        watch = asyncio.create_task(self._watch_disk())
        ends: list[asyncio.Future[Any]] = [task, self._passed]
        try:
            await asyncio.wait(ends, timeout=self.timeout or None, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            reason = f"The build took longer than {self.timeout:g} seconds (LocalBuilder.build_timeout)"
            if self._passed.done():
                reason = self._passed.result()
        finally:
            watch.cancel()
            task.cancel()
            while not task.done():
                await asyncio.wait({task})
        raise BuildError(f"{reason}; it was ended while {self._step}.", "build-limit")

    async def run(
        self,
        step: str,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        foreign: bool = False,
        readable: Sequence[Path] = (),
        from_line: str = "",
    ) -> None:
        """Runs one command, its output into the log; in the sandbox if it runs `foreign` code, the repository's.

        `readable` are files and folders that it needs there beside the build's own. If it fails before it writes a
        line that begins with `from_line`, the log gets nothing of it. Raises `BuildError` naming `step` if it fails.
        """
        if foreign:
            argv = self._sandboxed(argv, cwd, env, readable)
        self._step = f"{step} was running"
        tail: deque[str] = deque(maxlen=_TAIL)
        held, holds = list[str](), True

        def flush() -> None:
            for line in held:
                self.log.line(f"{line}\n", "building")
            held.clear()

        places = [f"{self.folder.place / 'repo'}/", f"{self.folder.place.parent}/"]
        places += [f"{self.environment.place.parent}/"] if self.environment else []

        def on_line(line: str) -> None:
            nonlocal holds
            self._output += max(len(line) + 1, LINE_COST)
            for place in places:  # its author knows the files by their place in the repository
                line = line.replace(place, "")
            if self.output_limit and self._output > self.output_limit:
                self._pass(f"The build wrote more than {self.output_limit} bytes (LocalBuilder.build_output_limit)")
                return
            tail.append(line)
            held.append(line)
            holds = holds and not line.startswith(from_line)
            if not holds:
                flush()

        try:
            command = await process.start(argv, cwd=cwd, env=env, on_line=on_line, nice=self.nice)
        except OSError as error:
            raise BuildError(f"{step} could not be started: {error.strerror or error}") from error
        except RuntimeError as error:  # without a sandbox it may have killed what starts it
            raise BuildError(f"{step} failed before it was under way") from error
        try:
            code = await command.wait()
        except asyncio.CancelledError:
            await command.stop(grace=1.0)
            raise
        if code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            line = telling_line(tail)
            raise BuildError(f"{step} failed ({how}){f': {line}' if line else ''}")
        flush()

    async def attempt(
        self, step: str, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], readable: Sequence[Path]
    ) -> bool:
        """Runs one command as `run` does foreign code; whether it succeeds. Nothing of its output is logged."""
        self._step = f"{step} was running"
        argv = self._sandboxed(argv, cwd, env, readable)
        try:
            command = await process.start(argv, cwd=cwd, env=env, nice=self.nice)
        except (OSError, RuntimeError):
            return False
        try:
            return await command.wait() == 0
        finally:
            await command.stop(grace=1.0)

    def _sandboxed(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], readable: Sequence[Path]
    ) -> Sequence[str]:
        return [*self.sandbox(cwd, env, readable), *argv] if self.sandbox else argv

    def _pass(self, reason: str) -> None:
        if not self._passed.done():
            self._passed.set_result(reason)

    def size(self) -> int:
        """Return the bytes on disk. Raises `BuildError` (``build-limit``) if they cannot be counted. Blocks."""
        try:
            return self.folder.size() + (self.environment.size() if self.environment else 0)
        except UntrustedError as error:
            raise BuildError(f"What the build has made cannot be measured: {error}.", "build-limit") from None

    def check_size(self, size: int) -> None:
        """Raises `BuildError` (``build-limit``) if the whole image is too big, though no look has seen it grow."""
        if too_much := self._over(size):
            raise BuildError(f"{too_much}.", "build-limit")

    def _over(self, size: int) -> str:
        if not self.disk_limit or size <= self.disk_limit:
            return ""
        return f"The build takes {size} bytes on disk, more than {self.disk_limit} (LocalBuilder.build_disk_limit)"

    async def _watch_disk(self) -> None:
        while self.disk_limit:
            began = time.monotonic()
            try:
                too_much = self._over(await asyncio.to_thread(self.size))
            except BuildError as error:
                too_much = error.message.rstrip(".")
            except Exception as error:  # a build that cannot be measured has no limit
                too_much = f"What the build has made cannot be measured: {error_summary(error)}"
            if too_much:
                self._pass(too_much)
                return
            # A big tree takes long to add up: looking must stay a small part of the work.
            await asyncio.sleep(max(_DISK_LOOK_SECONDS, 10 * (time.monotonic() - began)))
