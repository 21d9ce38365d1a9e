"""A Ringbinder that emits numbered events until it is killed; `test_spool_killed.py` runs it as a process.

Prints ``stored N`` when all events up to number N are in the spool, and ``drained`` when nothing waits.
Arguments: address of the receiver, state folder, first number, how many (0: without end), events a second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import pytest
import structlog
from ringbinder.app import running
from ringbinder.config.loading import load
from ringbinder.events.spool import Spool
from ringbinder.protocol import SinkEvent

SCHEMA = {
    "$id": "test/number",
    "version": 1,
    "question": "Which numbers have arrived?",
    "type": "object",
    "additionalProperties": False,
    "required": ["number", "text"],
    "properties": {"number": {"type": "integer"}, "text": {"type": "string"}},
}


append, stored = Spool.append, -1


def noted(spool: Spool, events: Sequence[SinkEvent]) -> int:
    """Notes the number of the last event that is on the disk."""
    global stored
    dropped = append(spool, events)
    stored = events[-1].fields["number"]
    return dropped


async def main(url: str, state: str, first: int, count: int, rate: float) -> None:
    sets = {
        "Ringbinder.builder": "fake",
        "Ringbinder.registry": "fake",
        "Ringbinder.launcher": "fake",
        "Ringbinder.sinks": "[webhook]",
        "Ringbinder.state_folder": state,
        "Ringbinder.cache_folder": state,
        "WebhookSink.url": url,
        "WebhookSink.secret": "a key of the test",
        "EventLog.delivery.webhook": "{linger: 0, retry_first: 20ms, retry_most: 200ms, batch: 40}",
    }
    config = load((), environ={}, sets=[f"{name}={value}" for name, value in sets.items()])
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    async with running(config, log) as app:
        events = app.emitter
        events.catalogue.register(SCHEMA)
        number, began = first, time.monotonic()
        while not count or number < first + count:
            # Who is behind after a stall catches up in steps: a queue that overflows would drop its oldest.
            due = min(first + (time.monotonic() - began) * rate, number + 1000)
            while number < due and not (count and number >= first + count):
                events.emit("test/number", {"number": number, "text": "x" * (number % 300)})
                number += 1
            while stored < number - 1:
                await asyncio.sleep(0.005)
            print(f"stored {number - 1}", flush=True)
            await asyncio.sleep(0.01)
        while app.delivery.health()[0].detail["waiting"]:
            await asyncio.sleep(0.02)
        print("drained", flush=True)


if __name__ == "__main__":
    pytest.MonkeyPatch().setattr(Spool, "append", noted)
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
