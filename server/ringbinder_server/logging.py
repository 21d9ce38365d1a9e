"""Logs: structlog's and the standard library's through one handler to stderr, secrets scrubbed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Final, Literal, TextIO

import structlog
from attrs import frozen
from ringbinder.runtime.log import Logger
from ringbinder.secret import redact
from structlog.typing import EventDict, Processor, WrappedLogger

from .terminal import harmless, one_line

_TRACES: Final = frozenset({"exception", "stack"})


Form = Literal["console", "json"]


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to what is `sys.stderr` now: a live display puts itself there, to have lines above it."""

    form: Form = "console"

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _scrubbed(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """`event` without secrets; what is no plain value becomes its redacted text."""
    return {name: _plain(value) for name, value in event.items()}


def _plain(value: object) -> bool | int | float | str | None:
    if isinstance(value, bool | int | float | None):
        return value
    return redact(value if isinstance(value, str) else repr(value))


def _harmless(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """`event` for people: nothing in it steers their terminal, or looks like another line of the log."""
    return {
        name: value if not isinstance(value, str) else harmless(value) if name in _TRACES else one_line(value)
        for name, value in event.items()
    }


@frozen
class _ByPlugin:
    """Drops what is below the level of its plugin, or below `others`."""

    levels: Mapping[str, int]
    others: int

    def __call__(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        plugin = str(event.get("plugin", ""))
        level = self.levels.get(plugin, self.levels.get(plugin.partition(":")[2], self.others))
        if _number("error" if method == "exception" else method) < level:
            raise structlog.DropEvent
        return event


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def form_of_log() -> Form:
    """The form that the log of this process has now."""
    ours = [handler for handler in logging.getLogger().handlers if isinstance(handler, _ToStderr)]
    return ours[0].form if ours else "console"


def set_up(level: str, *, form: Form = "console", levels: Mapping[str, str] | None = None) -> Logger:
    """Configures this process's logging; to be called again when the configuration is known.

    `level` is the least that is shown: error, info or debug; `levels` has that of single plugins, by
    ``kind:name`` or name.
    """
    of_plugins = {name: _number(word) for name, word in (levels or {}).items()}
    threshold = _number(level)
    least = min([threshold, *of_plugins.values()])
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[_ByPlugin(of_plugins, threshold), *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    rendering: list[Processor] = [structlog.processors.JSONRenderer()]
    if form == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        rendering = [_harmless, console]
    handler = _ToStderr()
    handler.form = form
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _scrubbed, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries tell of every request that they make.
    root.setLevel(logging.WARNING if threshold == logging.INFO else threshold)
    logging.getLogger("ringbinder").setLevel(least)
    logger: Logger = structlog.get_logger("ringbinder")
    return logger
