"""Events to an address, in signed batches."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from attrs import frozen
from ringbinder import ConfigError, EventsRejected, Secret, Sink, SinkEvent, TransientError, option

SIGNATURE: Final = "Ringbinder-Signature"

_REJECTED: Final = frozenset({400, 413, 415, 422})
"""The receiver looked at these events and will not have them; any other answer may change."""


@frozen
class WebhookOptions:
    url: Secret = option(help="Where batches are posted to; it may hold credentials, hence is never shown.")
    secret: Secret = option(
        factory=lambda: Secret(""),
        env="RINGBINDER_WEBHOOK_SECRET",
        help="Key of the signature; without one, batches are not signed.",
    )
    headers: dict[str, Secret] = option(factory=dict, help="Further headers, such as `Authorization`.")


class WebhookSink(Sink[WebhookOptions]):
    """Posts ``{"events": [{"id", "level", "event": capsule}, ...]}``; any 2xx says that they are taken.

    Batches are signed as ``Ringbinder-Signature: t=<Unix seconds>,v1=<hex>``, the HMAC-SHA256 of
    ``<t>.<body>``: a receiver checks it, and that `t` is recent. It may see an event again, with the same
    `id`.
    """

    Config = WebhookOptions
    sections = ("WebhookSink",)
    delivery: ClassVar[dict[str, Any]] = {"mode": "at_least_once", "linger": 1.0}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Raises ConfigError if the address is none."""
        parts = urlsplit(self.config.url.reveal())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(["WebhookSink.url: it must be an address that begins with https:// or http://"])
        yield

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        found = [{"id": event.id, "level": event.level, "event": event.capsule()} for event in events]
        body = json.dumps({"events": found}, allow_nan=False).encode()
        headers = {name: value.reveal() for name, value in self.config.headers.items()}
        headers["Content-Type"] = "application/json"
        if self.config.secret:
            now = int(self.context.clock.time())
            headers[SIGNATURE] = f"t={now},v1={signature(self.config.secret, now, body)}"
        # No time limit of its own: delivery has one for every sink.
        request = self.context.http.stream(
            "POST", self.config.url.reveal(), content=body, headers=headers, timeout=None, follow_redirects=False
        )
        # What else the receiver answers is not read.
        async with request as answer:
            if answer.is_success:
                return
        message = f"the receiver answered {answer.status_code} {answer.reason_phrase}"
        raise EventsRejected(message) if answer.status_code in _REJECTED else TransientError(message)


def signature(secret: Secret, moment: int, body: bytes) -> str:
    """What stands after ``v1=`` for a body sent at `moment` (Unix seconds)."""
    return hmac.new(secret.reveal().encode(), b"%d." % moment + body, hashlib.sha256).hexdigest()
