"""Events through handlers of Python's `logging`: files, syslog, a cloud's own handler."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.config
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from attrs import define, frozen
from ringbinder import ConfigError, Context, Sink, SinkEvent, load_named, option

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@frozen
class LoggingOptions:
    handlers_maker: str = option(
        "", help="`module:name` of a function that returns a list of handlers (`EventLog.handlers_maker`)."
    )
    config: dict[str, Any] = option(
        factory=dict,
        repr=False,  # a handler's options may hold a password
        help="Handlers in the form of `logging.config.dictConfig`: `handlers`, and `formatters` and "
        "`filters` that they name. All of them get every event.",
    )


@define
class _EventLog:
    """What a `handlers_maker` is called with: BinderHub's has its logger as `log`."""

    log: logging.Logger


class _Capsule(logging.Formatter):
    """One line of JSON, as BinderHub's handlers write it."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(record.msg)


class LoggingSink(Sink[LoggingOptions]):
    """Gives each event, as a record whose `msg` is the capsule, to every handler.

    Handlers are called in a thread, one event after another. Those of `handlers_maker`, and those without a
    formatter, write one line of JSON. Nothing goes to the loggers of this process.
    """

    Config = LoggingOptions
    sections = ("EventLog", "LoggingSink")

    def __init__(self, config: LoggingOptions, context: Context) -> None:
        super().__init__(config, context)
        self._logger = logging.Logger("ringbinder.events", logging.INFO)
        self._lock = threading.Lock()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Makes the handlers; raises ConfigError if that fails, or if there are none."""
        handlers = [*self._made_handlers(), *self._configured_handlers()]
        if not handlers:
            raise ConfigError(
                [
                    f"sink {self.context.name!r}: it has no handlers; give EventLog.handlers_maker "
                    "(module:name) or LoggingSink.config (as for logging.config.dictConfig)"
                ]
            )
        for handler in handlers:
            # logging itself swallows what goes wrong; here it must be known.
            handler.handleError = _raise  # type: ignore[method-assign]
            self._logger.addHandler(handler)
        try:
            yield
        finally:
            self._logger.handlers.clear()
            await asyncio.to_thread(_close, handlers)

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        await asyncio.to_thread(self._emit, events)

    def _emit(self, events: Sequence[SinkEvent]) -> None:
        with self._lock:  # a call that ran into its time limit goes on while the next one starts
            for event in events:
                self._logger.handle(self._record(event))
            for handler in self._logger.handlers:
                handler.flush()

    def _record(self, event: SinkEvent) -> logging.LogRecord:
        level = _LEVELS.get(event.level, logging.INFO)
        record = self._logger.makeRecord(
            self._logger.name, level, "", 0, event.capsule(), (), None, extra={"event_id": event.id}
        )
        record.created = event.timestamp
        return record

    def _made_handlers(self) -> list[logging.Handler]:
        name = self.config.handlers_maker
        if not name:
            return []
        make = load_named("EventLog.handlers_maker", name)
        try:
            handlers = list(make(_EventLog(self._logger)))
            if not all(isinstance(handler, logging.Handler) for handler in handlers):
                raise TypeError("it must return a list of logging handlers")  # noqa: TRY301
        except Exception as error:
            message = f"EventLog.handlers_maker: {name!r} gave no handlers: {type(error).__name__}: {error}"
            raise ConfigError([message]) from error
        for handler in handlers:
            handler.setFormatter(_Capsule())
        return handlers

    def _configured_handlers(self) -> list[logging.Handler]:
        config = self.config.config
        given: Mapping[str, Any] = config.get("handlers", {})
        try:
            if unknown := set(config) - {"version", "handlers", "formatters", "filters"}:
                raise ValueError(f"only handlers, formatters and filters: {', '.join(sorted(unknown))}")  # noqa: TRY301
            # `dictConfig` itself would close every handler of this process.
            maker: Any = logging.config.DictConfigurator({"version": 1, **config})
            for kind in ("formatters", "filters"):
                table = maker.config.get(kind, {})
                for name in table:
                    table[name] = getattr(maker, f"configure_{kind[:-1]}")(table[name])
            handlers: list[logging.Handler] = []
            for name in sorted(given):
                handlers.append(maker.configure_handler(maker.config["handlers"][name]))
                handlers[-1].name = name
        except Exception as error:
            cause = f": {error.__cause__}" if error.__cause__ else ""
            raise ConfigError([f"LoggingSink.config: {type(error).__name__}: {error}{cause}"]) from error
        for handler in handlers:
            if handler.formatter is None:
                handler.setFormatter(_Capsule())
        return handlers


def _raise(record: logging.LogRecord) -> None:
    raise


def _close(handlers: Sequence[logging.Handler]) -> None:
    for handler in handlers:
        handler.flush()
        handler.close()
