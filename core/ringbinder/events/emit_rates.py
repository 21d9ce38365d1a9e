"""How many events plugins may emit."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Final

from attrs import define, field

from ..runtime.log import Logger
from ..runtime.metrics import Metrics

_BURST_SECONDS: Final = 5.0

current_sink: ContextVar[str] = ContextVar("current_sink", default="")
"""The sink whose `emit` runs now: what it emits itself would come back to it for ever."""


@define
class _Allowance:
    """What a plugin may still emit: refilled at `rate` a second, up to a burst."""

    rate: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        self.left = min(self.rate * _BURST_SECONDS, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@define(eq=False)
class EmitRates:
    """Lets each plugin emit at most `rate` events a second, counts the others and warns once of each plugin."""

    _log: Logger
    _metrics: Metrics
    rate: float
    flooding: dict[str, float] = field(factory=dict, init=False)
    """When an event of a plugin was last refused (monotonic seconds), by plugin."""
    _allowances: dict[str, _Allowance] = field(factory=dict, init=False)

    def take(self, plugin: str) -> bool:
        """Whether `plugin` may emit one more event now."""
        now = time.monotonic()
        allowance = self._allowances.setdefault(plugin, _Allowance(self.rate, self.rate * _BURST_SECONDS, now))
        if not current_sink.get() and allowance.take(now):
            return True
        self._metrics.events_refused.labels(plugin).inc()
        if plugin not in self.flooding:
            self._log.warning("a plugin emits too many events; they are dropped", plugin=plugin, limit=self.rate)
        self.flooding[plugin] = now
        return False
