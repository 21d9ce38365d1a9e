"""Ctrl-C and its kin: the first one ends the work in an orderly way, a second one at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR: Final = "\x1b[?25h\n"


def exit_code(number: int) -> int:
    """The exit code of a command that a signal ended, as shells have it."""
    return 128 + number


class Interrupts:
    """While entered, the first SIGINT, SIGTERM or SIGHUP does what `then` was given.

    A second SIGINT or SIGTERM ends the process without further ado: everything that runs on a leash ends with it.
    A closed terminal may send several SIGHUPs, so those never count as it. Under nohup, SIGHUP stays ignored.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._act: Callable[[], object] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]
        self._watched = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def __enter__(self) -> Interrupts:
        for number in self._watched:
            self._loop.add_signal_handler(number, self._came, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._watched:
            self._loop.remove_signal_handler(number)

    def then(self, act: Callable[[], object]) -> None:
        """What the first signal does from now on; done at once if it has come."""
        self._act = act
        if self.signal is not None:
            self._act()

    def _came(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self._leave_dead_terminals()
        if self.signal is None:
            self.signal = number
            self._act()
        elif number != signal.SIGHUP:
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())
            os._exit(exit_code(number))

    def _leave_dead_terminals(self) -> None:
        """What is still written must not fail, or the orderly end would fail with it."""
        for descriptor in self._terminals:
            if not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
