"""Runs a command, through the repository's `start` if there is one, and keeps what it writes in a file as well.

As repo2docker's entrypoint: signals reach the command, and its exit code is this program's. As the first process of a
container it also collects the processes that others have left behind.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import tempfile
from typing import Final

_LOG: Final = ".jupyter-server-log.txt"
_CHUNK_BYTES: Final = 64 * 1024
_RELAYED: Final = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
    signal.SIGCONT,
)  # fmt: skip
_CANNOT_RUN: Final = 127


def main(command: list[str]) -> int:
    """Return the exit code of `command`; 128 and the signal's number if one has ended it."""
    if start := os.environ.get("R2D_ENTRYPOINT"):
        command = [start, *command]
    if not command:
        return _cannot_run("no command was given")
    # Before the command starts: what arrives in between waits in the pipe.
    signals = _signals()
    try:
        output, writer = os.pipe()
        child = _start(command, writer)
    except OSError as error:
        return _cannot_run(f"{command[0]} cannot be run: {error.strerror}")
    os.close(writer)
    os.set_blocking(output, False)
    sinks = [sys.stdout.fileno(), *_log()]
    watched = [signals, output]
    while True:
        readable, _, _ = select.select(watched, [], [])
        if output in readable and _copy(output, sinks) == b"":
            watched.remove(output)  # the command may go on without it
        if signals in readable:
            for number in os.read(signals, _CHUNK_BYTES):
                if number != signal.SIGCHLD:
                    os.kill(child, number)
            if (code := _collect(child)) is not None:
                break
    # Not until its end: what the command has left behind may still hold it open.
    while _copy(output, sinks):
        pass
    return code


def _cannot_run(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return _CANNOT_RUN


def _signals() -> int:
    """A pipe with the number of each signal that arrives from now on."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_RELAYED):
        signal.signal(number, lambda *_: None)
    return reader


def _start(command: list[str], output: int) -> int:
    """The id of the command's process. Not subprocess's way: its objects collect their processes themselves."""
    actions = [(os.POSIX_SPAWN_DUP2, output, end) for end in (1, 2)]
    # Python ignores these, and what is ignored is inherited.
    usual = (signal.SIGPIPE, signal.SIGXFSZ)
    try:
        return os.posix_spawnp(command[0], command, os.environ, file_actions=actions, setsigdef=usual)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return _start(["/bin/sh", *command], output)  # a script without a first line that names its interpreter


def _log() -> list[int]:
    for folder in (os.environ.get("REPO_DIR", "."), ".", tempfile.gettempdir()):
        try:
            return [os.open(f"{folder}/{_LOG}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)]
        except OSError:
            continue
    return []


def _copy(output: int, sinks: list[int]) -> bytes | None:
    """Copy what can be read now; None if nothing can, empty at the end."""
    try:
        chunk = os.read(output, _CHUNK_BYTES)
    except BlockingIOError:
        return None
    for sink in [*sinks]:
        left = memoryview(chunk)
        try:
            while left:
                left = left[os.write(sink, left) :]
        except OSError:  # a full disk, or a reader that has gone
            sinks.remove(sink)
    return chunk


def _collect(wanted: int) -> int | None:
    """Collect all children that have ended; the exit code of `wanted` if it is among them."""
    code = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if not process:
            return code
        if process == wanted:
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
