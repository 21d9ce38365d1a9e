"""What the benchmarks of stages share: two ways to the same end in turns, and how their times are told."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ringbinder.app import Ringbinder
from ringbinder.model import LaunchRequest
from ringbinder.protocol import Event

Way = Callable[[], Awaitable[float]]
"""Goes to the end once, and gives the seconds that it took."""
Figures = list[tuple[float, float]]
"""Of each round, the seconds of Ringbinder and those by hand."""


def parser(about: str | None, rounds: int) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--json", type=Path, help="write the figures of every round here")
    return made


async def in_turns(rounds: int, ours: Way, hand: Way) -> Figures:
    """Who is first changes each round; one more round before them warms everything up."""
    figures: Figures = []
    for number in range(rounds + 1):
        times = {way: await way() for way in ((ours, hand) if number % 2 else (hand, ours))}
        if number:
            figures.append((times[ours], times[hand]))
    return figures


async def until_ready(app: Ringbinder, request: LaunchRequest) -> tuple[float, Event]:
    """Seconds from the request to its `ready`, and that event."""
    started = time.perf_counter()
    session = app.launch(request)
    async for batch in session.read():
        for _, event in batch:
            end = event
    if end.phase != "ready":
        raise SystemExit(f"it failed: {end.message}")
    return time.perf_counter() - started, end


def tell(measured: Mapping[str, Figures], bound: float, file: Path | None) -> None:
    """Prints what was measured, and the medians of the rounds' ratios; into `file`, as JSON."""
    found = {}
    for what, figures in measured.items():
        for ours, hand in figures:
            print(f"{what}: ours {ours:7.3f} s   by hand {hand:7.3f} s   ratio {ours / hand:.3f}")
        ratio = statistics.median(ours / hand for ours, hand in figures)
        ours, hand = (statistics.median(times) for times in zip(*figures, strict=True))
        print(f"{what}: medians {ours:.3f} s and {hand:.3f} s; median ratio {ratio:.3f} (bound: {bound})")
        found[what] = {"rounds": figures, "median_ratio": ratio}
    if file:
        file.write_text(json.dumps(found, indent=2))
