"""Strangers' folders, documents, responses and text, read within bounds and without following a link.

What a repository, a notebook or another server has written may be hostile: a link to a file of this machine, a
pipe that never ends, JSON nested a million levels deep, a line that a backtracking expression never finishes.

- A folder that strangers can write: `UntrustedTree`, up to `MAX_DEPTH` folders below one another and `MAX_ENTRIES`
  files and folders in all; `EntryKind` is ``file``, ``folder``, ``link`` or ``other``.
- A document: `parse_json`, `parse_toml`, `parse_yaml`, with at most `MAX_VALUES` values, or `MAX_LOCK_VALUES` for what
  programs write. Read at most `RECIPE_BYTES` of a file that people write, `LOCK_BYTES` of a lock file.
- A response: `read_json`, `read_bounded`; then `check_shape`.
- Text: `Regex`, in time linear in the text. A text in a message: `excerpt`.
"""

from .runtime.bounded import (
    LOCK_BYTES,
    MAX_LOCK_VALUES,
    MAX_VALUES,
    RECIPE_BYTES,
    MalformedError,
    TooLargeError,
    check_shape,
    excerpt,
    parse_json,
    parse_toml,
    parse_yaml,
    read_bounded,
    read_json,
)
from .runtime.patterns import Match, Regex
from .runtime.untrusted import MAX_DEPTH, MAX_ENTRIES, EntryKind, UntrustedError, UntrustedTree

__all__ = [
    "LOCK_BYTES",
    "MAX_DEPTH",
    "MAX_ENTRIES",
    "MAX_LOCK_VALUES",
    "MAX_VALUES",
    "RECIPE_BYTES",
    "EntryKind",
    "MalformedError",
    "Match",
    "Regex",
    "TooLargeError",
    "UntrustedError",
    "UntrustedTree",
    "check_shape",
    "excerpt",
    "parse_json",
    "parse_toml",
    "parse_yaml",
    "read_bounded",
    "read_json",
]
