"""The log of a build is what a repository makes of it: lines without end, JSON without end, a push of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from ringbinder import process
from ringbinder.testing import RecordingLog
from ringbinder_builders.push_text import PushText
from ringbinder_builders.repo2docker import LogReader
from ringbinder_cluster.client import Cluster
from ringbinder_cluster.logs import PodLog

LINE = 65536
BEGINNING = "The push refers to repository [registry.example/x]"


@pytest.mark.parametrize(
    "line",
    [
        '{"message": ' + "[" * 60_000,
        '{"message": ' + "[" * 900 + "]" * 900 + "}",
        '{"message": ' + '{"a":' * 900 + "1" + "}" * 901,
        '{"message": ' + "9" * 60_000 + "}",
        '{"message": "x", "progress": ' + '{"a":' * 900 + "1" + "}" * 901,
        '{"phase": "failed", "message": "Command \'[' + "x" * 60_000 + '"}',
        '{"phase": "failed", "message": "' + "Command '[" * 6_000 + '"}',
    ],
    ids=["open", "deep", "mappings", "digits", "progress", "command", "commands"],
)
def test_line_of_hostile_json_is_logged_and_harms_nothing(line: str) -> None:
    log = RecordingLog()
    reader = LogReader(log)
    reader.receive(line)
    reader.receive(json.dumps({"phase": "building", "message": "Step 1\n"}))
    assert [text for _, text in log.lines][1:] == ["Step 1\n"]
    assert len(reader.reason) <= 1000


def test_message_full_of_commas_keeps_its_phase() -> None:
    log = RecordingLog()
    LogReader(log).receive(json.dumps({"phase": "building", "message": "," * 30_000}))
    assert log.lines == [("building", "," * 30_000)]


def test_push_that_a_repository_prints_is_bounded() -> None:
    text = PushText()
    text.receive(BEGINNING)
    for number in range(2_000):
        text.receive(f"{number:012x}: Pushing {'x' * 1000}")
        text.receive(f"#1 pushing layer sha256:{number} {'x' * 1000}")
    layers = text.receive(f"{0:012x}: Pushed")
    assert layers is not None
    assert len(layers) <= 500
    assert max(len(str(state)) for state in layers.values()) <= 200


@pytest.mark.parametrize("amount", ["9" * 400, "1." * 300, ".", "1e9"])
def test_amount_that_is_no_number_is_text(amount: str) -> None:
    text = PushText()
    text.receive(BEGINNING)
    assert text.receive(f"{'a' * 12}: Pushing [>] {amount}MB/{amount}GB")


@given(amount=st.text("0123456789.", max_size=400), unit=st.sampled_from(["B", "kB", "MB", "TiB", "GB"]))
def test_any_amount_is_taken(amount: str, unit: str) -> None:
    text = PushText()
    text.receive(BEGINNING)
    text.receive(f"{'a' * 12}: Pushing [=>] {amount}{unit}/{amount}{unit}")


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """An API server whose pods print two lines: one of 8 MB, and an ordinary one."""

    async def log(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"2026-01-01T00:00:00Z ")
        for _ in range(128):
            await response.write(b"x" * LINE)
        await response.write(b"\n2026-01-01T00:00:01Z end\n")
        return response

    application = web.Application()
    application.router.add_get("/api/v1/namespaces/ns/pods/pod/log", log)
    async with TestServer(application) as server:
        config = tmp_path / "config"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": str(server.make_url("/"))}}],
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(config))
        async with Cluster.connected("kubernetes") as connected:
            yield connected


async def test_line_of_a_pod_that_never_ends_is_cut(cluster: Cluster) -> None:
    log = PodLog(cluster, "ns", "pod", lambda: True, asyncio.Event().wait, structlog.get_logger())
    lines = [line async for line in log.lines()]
    assert lines[1:] == ["end\n"]
    assert lines[0].startswith("xxx")
    assert len(lines[0]) <= LINE


async def test_flood_of_empty_lines_lets_others_run(tmp_path: Path) -> None:
    turns = lines = longest = 0

    def on_line(_: str) -> None:
        nonlocal lines
        lines += 1

    async def count_turns() -> None:
        nonlocal turns, longest
        seen = 0
        while True:
            turns += 1
            longest, seen = max(longest, lines - seen), lines
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_turns())
    flood = [sys.executable, "-c", "print('\\n' * 300_000)"]
    command = await process.start(flood, cwd=tmp_path, env={}, on_line=on_line)
    assert await command.wait() == 0
    counter.cancel()
    assert lines > 300_000
    assert longest <= 4096
