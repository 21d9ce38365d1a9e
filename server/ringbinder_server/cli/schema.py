"""`ringbinder config schema`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from ringbinder.errors import PluginError
from ringbinder.plugins import import_plugin
from ringbinder.schema import of_configuration
from ringbinder.selection import installed


def print_schema() -> None:
    """Prints it; a plugin that cannot be imported is left out, and named on stderr."""
    click.echo(json.dumps(of_configuration(_classes()), indent=2, sort_keys=True))


def _classes() -> Iterator[Any]:
    for row in installed():
        try:
            yield import_plugin(row)
        except PluginError as error:
            click.echo(f"ringbinder: warning: left out: {error}", err=True)
