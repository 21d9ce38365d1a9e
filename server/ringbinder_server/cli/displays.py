"""How a launch or build is shown: plain lines, JSON lines, or live (in `live`; `display_choice` chooses).

Progress and notes go to stderr; a result, that is an address or an image's name, goes to stdout.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from ringbinder.protocol import Event

from ..terminal import echo, echo_event, echo_text, lines


def share_done(event: Event) -> float | None:
    """How much of a push is done, from 0 to 1; None if the event does not say."""
    layers = [layer for layer in event.data.get("progress", {}).values() if isinstance(layer, dict)]
    total = sum(layer.get("total") or 0 for layer in layers)
    return sum(layer.get("current") or 0 for layer in layers) / total if total else None


def clock(seconds: float) -> str:
    """``4.2 s``, ``1:05`` or ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Plain:
    """One line for each line of the log, behind its phase: for pipes, files and simple terminals."""

    def __init__(self) -> None:
        self._progress = ""

    def __enter__(self) -> Plain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        """An event as it comes. The terminal one is shown by `failed`, or by what the command says next."""
        if event.terminal or ("progress" in event.data and event.message == self._progress):
            return
        self._progress = event.message if "progress" in event.data else ""
        for line in lines(event.message):
            self.print(f"{event.phase:<9} {line}")

    def failed(self, event: Event, log: Iterable[Event]) -> None:
        """The end that no one wanted: its cause, the line that matters, what to do. `log`: all events."""
        cause = " ".join(lines(event.message))
        self.print(f"\nFailed: {cause}", "bold red")
        if line := event.data.get("line"):
            self.print(f"  in the log: {' '.join(lines(line))}")
        if advice := event.data.get("advice"):
            self.print(f"  {' '.join(lines(advice))}")

    def stopped(self, text: str) -> None:
        """The end that an interrupt asked for."""
        self.print(text)

    def print(self, text: str, style: str = "") -> None:
        """A note for a person; `style` is rich's, where there are colours."""
        echo_text(text, err=True)

    def ready(self, address: str, seconds: float) -> None:
        """A notebook runs at `address`, `seconds` after it was asked for."""
        self.print(f"\nThe notebook is ready after {clock(seconds)}:\n")
        echo(address)
        self.print("\nPress Ctrl-C to stop it.")

    def built(self, image: str) -> None:
        """An image was asked for, and it is there."""
        echo(image)


class JsonLines(Plain):
    """The protocol's events on stdout, one JSON object a line, and nothing else there."""

    def show(self, event: Event) -> None:
        echo_event(event)

    def failed(self, event: Event, log: Iterable[Event]) -> None:
        """Nothing: the event has been shown."""

    def stopped(self, text: str) -> None:
        """Nothing: the last event says it."""

    def ready(self, address: str, seconds: float) -> None:
        """Nothing: the last event holds the address."""

    def built(self, image: str) -> None:
        """Nothing: the last event names the image."""
