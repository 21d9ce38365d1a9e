"""Runs `ringbinder` in processes that have imported it already: one imports all of it, and forks for each call.

A call costs then what it does, not the half second of imports before. What is to be seen of a start itself, and what
runs in a terminal or in the background, is started as `Program.cold`, `Program.terminal` and `Program.start` do.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn, Self

from attrs import define, field

_MESSAGE = 1 << 20


@define
class Warm:
    """The process that forks; `close` ends it."""

    _process: subprocess.Popen[bytes]
    _control: socket.socket
    _lock: threading.Lock = field(factory=threading.Lock)

    @classmethod
    def started(cls) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", __file__, str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        return cls(process, ours)

    def run(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path, seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Runs `command`, a Python program and its arguments, as `subprocess.run` does that captures its output."""
        with self._lock, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            call = json.dumps({"command": list(command), "env": dict(env), "cwd": str(cwd)}).encode()
            socket.send_fds(self._control, [call], [output.fileno(), errors.fileno()])
            pid = int(self._control.recv(_MESSAGE))
            self._control.settimeout(seconds)
            try:
                code = int(self._control.recv(_MESSAGE))
            except TimeoutError:
                self._control.settimeout(None)
                os.kill(pid, signal.SIGKILL)
                self._control.recv(_MESSAGE)
                raise subprocess.TimeoutExpired(command, seconds, _content(output), _content(errors)) from None
            self._control.settimeout(None)
            return subprocess.CompletedProcess(command, code, _content(output).decode(), _content(errors).decode())

    def close(self) -> None:
        self._control.close()
        self._process.wait()


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _import_all() -> None:
    sys.modules["rich"] = None  # type: ignore[assignment] # as the program imports what it logs with
    import structlog  # noqa: F401

    del sys.modules["rich"]
    import ringbinder_server.cli.invocation
    import ringbinder_server.serve  # noqa: F401
    from ringbinder.plugins.discovery import GROUPS

    for group in GROUPS.values():
        for point in importlib.metadata.entry_points(group=group):
            with suppress(ImportError):
                point.load()


def _serve(control: socket.socket) -> None:
    while True:
        message, files, _, _ = socket.recv_fds(control, _MESSAGE, 2)
        if not message:
            return
        if (pid := os.fork()) == 0:
            control.close()
            _run(json.loads(message), *files)
        for file in files:
            os.close(file)
        control.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        control.send(str(os.waitstatus_to_exitcode(status)).encode())


def _run(call: Mapping[str, Any], output: int, errors: int) -> NoReturn:
    """Becomes the process of one call."""
    code: Any = 1
    try:
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(call["env"])
        os.chdir(call["cwd"])
        sys.argv = call["command"]
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.stdin = os.fdopen(0)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        from ringbinder_server.cli import main

        try:
            code = main()
        except SystemExit as error:
            code = error.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined] # what the interpreter does at its end
        __import__("atexit")._run_exitfuncs()
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(int(code or 0) & 0xFF)


if __name__ == "__main__":
    _import_all()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
