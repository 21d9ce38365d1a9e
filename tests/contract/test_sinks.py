"""The contract of sinks, kept by the four that come with Ringbinder, against what they write to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import SinkCase, SinkContract, make_context
from ringbinder.testing.apiserver import ApiServer
from ringbinder_sinks.jsonlines import JsonLinesOptions, JsonLinesSink
from ringbinder_sinks.python_logging import LoggingOptions, LoggingSink
from ringbinder_sinks.sqlite import SqliteOptions, SqliteSink
from ringbinder_sinks.webhook import WebhookOptions, WebhookSink

Received = Callable[[], Any]


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    context = make_context(tmp_path, "sink")
    yield context
    await context.services.close()


def lines_of(file: Path) -> Received:
    async def received() -> Sequence[Mapping[str, Any]]:
        return [json.loads(line) for line in file.read_bytes().split(b"\n") if line] if file.exists() else []

    return received


class TestJsonLines(SinkContract):
    @pytest.fixture
    async def case(self, context: Context, tmp_path: Path) -> SinkCase:
        file = tmp_path / "events.jsonl"
        sink = JsonLinesSink(JsonLinesOptions(path=str(file)), context)
        return SinkCase(sink=sink, received=lines_of(file))


class TestLogging(SinkContract):
    @pytest.fixture
    async def case(self, context: Context, tmp_path: Path) -> SinkCase:
        file = tmp_path / "events.log"
        handler = {"class": "logging.FileHandler", "filename": str(file), "encoding": "utf-8"}
        sink = LoggingSink(LoggingOptions(config={"handlers": {"file": handler}}), context)
        return SinkCase(sink=sink, received=lines_of(file))


class TestSqlite(SinkContract):
    @pytest.fixture
    async def case(self, context: Context, tmp_path: Path) -> SinkCase:
        file = tmp_path / "events.sqlite"

        async def received() -> Sequence[Mapping[str, Any]]:
            with closing(sqlite3.connect(file)) as database:
                rows = database.execute("SELECT fields FROM events ORDER BY id").fetchall()
            return [json.loads(row[0]) for row in rows]

        return SinkCase(sink=SqliteSink(SqliteOptions(path=str(file)), context), received=received)


class Receiver(ApiServer):
    """Takes batches of events."""

    def content(self, path: str, request: web.Request) -> Any:
        return {}


class TestWebhook(SinkContract):
    @pytest.fixture
    async def case(self, context: Context) -> AsyncIterator[SinkCase]:
        async with Receiver.running() as server:

            @asynccontextmanager
            async def answering(status: int) -> AsyncIterator[None]:
                server.fail(status)
                yield
                server.fail(0)

            async def received() -> Sequence[Mapping[str, Any]]:
                bodies = [json.loads(seen.body) for seen in server.requests if seen.status == 200]
                return [found["event"] for body in bodies for found in body["events"]]

            word = "a-word-in-the-address"
            url = server.address.replace("://", f"://user:{word}@") + "/hook"
            options = WebhookOptions(Secret(url), secret=Secret("a-key-for-signatures"))
            yield SinkCase(
                sink=WebhookSink(options, context),
                received=received,
                down=lambda: answering(503),
                rejecting=lambda: answering(422),
                stalled=server.stalled,
                secrets=[word, "a-key-for-signatures"],
            )
