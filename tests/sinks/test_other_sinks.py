"""The sinks `logging`, `webhook` and `sqlite`, each against the real thing that it writes to."""

from __future__ import annotations

import json
import logging
import logging.handlers
import sqlite3
import sys
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from ringbinder.errors import ConfigError, EventsRejected, TransientError, UserError
from ringbinder.events.query import EventQuery, Queryable
from ringbinder.plugins.context import Context
from ringbinder.protocol import SinkEvent
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from ringbinder.secret import Secret
from ringbinder_sinks.python_logging import LoggingOptions, LoggingSink
from ringbinder_sinks.sqlite import SqliteOptions, SqliteSink
from ringbinder_sinks.webhook import SIGNATURE, WebhookOptions, WebhookSink, signature


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    services = Services(structlog.get_logger(), Paths(tmp_path / "state", tmp_path / "cache"))
    yield Context("test", services, services.log)
    await services.close()


def event(number: int, level: str = "info", **fields: Any) -> SinkEvent:
    return SinkEvent("example.org/test", 3, {"number": number, **fields}, 1_700_000_000.25, level=level)


def _no_cloud() -> None:
    raise OSError("no cloud")


class TestLogging:
    @pytest.fixture
    def maker(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
        def install(function: Any) -> str:
            module = types.ModuleType("operators_module")
            module.make = function  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, "operators_module", module)
            return "operators_module:make"

        return install

    async def test_the_documented_handlers_maker(
        self, context: Context, tmp_path: Path, maker: Callable[[Any], str]
    ) -> None:
        file = tmp_path / "events.log"
        got: list[Any] = []

        def make(event_log: Any) -> list[logging.Handler]:
            got.append(event_log.log)
            return [logging.FileHandler(file)]

        sink = LoggingSink(LoggingOptions(maker(make)), context)
        async with sink.lifespan():
            await sink.emit([event(1), event(2, text="a % b\n")])
        assert isinstance(got[0], logging.Logger)
        lines = file.read_text().splitlines()
        assert json.loads(lines[0]) == event(1).capsule()
        assert json.loads(lines[1])["text"] == "a % b\n"

    async def test_handlers_in_the_form_of_dict_config(self, context: Context, tmp_path: Path) -> None:
        before = list(logging.getLogger().handlers), logging.getLogger().level
        config = {
            "formatters": {"short": {"format": "%(levelname)s %(event_id)s"}},
            "filters": {"loud": {"name": "ringbinder"}},
            "handlers": {
                "a": {"class": "logging.FileHandler", "filename": str(tmp_path / "a"), "level": "WARNING"},
                "b": {
                    "class": "logging.handlers.RotatingFileHandler", "filename": str(tmp_path / "b"),
                    "formatter": "short", "filters": ["loud"],
                },
            },
        }  # fmt: skip
        sink, warned = LoggingSink(LoggingOptions(config=config), context), event(2, "warning")
        async with sink.lifespan():
            await sink.emit([event(1), warned])
        (line,) = (tmp_path / "a").read_text().splitlines()
        assert json.loads(line) == warned.capsule()
        assert (tmp_path / "b").read_text().splitlines()[1] == f"WARNING {warned.id}"
        assert (list(logging.getLogger().handlers), logging.getLogger().level) == before

    async def test_a_handler_that_fails_makes_the_sink_fail(
        self, context: Context, maker: Callable[[Any], str]
    ) -> None:
        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                try:
                    _no_cloud()
                except OSError:
                    self.handleError(record)

        sink = LoggingSink(LoggingOptions(maker(lambda event_log: [Broken()])), context)
        async with sink.lifespan():
            with pytest.raises(OSError, match="no cloud"):
                await sink.emit([event(1)])

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            (LoggingOptions(), "it has no handlers"),
            (LoggingOptions("no_such_module_here:make"), "No module named"),
            (LoggingOptions("json"), "module:name"),
            (LoggingOptions("json:dumps"), "EventLog.handlers_maker"),
            (LoggingOptions(config={"handlers": {"a": {"class": "no.such"}}}), "LoggingSink.config"),
            (LoggingOptions(config={"root": {}}), "only handlers, formatters and filters: root"),
        ],
    )
    async def test_what_cannot_be_made_is_reported(
        self, context: Context, options: LoggingOptions, problem: str
    ) -> None:
        with pytest.raises(ConfigError, match=problem):
            async with LoggingSink(options, context).lifespan():
                pass


