"""From a command's work to its exit code."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

from .configured import Setup
from .exitcodes import ExitCode

if TYPE_CHECKING:
    from .invocation import Work

_LEVELS: Final = ("error", "info", "debug")


def run(setup: Setup, work: Work, *, quietest: str = "error", own_signals: bool = True) -> NoReturn:
    """Does `work` and exits with the code that it returns, or that its error means.

    `quietest` is the log level without ``--verbose``. With `own_signals` an interrupt ends `work` as
    `interrupts.Interrupts` describes; without, `work` sees to that.
    """
    level = _LEVELS[min(_LEVELS.index(quietest) + setup.verbose, len(_LEVELS) - 1)]
    try:
        _import_structlog()
        from .invocation import carry_out

        code = carry_out(setup, work, level, own_signals)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    sys.exit(code)


def _import_structlog() -> None:
    """Imports it without rich, which it wants for tracebacks in colour: those of our logs are plain."""
    if not sys.modules.keys() & {"structlog", "rich"}:
        sys.modules["rich"] = None  # type: ignore[assignment]
        try:
            import_module("structlog")
        finally:
            del sys.modules["rich"]
