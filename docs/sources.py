"""The Python files that the reference is read from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_TREES: Final = ("core/ringbinder", "plugins", "server/ringbinder_server")
_FOR_TESTS: Final = ("ringbinder/testing", "ringbinder_fake")


def sources() -> Iterator[Path]:
    """Every one that runs in a service, in order."""
    for tree in _TREES:
        for file in sorted((ROOT / tree).rglob("*.py")):
            if not any(part in file.relative_to(ROOT).as_posix() for part in _FOR_TESTS):
                yield file
