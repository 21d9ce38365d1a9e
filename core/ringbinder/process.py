"""Subprocesses that never outlive us: a time limit, an output limit, and an end of the whole process tree.

Everything is started through a *leash*: a tiny parent (`_leash.py`) that holds a pipe to us. When the pipe
closes, because we say so or because we were killed, it ends the command and all that the command has started.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import define, frozen

__all__ = ["Completed", "Process", "minimal_env", "run", "start", "without_credentials"]

_LEASH: Final = str(Path(__file__).with_name("_leash.py"))
_CHUNK: Final = 65536
_PIECE: Final = 4096
_LINE_LIMIT: Final = 65536
_RUN_GRACE: Final = 1.0
_LINE_END: Final = re.compile(r"\r\n|\n|\r(?!\Z)")
_USERINFO: Final = re.compile(r"//[^/\s]*@")
_NEEDED: Final = frozenset(
    {
        "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SYSTEMROOT",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT",
        "NODE_EXTRA_CA_CERTS", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    }
)  # fmt: skip


def minimal_env() -> dict[str, str]:
    """The variables of ours that any program needs: search path, locale, time zone, certificates and proxies.

    No HOME, no token, nothing else. A proxy's address may itself hold a password; see `without_credentials`.
    """
    return {name: value for name, value in os.environ.items() if name in _NEEDED or name.startswith("LC_")}


def without_credentials(env: Mapping[str, str]) -> dict[str, str]:
    """`env` without the variables whose value is a URL with a user name or password in it."""
    return {name: value for name, value in env.items() if not _USERINFO.search(value)}


_held: set[asyncio.Task[int]] = set()


@frozen
class Completed:
    """A command that ended by itself. `output` has stdout as text, `errors` stderr, bad bytes replaced."""

    returncode: int
    """Negative: minus the signal that ended it."""
    output: str
    """Of standard output, as UTF-8; what is not, replaced."""
    errors: str = ""
    """Of standard error, in the same way."""
    truncated: bool = False
    """There was more `output` than the limit."""


class Process:
    """A command that runs on a leash. Made by `start`."""

    pid: int
    """Of the leash, which is not the command's own process group: the command has a session of its own."""

    def __init__(self, leash: _Leash, output: Coroutine[None, None, None] | None = None) -> None:
        self.pid = leash.process.pid
        self.command_pid: int = leash.command_pid
        self._leash = leash
        self._ended = asyncio.create_task(self._end(output), name=f"leash {self.pid}")
        # The event loop holds tasks weakly: a command whose starter has forgotten it goes on all the same.
        _held.add(self._ended)
        self._ended.add_done_callback(_held.discard)

    @property
    def running(self) -> bool:
        """Something of the tree may still be there."""
        return not self._ended.done()

    async def wait(self) -> int:
        """The command's exit code (negative: the signal that ended it). Cancelling the wait ends nothing.

        When it returns, all that the command has started is gone and `on_line` was given every line. Raises
        what `on_line` raised.
        """
        return await asyncio.shield(self._ended)

    async def stop(self, grace: float = 5.0) -> int:
        """Asks the whole tree to end (SIGTERM), after `grace` seconds kills it; returns the exit code.

        Idempotent. Fit for clean-up: it returns only when the tree has ended, and is cancelled only then.
        """
        self._leash.tell(grace)
        cancelled = False
        while not self._ended.done():
            try:
                await asyncio.wait({self._ended})
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError
        return self._ended.result()

    async def _end(self, output: Coroutine[None, None, None] | None) -> int:
        async def read() -> None:
            try:
                if output is not None:
                    await output
            except BaseException:
                self._leash.let_go()
                # asyncio sees the end of a process only when its output was read to the end.
                await _read_bounded(self._leash.process.stdout, bytearray(), 0)
                raise

        ended = asyncio.create_task(self._leash.wait())
        try:
            await read()
        finally:
            code = await ended
        return code


@define
class _Leash:
    """The parent process, the writing end of its control pipe and the reading end of its status pipe."""

    process: asyncio.subprocess.Process
    control: int | None
    status: asyncio.StreamReader
    status_transport: asyncio.BaseTransport
    command_pid: int = 0

    def tell(self, grace: float) -> None:
        if self.control is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self.control, f"{grace}\n".encode())

    def let_go(self) -> None:
        """Closes the control pipe: the tree ends."""
        if self.control is not None:
            os.close(self.control)
            self.control = None

    async def wait(self) -> int:
        try:
            word, _, code = (await self.status.readline()).decode().partition(" ")
            await self.process.wait()
        finally:
            self.let_go()
            self.status_transport.close()
        # A leash that was itself killed has not said how its command ended.
        return int(code) if word == "X" else self.process.returncode or -9


