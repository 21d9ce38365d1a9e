"""A real server on a loopback port with the fake plugins, and a reader of its streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest
import structlog
from ringbinder.app import Ringbinder, running
from ringbinder.config.loading import load
from ringbinder.model import Image, LaunchRequest, Plan, Server, Target
from ringbinder.protocol import Log
from ringbinder.secret import Secret
from ringbinder_server.routes.build_logs import BUILD_LOG
from ringbinder_server.serve import address_of, listen, serving

from .browser import chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser

FAKES = {
    "Ringbinder.builder": "fake",
    "Ringbinder.registry": "fake",
    "Ringbinder.launcher": "fake",
    "Ringbinder.extra_plugins": "[fake]",
    "Ringbinder.disabled_plugins": "[git, gh, gl]",
}


class Gate:
    """A general plugin before the fake ones: notes what is asked, and holds builds or launches on demand."""

    def __init__(self) -> None:
        self.requests: list[LaunchRequest] = []
        self.builds: list[str] = []
        self.launches = 0
        self.url = "http://127.0.0.1:1/"
        """Where the servers are said to be."""
        self.stopped: list[str] = []
        self.began = asyncio.Event()
        """A build or launch is held now."""
        self.cancelled = asyncio.Event()
        """A held build or launch was cancelled."""
        self.open = asyncio.Event()
        self.open.set()

    def shut(self) -> None:
        self.open.clear()

    async def resolve(self, request: LaunchRequest) -> None:
        self.requests.append(request)

    async def build(self, plan: Plan, target: Target, log: Log) -> Image:
        self.builds.append(plan.image)
        log.line("gate: building\n")
        await self._hold()
        return Image(target.reference, "oci")

    async def launch(self, image: Image, request: LaunchRequest, log: Log) -> Server:
        self.launches += 1
        await self._hold()
        return Server(f"s{self.launches}", f"{self.url}s{self.launches}/", Secret("t0ken-of-the-server"))

    async def stop(self, server: Server) -> bool:
        self.stopped.append(server.id)
        return True

    async def _hold(self) -> None:
        if self.open.is_set():
            return
        self.began.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@attrs.define
class Stream:
    """Reads one response of server-sent events."""

    response: httpx.Response
    ids: list[str] = attrs.field(factory=list)
    _lines: AsyncIterator[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._lines = self.response.aiter_lines()

    async def lines(self, count: int) -> list[str]:
        """The next lines as they are."""
        return [await anext(self._lines) for _ in range(count)]

    async def next(self) -> dict[str, Any]:
        """The next event. Raises StopAsyncIteration at the end."""
        while True:
            line = await anext(self._lines)
            if line.startswith("id: "):
                self.ids.append(line[4:])
            elif line.startswith("data: "):
                event: dict[str, Any] = json.loads(line[6:])
                return event

    async def until(self, phase: str) -> list[dict[str, Any]]:
        """The events up to the first one of `phase`."""
        events = [await self.next()]
        while events[-1]["phase"] != phase:
            events.append(await self.next())
        return events

    async def rest(self) -> list[dict[str, Any]]:
        """All events until the server closes."""
        events = []
        try:
            while True:
                events.append(await self.next())
        except StopAsyncIteration:
            return events


@attrs.define
class Live:
    """A running server."""

    address: str
    binder: Ringbinder
    client: httpx.AsyncClient
    logged: list[MutableMapping[str, Any]]
    """What was logged, newest last."""
    gate: Gate

    @asynccontextmanager
    async def stream(self, path: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[Stream]:
        """An open stream of `path`, which is sent as it is."""
        async with self.client.stream("GET", self.address + path, headers=headers or {}) as response:
            yield Stream(response)

    async def events(self, path: str, headers: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """All events of a stream that ends by itself."""
        async with self.stream(path, headers) as stream:
            assert stream.response.status_code == 200
            assert stream.response.headers["content-type"] == "text/event-stream"
            return await stream.rest()


Serve = Callable[..., AbstractAsyncContextManager[Live]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """`async with serve(sets={"Section.option": value}, gate=True, hold=0.0, plugin=None, token=None) as live`."""

    @asynccontextmanager
    async def start(
        sets: Mapping[str, str] | None = None,
        *,
        gate: bool = False,
        hold: float = 0.0,
        bound: str = "127.0.0.1",
        plugin: object = None,
        token: Secret | None = None,
    ) -> AsyncIterator[Live]:
        given = {
            **FAKES,
            "Ringbinder.state_folder": str(tmp_path / "state"),
            "Ringbinder.cache_folder": str(tmp_path / "cache"),
            **(sets or {}),
        }
        config = load((), environ={}, sets=[f"{name}={value}" for name, value in given.items()])
        logged = structlog.testing.LogCapture()
        log = structlog.wrap_logger(None, processors=[logged], wrapper_class=structlog.make_filtering_bound_logger(0))
        # The client outlives the server, so that a test sees what the end of the server brings.
        async with AsyncExitStack() as stack:
            # It needs no certificates, which take long to read.
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, verify=False, timeout=30))
            binder = await stack.enter_async_context(running(config, log, build_log=BUILD_LOG))
            sock = stack.enter_context(listen("127.0.0.1", 0))
            address = address_of(sock, "127.0.0.1", config.binderhub.base_url)
            held = Gate()
            if gate:
                binder.plugins.hooks.register(held, "gate", general=True)
            if plugin is not None:
                binder.plugins.hooks.register(plugin, "plugin of the test", general=True)
            await stack.enter_async_context(serving(binder, sock, bound, hold, token=token))
            yield Live(address, binder, client, logged.entries, held)

    return start


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake plugins as if they ran things on this machine."""
    from ringbinder_fake import FakeBuilder, FakeLauncher, FakeRegistry

    for plugin, attribute in ((FakeBuilder, "makes"), (FakeRegistry, "holds"), (FakeLauncher, "runs")):
        monkeypatch.setattr(plugin, attribute, "folder")


@pytest.fixture
async def browser(require_real: Callable[..., None]) -> AsyncIterator[Browser]:
    """A real Chromium."""
    require_real("chromium")
    async with chromium() as found:
        yield found
