"""`ringbinder serve`."""

from __future__ import annotations

import sys

from ringbinder.runtime.paths import Paths
from ringbinder.secret import Secret

from ..serve import ANY_ADDRESS, serve
from ..terminal import echo, echo_json
from .browser import Browser
from .exitcodes import ExitCode
from .invocation import Invocation


async def serve_pages(
    invocation: Invocation, host: str, port: int | None, *, public: bool, token: bool, browser: bool
) -> int:
    """Serves until a signal stops it; prints the address once it listens, and opens it where it has a token."""
    config = invocation.config()
    with Browser(Paths.of(config.settings.state_folder, config.settings.cache_folder).state) as window:

        def ready(address: str, made: Secret | None) -> None:
            url = f"{address}?token={made.reveal()}" if made else address
            if config.settings.log_format == "json":
                echo_json({"event": "Ringbinder listens", "address": url}, indent=None)
            else:
                everywhere = " (and at this port of every other address of this machine)"
                echo(f"Ringbinder listens at {url}{everywhere if host in ANY_ADDRESS else ''}")
            if made and browser and sys.stdout.isatty():
                window.open(url)

        await serve(
            config, invocation.log, host=host, port=port, open_to_all=public, demand_token=token, on_ready=ready
        )
    return ExitCode.OK
