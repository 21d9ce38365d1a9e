"""`ringbinder config schema`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ringbinder.config.json_schema import of_configuration
from ringbinder.errors import PluginError
from ringbinder.plugins.discovery import installed
from ringbinder.plugins.manager import import_plugin

from ..terminal import echo, echo_json


def print_schema() -> None:
    """Prints it; a plugin that cannot be imported is left out, and named on stderr."""
    echo_json(of_configuration(_classes()), sort_keys=True)


def _classes() -> Iterator[Any]:
    for row in installed():
        try:
            yield import_plugin(row)
        except PluginError as error:
            echo(f"ringbinder: warning: left out: {error}", err=True)
