"""The watch over a notebook: what goes wrong while it looks ends neither the watch nor its limits."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from attrs import define, field
from ringbinder.runtime.clock import SystemClock
from ringbinder_embedded.jupyter import Jupyter
from ringbinder_embedded.sessions import Session
from ringbinder_embedded.watch import Watch


@define(eq=False)
class Notebook:
    """Stands for process, server and session of a notebook that nobody uses."""

    last_lines: str = ""
    kept_awake_at: float = 0.0
    began: str = field(factory=lambda: datetime.now(UTC).isoformat())
    size_error: Exception | None = None
    stop_told: list[float | None] = field(factory=list)

    @property
    def command(self) -> Notebook:
        return self

    @property
    def box(self) -> Notebook:
        return self

    async def wait(self) -> int:
        await asyncio.Event().wait()
        return 0

    async def ask(self, path: str) -> Any:
        return {"connections": 0, "last_activity": self.began} if path == "api/status" else []

    def tell_stop(self, stops_at: float | None) -> None:
        self.stop_told.append(stops_at)
        raise OSError(28, "No space left on device")

    def size(self) -> int:
        if self.size_error is not None:
            raise self.size_error
        return 0


def watch(notebook: Notebook, idle_timeout: float = 0.0, disk_limit: int = 0) -> Watch:
    return Watch(cast(Jupyter, notebook), cast(Session, notebook), idle_timeout, 0.0, disk_limit, SystemClock())


async def test_full_disk_does_not_end_an_idle_notebook_early() -> None:
    notebook = Notebook()
    watching = watch(notebook, idle_timeout=1.0)
    async with asyncio.timeout(30):
        ending = await watching.until_end()
    assert ending.reason == "idle"
    assert notebook.stop_told


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), RecursionError(), ValueError("x")], ids=repr)
async def test_notebook_that_cannot_be_measured_is_ended(error: Exception) -> None:
    async with asyncio.timeout(30):
        ending = await watch(Notebook(size_error=error), idle_timeout=0.0, disk_limit=1).until_end()
    assert ending.reason == "full"
    assert "cannot be counted" in ending.why
