"""Requests written byte by byte, which no HTTP client would send, and what the server logs of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from realparts.serving import Live


def entries(live: Live) -> list[dict[str, Any]]:
    """What was logged since the server runs."""
    return [dict(entry) for entry in live.logged if not entry["event"].startswith("Running on ")]


async def talk(live: Live, request: str | bytes) -> bytes:
    """Everything that the server answers to `request` until it closes the connection."""
    address = urlsplit(live.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request.encode() if isinstance(request, str) else request)
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()
