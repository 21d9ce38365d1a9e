"""A day of a public Binder, compressed: who launches what, when. Pure, and the same for the same seed.

Source of the mix: mybinder.org's own figures. Nine of ten launches find their image; now and then a tutorial brings
200 people within a minute; up to 30 builds run at a time; some 800 servers live.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from attrs import frozen

DAY: Final = 86_400.0
LAUNCHES: Final = 6_250
"""Of one member of a federation on a usual day: 1x."""
BUILDS_AT_ONCE: Final = 30
SPIKE: Final = 200
SPIKES: Final = 5
BUILT: Final = 0.1
"""The part of the launches that begin a build."""
BUILD_SECONDS: Final = (60.0, 600.0)
SERVER_SECONDS: Final = 800 * DAY / LAUNCHES
"""A server lives so long that 800 live on average at 1x."""


@frozen(order=True)
class Arrival:
    """A client. `at` is in seconds of the day."""

    at: float
    repository: str


def day(times: float, seed: int = 1) -> Sequence[Arrival]:
    """The clients of one day, in order, `times` as many as usual."""
    chance = random.Random(seed)
    whole = round(LAUNCHES * times)
    spikes = round(SPIKES * times)
    arrivals: list[Arrival] = []
    for number in range(spikes):
        begin = chance.uniform(0, DAY - 3600)
        arrivals += [Arrival(begin + chance.uniform(0, 60), f"tutorial-{number}") for _ in range(min(SPIKE, whole))]
    usual = whole - len(arrivals)
    fresh = round(whole * BUILT) - spikes
    popular = [f"popular-{number}" for number in range(100)]
    weights = [1 / (1 + number) for number in range(100)]
    for number in range(usual):
        name = f"fresh-{number}" if number < fresh else chance.choices(popular, weights)[0]
        arrivals.append(Arrival(chance.uniform(0, DAY), name))
    return sorted(arrivals)
