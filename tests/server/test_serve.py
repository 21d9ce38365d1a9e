"""How a server begins and ends: ports, signals, open streams, on every interpreter that is found."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from ringbinder.errors import ConfigError
from ringbinder_server.serve import address_of, listen

if TYPE_CHECKING:
    from tests.server.conftest import Serve

LINK = "build/fake/owner/name/main"
CACHED = {"FakeRegistry.cached": "true"}
SHUTTING_DOWN = "Ringbinder is shutting down. Please try again in a moment.\n"


def test_a_port_in_use_is_reported_with_what_to_do() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} of 127\.0\.0\.1 is in use: .*--port.*BinderHub\.port"):
            listen("127.0.0.1", port)


def test_address_that_is_not_ours_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1, port 8585"):
        listen("192.0.2.1", 8585)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "http://127.0.0.1"), ("0.0.0.0", "http://127.0.0.1"), ("::1", "http://[::1]")],
)
def test_the_address_for_the_browser(host: str, address: str) -> None:
    try:
        sock = listen(host, 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with sock:
        assert address_of(sock, host, "/b/") == f"{address}:{sock.getsockname()[1]}/b/"


async def test_open_streams_get_a_last_event(serve: Serve) -> None:
    async with asyncio.timeout(30):
        async with serve(gate=True) as live:
            live.gate.shut()
            held = asyncio.create_task(live.events(LINK))
            await live.gate.began.wait()
        events = await held
    assert events[-1] == {"phase": "failed", "message": SHUTTING_DOWN, "code": "shutting-down"}
    assert live.gate.cancelled.is_set()


async def test_streams_that_idle_after_ready_end(serve: Serve) -> None:
    async with asyncio.timeout(30):
        async with serve(CACHED, hold=600) as live:
            opened = asyncio.Event()

            async def idle() -> int:
                async with live.stream(LINK) as stream:
                    await stream.until("ready")
                    opened.set()
                    return len(await stream.rest())

            idling = asyncio.create_task(idle())
            await opened.wait()
        assert await idling == 0


async def test_while_it_ends_a_new_client_is_asked_to_try_again(serve: Serve) -> None:
    async with serve(CACHED) as live:
        await live.binder.close()
        assert await live.events(LINK) == [{"phase": "failed", "message": SHUTTING_DOWN, "code": "shutting-down"}]


PROGRAM = """
import asyncio, sys
import structlog
from ringbinder.config.loading import load
from ringbinder_server.serve import serve

structlog.configure(
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    # What a build says is logged too, on level debug: more than a pipe holds that nobody reads.
    wrapper_class=structlog.make_filtering_bound_logger(20),
)
config = load((), environ={}, sets=sys.argv[1:])
log = structlog.get_logger()
asyncio.run(serve(config, log, port=0, on_ready=lambda address, token: print(address, flush=True)))
"""


def _find(version: str) -> str | None:
    if (path := shutil.which(f"python{version}")) and subprocess.run(
        [path, "-c", ""], capture_output=True
    ).returncode == 0:
        return path
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next((str(made / "bin" / "python") for made in sorted(pyenv.glob(f"{version}.*"))), None)


def interpreters() -> Iterator[Any]:
    """This one, and the others that this machine has, by version."""
    yield "this"
    for version in ("3.12", "3.13", "3.14"):
        if version != f"{sys.version_info[0]}.{sys.version_info[1]}" and _find(version):
            yield pytest.param(version, marks=pytest.mark.slow)


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter of the asked-for version that has Ringbinder installed."""
    version: str = request.param
    if version == "this":
        return sys.executable
    found = _find(version)
    assert found is not None
    folder = tmp_path_factory.mktemp(f"python{version}")
    root = Path(__file__).parents[2]
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert uv is not None
    subprocess.run([uv, "venv", "-q", "--python", found, folder / "env"], check=True)
    made = str(folder / "env" / "bin" / "python")
    subprocess.run([uv, "pip", "install", "-q", "--python", made, "-e", root], check=True)
    return made


