"""The policy `allow_list`: only repositories of a list on the web are built and launched."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from fnmatch import fnmatchcase

import httpx
from attrs import frozen
from ringbinder import Context, Duration, Plugin, Refused, Ticket, option


@frozen
class AllowListOptions:
    """Section `AllowList`."""

    url: str = option("", help="Where the list is; empty: every repository may.")
    refresh: Duration = option(300.0, help="How old a list may be before it is asked for again.")


class AllowList(Plugin[AllowListOptions]):
    """A repository is known from build on: what stands in front of that is let through."""

    Config = AllowListOptions
    sections = ("AllowList",)
    plugin_api = 1

    def __init__(self, config: AllowListOptions, context: Context) -> None:
        super().__init__(config, context)
        self._forms: tuple[str, ...] | None = None
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def admit(self, ticket: Ticket) -> AbstractAsyncContextManager[None] | None:
        if ticket.repo is None or not self.config.url:
            return None
        forms = await self._list()
        if forms is None:
            raise Refused("The list of repositories cannot be had just now.", retry_after=30, status=503)
        if not any(fnmatchcase(ticket.repo.url, form) for form in forms):
            raise Refused("This repository is not in the list of those that may be launched here.")
        return None

    async def _list(self) -> tuple[str, ...] | None:
        clock = self.context.clock
        async with self._asking:
            if self._asked_at + self.config.refresh <= clock.monotonic():
                self._asked_at = clock.monotonic()
                try:
                    answer = await self.context.http.get(self.config.url)
                    answer.raise_for_status()
                except httpx.HTTPError as error:
                    self.context.log.warning("the list cannot be had", error=type(error).__name__)
                else:
                    lines = (line.partition("#")[0].strip() for line in answer.text.splitlines())
                    self._forms = tuple(line for line in lines if line)
            return self._forms
