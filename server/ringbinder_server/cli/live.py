"""The live display in a terminal: steps with their time, and the last lines of the log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Final

import rich.live
from attrs import define, field
from rich.console import Console, Group, RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from ringbinder.protocol import Event, Phase

from ..terminal import harmless, lines
from .displays import Plain, clock, share_done

_STEPS: Final[dict[Phase, tuple[str, str]]] = {
    "waiting": ("Resolving the link", "Resolved the link"),
    "fetching": ("Fetching the repository", "Fetched the repository"),
    "building": ("Building", "Built"),
    "pushing": ("Pushing the image", "Pushed the image"),
    "launching": ("Starting the notebook", "Started the notebook"),
}
_TAIL: Final = 8


@define
class _Step:
    """One phase; a build may go from one to another and back, so its time is a sum."""

    spent: float = 0.0
    since: float | None = None
    share: float | None = None

    def seconds(self) -> float:
        return self.spent + (time.monotonic() - self.since if self.since is not None else 0.0)

    def leave(self) -> None:
        self.spent, self.since = self.seconds(), None


@define
class _Screen:
    """What is seen now. Read by the thread of rich's display, hence only ever changed in single steps."""

    title: str
    spinner: Spinner = field(factory=lambda: Spinner("dots", style="cyan"))
    started: float = field(factory=time.monotonic)
    steps: dict[Phase, _Step] = field(factory=lambda: {"waiting": _Step(since=time.monotonic())})
    tail: deque[str] = field(factory=lambda: deque(maxlen=_TAIL))
    outcome: bool | None = None

    def enter(self, phase: Phase) -> _Step:
        step = self.steps.get(phase)
        if step is None or step.since is None:
            for other in self.steps.values():
                other.leave()
            step = step or _Step()
            step.since = time.monotonic()
            self.steps = {**self.steps, phase: step}
        return step

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=2, justify="right")
        table.add_column(min_width=26)
        table.add_column(justify="right")
        for phase, step in self.steps.items():
            table.add_row(*self._row(phase, step))
        running = self.outcome is None
        total = Text(f"{self.title}  ", "bold", no_wrap=True, overflow="ellipsis")
        total.append(clock(time.monotonic() - self.started), "dim")
        tail = [Text(f"    {line}", "dim", no_wrap=True, overflow="ellipsis") for line in tuple(self.tail)]
        return Group(total, table, *(tail if running else ()))

    def _row(self, phase: Phase, step: _Step) -> tuple[RenderableType, str | Text, Text]:
        doing, done = _STEPS[phase]
        share = "" if step.share is None else f" {step.share:.0%}"
        taken = Text(clock(step.seconds()), "dim")
        if step.since is None or self.outcome:
            return Text("✓", "green"), done, taken
        if self.outcome is None:
            return self.spinner, doing + share, taken
        return Text("✗", "red"), Text(doing, "red"), taken


class Live(Plain):
    """Steps, elapsed time and the tail of the log, redrawn in place; a failure brings the whole log."""

    def __init__(self, title: str, console: Console) -> None:
        super().__init__()
        self._console = console
        self._screen = _Screen(" ".join(lines(title)))
        # rich puts itself into `sys.stderr`, so that a log line appears above the display, not through it.
        self._live = rich.live.Live(self._screen, console=console, refresh_per_second=8, redirect_stdout=False)

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(succeeded=error is None)

    def _end(self, *, succeeded: bool) -> None:
        if self._screen.outcome is None:
            for step in self._screen.steps.values():
                if succeeded:
                    step.leave()
            self._screen.outcome = succeeded
            self._live.stop()

    def show(self, event: Event) -> None:
        if event.phase in _STEPS:
            step = self._screen.enter(event.phase)
            step.share = share_done(event)
            if "progress" not in event.data:
                self._screen.tail.extend(lines(event.message))

    def failed(self, event: Event, log: Iterable[Event]) -> None:
        self._end(succeeded=False)
        for message in log:
            if not message.terminal and "progress" not in message.data:
                for line in lines(message.message):
                    self._console.print(Text(line, "dim"), soft_wrap=True)
        super().failed(event, ())

    def stopped(self, text: str) -> None:
        self._end(succeeded=False)
        super().stopped(text)

    def print(self, text: str, style: str = "") -> None:
        self._console.print(Text(harmless(text), style), soft_wrap=True)
