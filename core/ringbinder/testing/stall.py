"""Answers that a server of the tests holds back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import define


@define(eq=False)
class Stall:
    """Between a server and its answers: it holds them back while `held` is entered."""

    _held: tuple[asyncio.Event, asyncio.Event] | None = None

    @asynccontextmanager
    async def held(self) -> AsyncIterator[asyncio.Event]:
        """The event is set once somebody has asked."""
        asked, go_on = self._held = asyncio.Event(), asyncio.Event()
        try:
            yield asked
        finally:
            self._held = None
            go_on.set()

    async def wait(self) -> None:
        """To be called before each answer."""
        if self._held:
            asked, go_on = self._held
            asked.set()
            await go_on.wait()