@asynccontextmanager
async def started(python: str, tmp_path: Path, *sets: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A server in a process of its own, and its address."""
    fakes = [
        "Ringbinder.builder=fake",
        "Ringbinder.registry=fake",
        "Ringbinder.launcher=fake",
        "Ringbinder.extra_plugins=[fake]",
        "Ringbinder.disabled_plugins=[git, gh, gl]",
        f"Ringbinder.state_folder={tmp_path / 'state'}",
    ]
    process = await asyncio.create_subprocess_exec(
        python, "-c", PROGRAM, *fakes, *sets, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        address = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
        assert address.startswith("http://127.0.0.1:")
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("python", list(interpreters()), indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_everything_in_order(python: str, number: signal.Signals, tmp_path: Path) -> None:
    sets = ["FakeBuilder.build_seconds=600"]
    async with (
        started(python, tmp_path, *sets) as (process, address),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        async with client.stream("GET", address + LINK, timeout=30) as response:
            text = ""
            async for part in response.aiter_text():
                if "Fake build" in part and "failed" not in part:
                    process.send_signal(number)
                text += part
        assert SHUTTING_DOWN.strip() in text
        assert '"phase": "failed"' in text
        _, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, errors.decode()
        assert b"Traceback" not in errors, errors.decode()


async def test_a_launch_under_way_may_end_first(tmp_path: Path) -> None:
    sets = ["FakeBuilder.build_seconds=3", "Ringbinder.drain_time=60s"]
    async with (
        started(sys.executable, tmp_path, *sets) as (process, address),
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        async with client.stream("GET", address + LINK) as response:
            parts = response.aiter_text()
            await until(parts, "Fake build")
            process.send_signal(signal.SIGTERM)
            await until(parts, '"phase": "ready"')
        _, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_time_for_launches(second: signal.Signals, tmp_path: Path) -> None:
    sets = ["FakeBuilder.build_seconds=600", "Ringbinder.drain_time=600s"]
    async with (
        started(sys.executable, tmp_path, *sets) as (process, address),
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        async with client.stream("GET", address + LINK) as response:
            await until(response.aiter_text(), "Fake build")
            process.send_signal(signal.SIGTERM)
            assert (await client.get(address + "versions")).status_code == 200
            process.send_signal(second)
        await asyncio.wait_for(process.wait(), 30)
        assert process.returncode == (0 if second is signal.SIGTERM else -signal.SIGINT)


@contextmanager
def deaf_client(address: str) -> Iterator[None]:
    """A client that asks for a launch and reads nothing."""
    target = urlsplit(address)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((target.hostname, target.port))
        deaf.sendall(f"GET /{LINK} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield


LONG_LOG = ["FakeBuilder.lines=20000", "FakeBuilder.line_bytes=1000"]


async def until(parts: AsyncIterator[str], words: str) -> None:
    """Reads until `words` were there."""
    tail = ""
    while words not in tail:
        tail = tail[-len(words) :] + await anext(parts)


@pytest.mark.parametrize("python", list(interpreters()), indirect=True)
async def test_connections_that_idle_or_do_not_read_hold_up_nothing(python: str, tmp_path: Path) -> None:
    async with started(python, tmp_path, *LONG_LOG) as (process, address):
        target = urlsplit(address)
        silent = await asyncio.open_connection(target.hostname, target.port)
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            assert (await client.get(address + "versions")).status_code == 200
            with deaf_client(address):
                # The same build is told to another client whole, which then idles.
                async with client.stream("GET", address + LINK) as response:
                    parts = response.aiter_text()
                    await until(parts, '"phase": "ready"')
                    process.send_signal(signal.SIGTERM)
                    assert "phase" not in "".join([part async for part in parts])
                _, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, errors.decode()
        assert b"Traceback" not in errors, errors.decode()
        silent[1].close()


async def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    sets = [*LONG_LOG, "FakeLauncher.launch_seconds=600"]
    async with started(sys.executable, tmp_path, *sets) as (process, address):
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            with deaf_client(address):  # it keeps the server waiting for a while
                async with client.stream("GET", address + LINK) as response:
                    parts = response.aiter_text()
                    await until(parts, '"phase": "launching"')
                    process.send_signal(signal.SIGINT)
                    await until(parts, SHUTTING_DOWN.strip())
                assert process.returncode is None
                process.send_signal(signal.SIGINT)
                await asyncio.wait_for(process.wait(), 30)
        assert process.returncode == -signal.SIGINT  # one that has waited for all its clients exits with 0
