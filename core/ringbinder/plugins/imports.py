"""The import of a plugin's class."""

from __future__ import annotations

from typing import Any

from ..errors import PluginError
from ..runtime.loops import error_summary
from .deprecation import importing
from .discovery import GROUPS, Row


def import_plugin(row: Row) -> Any:
    """The plugin class that a row names. Raises PluginError, in words for an operator."""
    found = row.found
    if (group := row.entry_point.group) != GROUPS[found.kind]:
        problem = f"its entry-point group {group!r}, of {found.origin}, does not exist; call it {GROUPS[found.kind]!r}"
        raise PluginError(found.key, problem)
    try:
        with importing(found.key):
            plugin = row.entry_point.load()
    except (Exception, SystemExit) as error:
        message = f"{found.target} of {found.origin} cannot be imported: {error_summary(error)}"
        raise PluginError(found.key, message) from error
    if not callable(plugin):
        raise PluginError(found.key, f"{found.target} of {found.origin} is no class")
    return plugin
