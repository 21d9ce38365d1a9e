"""What the common options say, and the way from a command to its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .exitcodes import ExitCode

if TYPE_CHECKING:
    from .invocation import Invocation

_LEVELS = ("error", "info", "debug")


class Setup(NamedTuple):
    """The common options of one call."""

    files: tuple[Path, ...]
    sets: tuple[str, ...]
    verbose: int
    as_json: bool = False
    """JSON is asked for: errors are JSON, too."""

    def run(
        self,
        work: Callable[[Invocation], Coroutine[Any, Any, int]],
        *,
        quietest: str = "error",
        own_signals: bool = True,
    ) -> NoReturn:
        """Does `work` and exits with the code that it returns, or that its error means.

        `quietest` is the log level without ``--verbose``. With `own_signals` an interrupt ends `work` as
        `interrupts.Interrupts` says; without, it is for `work` to see to that.
        """
        level = _LEVELS[min(_LEVELS.index(quietest) + self.verbose, len(_LEVELS) - 1)]
        try:
            _import_structlog()
            from .invocation import carry_out

            code = carry_out(self, work, level, own_signals)
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
