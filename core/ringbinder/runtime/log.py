"""The type of loggers: structlog's, bound to what their lines are about."""

import structlog

Logger = structlog.typing.FilteringBoundLogger
