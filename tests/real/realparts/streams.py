"""Reading a launch as a client does that knows nothing of Ringbinder."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp


async def events_of(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Ids and events of a stream, to its end."""
    id = ""
    async for raw in answer.content:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "id":
            id = value
        elif name == "data":
            yield id, json.loads(value)
