"""A machine whose loopback interface has IPv6 only, or no address at all."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from ringbinder_server.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Program

Sets = Callable[..., list[str]]

pytestmark = pytest.mark.real("network namespace")

IPV6_ONLY = "ip link set lo up && ip addr del 127.0.0.1/8 dev lo"
NOTEBOOK = """
import asyncio, os, sys
from pathlib import Path
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder_embedded.jupyter import _Port
from ringbinder_embedded.relay import Relay

async def main():
    port = _Port.found()
    folder = Path(sys.argv[1])
    inner = await asyncio.start_unix_server(lambda r, w: (w.write(b"hello"), w.close()), folder / "s")
    relay = await Relay.start(port.host, port.number, UntrustedTree(folder), "s")
    reader, writer = await asyncio.open_connection(port.host, port.number)
    print(port.address, (await reader.read()).decode())
    writer.close(); relay.close(); inner.close(); port.free()

asyncio.run(main())
"""
SERVER = """
import subprocess, sys, urllib.request
server = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
address = server.stdout.readline().split()[-1]
try:
    print(address, urllib.request.urlopen(address.partition("?")[0] + "versions").status)
finally:
    server.terminate()
    sys.exit(server.wait())
"""


def apart(setup: str, ringbinder: Program, *command: object) -> subprocess.CompletedProcess[str]:
    """Runs `command` in a network of its own, after the shell commands `setup`."""
    shell = f"{setup} && exec {shlex.join(map(str, command))}"
    return subprocess.run(
        ["unshare", "--map-root-user", "--net", "sh", "-c", shell],
        env=ringbinder.env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_serve_without_ipv4_loopback_shows_what_is_missing(ringbinder: Program, fakes: Sets) -> None:
    done = apart(IPV6_ONLY, ringbinder, *ringbinder.command("serve", "--port", 0, *fakes()))
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert "no address 127.0.0.1" in done.stderr
    assert "--host ::1" in done.stderr


def test_serve_on_ipv6_loopback_answers(ringbinder: Program, fakes: Sets) -> None:
    command = ringbinder.command("serve", "--host", "::1", "--port", 0, *fakes())
    done = apart(IPV6_ONLY, ringbinder, sys.executable, "-c", SERVER, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://[::1]:")
    assert done.stdout.endswith(" 200\n")


def test_notebook_without_ipv4_loopback_is_on_ipv6(ringbinder: Program) -> None:
    done = apart(IPV6_ONLY, ringbinder, sys.executable, "-c", NOTEBOOK, ringbinder.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://[::1]:")
    assert done.stdout.endswith("/ hello\n")


def test_notebook_without_loopback_is_reported(ringbinder: Program) -> None:
    done = apart(
        f"{IPV6_ONLY} && ip addr del ::1/128 dev lo",
        ringbinder,
        sys.executable,
        "-c",
        NOTEBOOK,
        ringbinder.folder,
    )
    assert "neither 127.0.0.1 nor ::1" in done.stderr.splitlines()[-1]