async def _spawn(
    argv: Sequence[str],
    cwd: Path | None,
    env: Mapping[str, str],
    nice: int = 0,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int = DEVNULL,
) -> _Leash:
    if not argv or any("\0" in part for part in argv):
        raise ValueError("a command needs a program, and no null characters")
    control_read, control = os.pipe()
    status, status_write = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport: asyncio.BaseTransport | None = None
    try:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(status, "rb", buffering=0)
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", _LEASH, str(control_read), str(status_write), str(nice),
            "keep" if "LC_CTYPE" in env else "drop", *argv,
            cwd=cwd, env=dict(env), stdin=stdin, stdout=stdout, stderr=stderr,
            pass_fds=(control_read, status_write), start_new_session=True,
        )  # fmt: skip
    except BaseException:
        os.close(control)
        if transport is not None:
            transport.close()
        raise
    finally:
        os.close(control_read)
        os.close(status_write)
    leash = _Leash(process, control, reader, transport)
    try:
        word, _, number = (await reader.readline()).decode().partition(" ")
    except asyncio.CancelledError:
        await Process(leash).stop(grace=_RUN_GRACE)
        raise
    if word == "S":
        leash.command_pid = int(number)
        return leash
    leash.let_go()
    transport.close()
    await process.wait()
    if word == "E":
        code = int(number)
        raise OSError(code, os.strerror(code), argv[0])
    raise RuntimeError(f"the process that should start {argv[0]} ended with exit code {process.returncode}")


async def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    on_line: Callable[[str], None] | None = None,
    nice: int = 0,
) -> Process:
    """Starts `argv` with exactly the environment `env`; stdout and stderr go line by line to `on_line`.

    Raises FileNotFoundError or PermissionError if it cannot be started. The command's input is empty. What
    `on_line` raises ends the command.
    """
    if on_line is None:
        return Process(await _spawn(argv, cwd, env, nice))
    leash = await _spawn(argv, cwd, env, nice, stdout=PIPE, stderr=STDOUT)
    assert leash.process.stdout is not None  # noqa: S101
    return Process(leash, _read_lines(leash.process.stdout, _Lines(on_line)))


async def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float,  # noqa: ASYNC109
    input: str | None = None,
    output_limit: int = 10_000_000,
) -> Completed:
    """Runs a short command to its end. `env` None: `minimal_env()`.

    Raises TimeoutError after `timeout` seconds, FileNotFoundError or PermissionError if the command cannot be
    started. Output beyond `output_limit` bytes (each of stdout and stderr) is dropped. Cancelled or timed
    out, the whole tree has ended before this returns.
    """
    leash = await _spawn(
        argv, cwd, minimal_env() if env is None else env,
        stdin=DEVNULL if input is None else PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    streams = leash.process
    output, errors = bytearray(), bytearray()

    async def talk() -> None:
        await asyncio.gather(
            _read_bounded(streams.stdout, output, output_limit + 1),
            _read_bounded(streams.stderr, errors, output_limit),
            _write(streams.stdin, input),
        )

    process = Process(leash, talk())
    try:
        async with asyncio.timeout(timeout):
            code = await process.wait()
    except TimeoutError:
        await process.stop(grace=_RUN_GRACE)
        raise TimeoutError(f"{argv[0]} did not end within {timeout:g} seconds") from None
    except asyncio.CancelledError:
        await process.stop(grace=_RUN_GRACE)
        raise
    truncated = len(output) > output_limit
    text = output[:output_limit].decode(errors="replace")
    return Completed(code, text, errors.decode(errors="replace"), truncated)


class _Lines:
    """Cuts output into lines at newlines and carriage returns; replaces bad bytes, divides long lines."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes; no bytes mean the end."""
        *lines, self._rest = _LINE_END.split(self._rest + self._decode(data, final=not data))
        while len(self._rest) > _LINE_LIMIT:
            lines.append(self._rest[:_LINE_LIMIT])
            self._rest = self._rest[_LINE_LIMIT:]
        if not data and self._rest:
            lines.append(self._rest.rstrip("\r"))
        for line in lines:
            self._on_line(line)


async def _read_lines(stream: asyncio.StreamReader, lines: _Lines) -> None:
    while data := await stream.read(_CHUNK):
        for start in range(0, len(data), _PIECE):
            lines.feed(data[start : start + _PIECE])
            await asyncio.sleep(0)  # the loop's other work: a piece may be thousands of empty lines
    lines.feed(b"")


async def _read_bounded(stream: asyncio.StreamReader | None, into: bytearray, limit: int) -> None:
    while stream is not None and (data := await stream.read(_CHUNK)):
        into += data[: limit - len(into)]


async def _write(stream: asyncio.StreamWriter | None, text: str | None) -> None:
    if stream is None or text is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(text.encode())
        await stream.drain()
        stream.close()
        await stream.wait_closed()