class TestWebhook:
    @asynccontextmanager
    async def receiver(self, *statuses: int) -> AsyncIterator[tuple[str, list[tuple[web.Request, bytes]]]]:
        got: list[tuple[web.Request, bytes]] = []
        answers = iter(statuses)

        async def take(request: web.Request) -> web.Response:
            got.append((request, await request.read()))
            return web.Response(status=next(answers))

        app = web.Application()
        app.router.add_post("/in", take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/in", got
        finally:
            await runner.cleanup()

    async def test_a_signed_batch(self, context: Context) -> None:
        key, events = Secret("key of the test"), [event(1), event(2, "warning")]
        async with self.receiver(202) as (url, got):
            options = WebhookOptions(Secret(url), key, {"Authorization": Secret("Bearer abc")})
            sink = WebhookSink(options, context)
            async with sink.lifespan():
                await sink.emit(events)
        ((request, body),) = got
        assert json.loads(body) == {"events": [{"id": e.id, "level": e.level, "event": e.capsule()} for e in events]}
        moment, _, given = request.headers[SIGNATURE].partition(",")
        assert given == f"v1={signature(key, int(moment.removeprefix('t=')), body)}"
        assert abs(int(moment.removeprefix("t=")) - context.clock.time()) < 60
        assert request.headers["Authorization"] == "Bearer abc"
        assert request.content_type == "application/json"

    @pytest.mark.parametrize(
        ("status", "error"),
        [(400, EventsRejected), (422, EventsRejected), (401, TransientError), (302, TransientError),
         (404, TransientError), (429, TransientError), (503, TransientError)],
    )  # fmt: skip
    async def test_what_an_answer_means(self, context: Context, status: int, error: type[Exception]) -> None:
        async with self.receiver(status) as (url, got):
            with pytest.raises(error, match=f"the receiver answered {status}"):
                await WebhookSink(WebhookOptions(Secret(url)), context).emit([event(1)])
        assert SIGNATURE not in got[0][0].headers

    @pytest.mark.parametrize("url", ["", "ftp://example.org", "example.org/in", "https:///in"])
    async def test_an_address_that_is_none(self, context: Context, url: str) -> None:
        with pytest.raises(ConfigError, match=r"WebhookSink\.url"):
            async with WebhookSink(WebhookOptions(Secret(url)), context).lifespan():
                pass


class TestSqlite:
    async def filled(self, context: Context, **options: Any) -> SqliteSink:
        sink = SqliteSink(SqliteOptions(**options), context)
        day, now = 86400.0, context.clock.time()
        events = [
            SinkEvent("x/launch", 6, {"provider": "GitHub", "seconds": age}, now - age * day, str(age), repo=repo)
            for age, repo in ((1, "a"), (2, "a"), (3, "b"), (40, "b"), (400, "b"))
        ]
        async with sink.lifespan():
            await sink.emit(events)
            await sink.emit([*events[:2], SinkEvent("x/build", 1, {}, now, "other")])  # two come again
        return sink

    async def test_the_question_of_the_documentation(self, context: Context) -> None:
        sink = await self.filled(context)
        assert isinstance(sink, Queryable)
        now = context.clock.time()

        async def ask(**query: Any) -> list[tuple[tuple[str, ...], int]]:
            return [(row.keys, row.count) for row in await sink.query(EventQuery("x/launch", **query))]

        assert await ask(since=now - 30 * 86400, by=("repo",)) == [(("a",), 2), (("b",), 1)]
        assert await ask(by=("repo",)) == [(("b",), 3), (("a",), 2)]
        assert await ask() == [((), 5)]
        assert await ask(since=now + 9) == []
        assert await ask(by=("repo", "provider"), limit=1) == [(("b", "GitHub"), 3)]
        assert len(await ask(by=("day",))) == 5
        row, _ = await sink.query(EventQuery("x/*", since=now - 86400 * 2.5, by=("provider", "nothing")))
        assert (row.keys, row.count, row.seconds) == (("GitHub", ""), 2, 1.5)

    @pytest.mark.parametrize("field", ["a') --", "a b", "", "1"])
    async def test_a_field_is_a_name_and_no_sql(self, context: Context, field: str) -> None:
        sink = await self.filled(context)
        with pytest.raises(UserError, match="is no name of a field"):
            await sink.query(EventQuery("*", by=(field,)))

    async def test_old_events_go(self, context: Context) -> None:
        sink = await self.filled(context)
        async with SqliteSink(SqliteOptions(keep=30 * 86400.0), context).lifespan():
            pass
        assert [row.count for row in await sink.query(EventQuery("x/launch"))] == [3]

    async def test_missing_file_is_reported(self, context: Context) -> None:
        with pytest.raises(UserError, match="There are no events yet"):
            await SqliteSink(SqliteOptions(), context).query(EventQuery("*"))

    async def test_a_file_of_a_later_version_is_left_alone(self, context: Context, tmp_path: Path) -> None:
        path = tmp_path / "later.sqlite"
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")
        with pytest.raises(ConfigError, match="a later version"):
            async with SqliteSink(SqliteOptions(str(path)), context).lifespan():
                pass
