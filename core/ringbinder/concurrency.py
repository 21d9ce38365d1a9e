"""Caches, single flights, retries, queues and loops for plugins that many clients use at the same time.

Times are in seconds, on the clock that they are given (`Context.clock`), which tests turn.
"""

from .runtime.caching import Cache, SingleFlight
from .runtime.loops import Loop, error_summary
from .runtime.retry import Retry, TooLate, retry_after
from .runtime.silence import Silence
from .runtime.threads import Stop, in_thread
from .runtime.waiting_line import WaitingLine, queue_notice

__all__ = [
    "Cache",
    "Loop",
    "Retry",
    "Silence",
    "SingleFlight",
    "Stop",
    "TooLate",
    "WaitingLine",
    "error_summary",
    "in_thread",
    "queue_notice",
    "retry_after",
]
