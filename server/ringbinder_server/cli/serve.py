"""`ringbinder serve`."""

from __future__ import annotations

import click

from ..serve import serve
from .exitcodes import ExitCode
from .invocation import Invocation


async def serve_pages(invocation: Invocation, host: str, port: int | None, *, public: bool) -> int:
    """Serves until it is told to stop; prints the address once it listens."""
    await serve(
        invocation.config(),
        invocation.log,
        host=host,
        port=port,
        open_to_all=public,
        on_ready=lambda url: click.echo(f"Ringbinder listens at {url}"),
    )
    return ExitCode.OK
