"""The display that fits the terminal and the options."""

from __future__ import annotations

import sys

from .displays import JsonLines, Plain


def display_for(title: str, as_json: bool) -> Plain:
    """JSON if asked for, live if stderr is a terminal that can move its cursor, else plain."""
    if as_json:
        return JsonLines()
    if not sys.stderr.isatty():  # rich would also take FORCE_COLOR, which many CI systems set, for a terminal
        return Plain()
    from rich.console import Console

    from .live import Live

    console = Console(stderr=True, highlight=False)
    return Plain() if console.is_dumb_terminal else Live(title, console)
