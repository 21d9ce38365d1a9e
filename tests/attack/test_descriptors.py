"""More connections than file descriptors: said once, and all is well when some are free again."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Program

Sets = Callable[..., list[str]]

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
os.execv(sys.argv[3], sys.argv[3:])
"""


@contextmanager
def limited(ringbinder: Program, soft: int, hard: int, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The program with limits of open files, until it is left."""
    command = [sys.executable, "-c", LIMITED, str(soft), str(hard), *ringbinder.command(*arguments)]
    with subprocess.Popen(
        command, env=ringbinder.env, cwd=ringbinder.folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_descriptor_limit_is_raised(ringbinder: Program, fakes: Sets) -> None:
    with limited(ringbinder, 64, 1024, "serve", "--port", 0, *fakes()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_NOFILE) == (1024, 1024)
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.slow
def test_descriptors_exhausted_are_reported_once(ringbinder: Program, fakes: Sets) -> None:
    arguments = ("serve", "--port", 0, *fakes())
    with limited(ringbinder, 120, 120, *arguments) as process, ExitStack() as stack:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().split()[-1]
        where = urlsplit(address)
        log: list[str] = []
        reported = threading.Event()

        def read() -> None:
            for line in process.stderr or ():
                log.append(line)
                if "file descriptor" in line or "out of system resource" in line:
                    reported.set()

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(150):
            stack.enter_context(socket.create_connection((str(where.hostname), where.port or 0), timeout=60))
        assert reported.wait(60), "nothing was said"
        taken = [each for each in psutil.Process(process.pid).net_connections() if each.status == "ESTABLISHED"]
        assert 60 < len(taken) <= 90, "connections leave a quarter to launches"
        stack.close()
        assert httpx.get(f"{address}versions", timeout=60, trust_env=False).status_code == 200
        process.terminate()
        assert process.wait(60) == 0
        reader.join(60)
    text = "".join(log)
    assert "Traceback" not in text
    assert text.count("file descriptor") == 1
    assert len(log) < 20
