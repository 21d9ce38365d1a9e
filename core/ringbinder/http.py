"""The transport of `Context.http`, for a client of a plugin's own, and the size of responses.

Of a response at most `MAX_BODY` bytes are read (32 MiB), unless the request has another number in its extension
`MAX_BYTES`: ``client.build_request("GET", url, extensions={MAX_BYTES: 1_000_000_000})``.
"""

from .runtime.http import MAX_BODY, MAX_BYTES, open_transport

__all__ = ["MAX_BODY", "MAX_BYTES", "open_transport"]
