"""A word to the client who waits, while something that was asked does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Final

from attrs import define, field

_FIRST_SECONDS: Final = 5.0
_FACTOR: Final = 3.0

Speak = Callable[[str], None]
speaker: ContextVar[Speak | None] = ContextVar("speaker", default=None)
"""Gives a line to the client for whom this is done, if there is one."""
_innermost: ContextVar[Silence | None] = ContextVar("innermost", default=None)


@define(eq=False)
class Silence:
    """While entered, the client reads after 5 s, and then less and less often, that there has been no answer.

    Of those within each other, only the innermost speaks. What is done for no client, in no launch's context, says
    nothing.
    """

    what: Callable[[], str] | str
    """Who is silent, as in "JupyterHub has not answered"; empty: there is nothing to be said."""
    speak: Speak | None = field(factory=speaker.get)
    """Takes each line for the client; the launch's own, if nothing else is given."""
    _since: float = field(default=0.0, init=False)
    _pause: float = field(factory=lambda: _FIRST_SECONDS, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _outer: Silence | None = field(default=None, init=False)
    _inner: int = field(default=0, init=False)
    """How many are entered within this one."""

    def __enter__(self) -> Silence:
        if self.speak is not None:
            self._outer = _innermost.get()
            _innermost.set(self)
            if self._outer is not None:
                self._outer._inner += 1
            self._since = asyncio.get_running_loop().time()
            self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            _innermost.set(self._outer)
            if self._outer is not None:
                self._outer._inner -= 1
                self._outer.received()

    def received(self) -> None:
        """Starts over: there was an answer, or a part of it."""
        self._since = asyncio.get_running_loop().time()
        if self._pause != _FIRST_SECONDS and self._timer is not None:
            self._pause = _FIRST_SECONDS
            self._timer.cancel()
            self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._since + self._pause, self._due)

    def _due(self) -> None:
        now = asyncio.get_running_loop().time()
        silent = now - self._since
        if self._inner:
            self._since = now
        elif self.speak is not None and silent >= self._pause:
            what = self.what if isinstance(self.what, str) else self.what()
            self._pause *= _FACTOR
            if what:
                self.speak(f"{what} for {silent:.0f} s.\n")
        self._wait()
