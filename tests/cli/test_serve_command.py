"""`ringbinder serve` as a program: what it prints, and how it ends."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
from ringbinder_server.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from tests.cli.conftest import Program

Sets = Callable[..., list[str]]


def test_serve_prints_its_address_and_ends_on_request(ringbinder: Program, fakes: Sets) -> None:
    with ringbinder.start("serve", "--port", 0, *fakes()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().split()[-1]
        assert httpx.get(f"{address}health", timeout=60).json()["ok"] is True
        assert httpx.get(f"{address}nowhere?token=hunter2secret", timeout=60).status_code == 404
        process.terminate()
        assert process.wait(60) == 0
        log = process.stderr.read()
    assert "nowhere" in log
    assert "hunter2secret" not in log
    assert "/health" not in log, "probes fill the log"


def test_serve_shows_that_a_port_is_in_use(ringbinder: Program, fakes: Sets) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ringbinder("serve", "--port", port, *fakes())
    assert done.returncode == ExitCode.CONFIG
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_public_server_wants_a_token_or_an_allow_list(ringbinder: Program, fakes: Sets) -> None:
    done = ringbinder("serve", "--public", "--host", "127.0.0.1", "--port", 0, *fakes())
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert "Ringbinder.access_token" in done.stderr
    assert "RepoProvider.allowed_specs" in done.stderr
    assert "fake" in done.stderr
    some = fakes(RepoProvider__allowed_specs='["^user/"]', Ringbinder__extra_plugins="[]")
    local = [part.replace("=fake", "=local") for part in some]
    for options in (fakes(Ringbinder__access_token="planted-access"), local):
        with ringbinder.start("serve", "--public", "--host", "127.0.0.1", "--port", 0, *options) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            process.terminate()
            assert process.wait(60) == 0
            log = process.stderr.read()
            assert line.startswith("Ringbinder listens at"), log
            name = "local" if options is local else "fake"
            assert f"builder='{name} (Ringbinder.builder names it)'" in log
