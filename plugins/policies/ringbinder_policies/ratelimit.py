"""How many builds one client may start in a time."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final

from attrs import frozen, validators
from ringbinder import Allowance, Context, Duration, LaunchRequest, Policy, Refused, Ticket, option

_MOST_CLIENTS: Final = 100_000


@frozen
class RateLimitOptions:
    """BinderHub's options of section `RateLimiter`."""

    limit: int = option(
        10, validator=validators.ge(0), help="How many builds a client may start in the period; 0: any number."
    )
    period_seconds: Duration = option(3600.0, validator=validators.gt(0), help="The period: so long a build counts.")


class RateLimit(Policy[RateLimitOptions]):
    """Counts the builds that a client starts; launches of images that are there are free.

    A build counts for `period_seconds` from its start, hence the wait that a client reads is the true one.
    Not counted are requests with a valid build token, of users who are logged in, of the command line, and of
    this machine itself if no one else can reach the server. The count is this process's own.
    """

    Config = RateLimitOptions
    sections = ("RateLimiter",)

    def __init__(self, config: RateLimitOptions, context: Context) -> None:
        super().__init__(config, context)
        self._starts: OrderedDict[str, deque[float]] = OrderedDict()  # the client that built last is last

    async def admit(self, ticket: Ticket) -> AbstractAsyncContextManager[None] | None:
        if ticket.stage != "build" or (client := self._counted(ticket.request)) is None:
            return None
        return self._counting(client)

    async def allowance(self, request: LaunchRequest) -> Allowance | None:
        if (client := self._counted(request)) is None:
            return None
        starts, limit = self._of(client), self.config.limit
        now = self.context.clock.time()
        wait = starts[0] + self.config.period_seconds - self.context.clock.monotonic() if starts else 0.0
        return Allowance(limit, limit - len(starts), now + wait)

    @asynccontextmanager
    async def _counting(self, client: str) -> AsyncIterator[None]:
        starts, now = self._of(client), self.context.clock.monotonic()
        if len(starts) >= self.config.limit:
            wait = max(starts[0] + self.config.period_seconds - now, 0.0)
            seconds = math.ceil(wait) or 1
            message = f"Rate limit exceeded. Try again in {seconds} seconds."
            raise Refused(message, retry_after=seconds, status=429)
        starts.append(now)
        self._starts[client] = starts
        self._starts.move_to_end(client)
        while len(self._starts) > _MOST_CLIENTS or self._is_over(next(iter(self._starts.values()))):
            self._starts.popitem(last=False)
        yield

    def _of(self, client: str) -> deque[float]:
        """When the builds began that count for it now, oldest first."""
        starts = self._starts.get(client, deque())
        while starts and starts[0] + self.config.period_seconds <= self.context.clock.monotonic():
            starts.popleft()
        return starts

    def _is_over(self, starts: deque[float]) -> bool:
        return not starts or starts[-1] + self.config.period_seconds <= self.context.clock.monotonic()

    def _counted(self, request: LaunchRequest) -> str | None:
        """Under which name the builds of who asks are counted; None if they are not."""
        if not self.config.limit or request.build_token or request.user or request.local:
            return None
        with suppress(ValueError):
            if ipaddress.ip_address(request.client.ip).is_loopback and not self.context.public:
                return None
        return request.client.network or None
