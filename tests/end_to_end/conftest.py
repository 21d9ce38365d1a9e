"""`ringbinder serve` as a program over folders of its own, its uv cache and JupyterLab shared by these tests."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import psutil
import pytest
from attrs import define, field
from realparts.streams import events_of
from ringbinder.testing.gitserver import GitServer, Repository

LONG = 240.0
"""Seconds that anything here may take."""


@define
class Site:
    """A running server."""

    process: asyncio.subprocess.Process
    printed: str
    """The address that it printed, with its token."""
    http: aiohttp.ClientSession

    @property
    def address(self) -> str:
        """The address without the token; ends with a slash."""
        return self.printed.partition("?")[0]

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    async def events(self, link: str, last_id: str = "") -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Ids and events of a launch, to the end of its stream."""
        token = self.printed.partition("?token=")[2]
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}"}
        headers |= {"Last-Event-ID": last_id} if last_id else {}
        timeout = aiohttp.ClientTimeout(total=LONG)
        async with self.http.get(f"{self.address}build/{link}", headers=headers, timeout=timeout) as answer:
            async for reported in events_of(answer):
                yield reported

    async def until(self, link: str, phase: str, *, last_id: str = "") -> list[tuple[str, dict[str, Any]]]:
        """What is told up to the first event of `phase`; then the client leaves."""
        seen = []
        async for id, event in self.events(link, last_id):
            seen.append((id, event))
            if event["phase"] == phase:
                return seen
        raise AssertionError(f"no {phase!r}: {[event for _, event in seen[-5:]]}")

    async def kill(self) -> None:
        """As the kernel does when memory is short: nothing of ours gets to clean up."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@define
class Place:
    """Where servers run one after another: their state stays."""

    state: Path
    cache: Path
    sets: list[str] = field(factory=list)

    @asynccontextmanager
    async def serve(self, *sets: str) -> AsyncIterator[Site]:
        chosen = [part for text in (*self.sets, *sets) for part in ("--set", text)]
        env = {**os.environ, "RINGBINDER_STATE": str(self.state), "RINGBINDER_CACHE": str(self.cache)}
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("ringbinder"), "serve", "--port", "0", *chosen,
            env=env, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), LONG)).decode()
            async with aiohttp.ClientSession() as http:
                yield Site(process, line.split()[-1], http)
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), LONG)


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A state of this test's own, but for JupyterLab's environment; the cache is shared."""
    shared = tmp_path_factory.getbasetemp() / "end-to-end"
    (shared / "server").mkdir(parents=True, exist_ok=True)
    state = tmp_path / "state"
    state.mkdir()
    (state / "server").symlink_to(shared / "server")
    return Place(state, shared / "cache")


@pytest.fixture
def repository(git_server: GitServer) -> Repository:
    return git_server.repository("course/first")


@pytest.fixture
def link(git_server: GitServer) -> str:
    """Provider and spec of `repository` as they stand in a link."""
    return f"git/{quote(git_server.url('course/first.git'), safe='')}/HEAD"
