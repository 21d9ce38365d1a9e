"""Which packages of a lock share a layer.

Engines run images of about 125 layers, and each layer costs requests. So of more than `MOST_LAYERS` packages small ones
share a layer, which is sent again when one of them changes, and large ones have their own.

A layer takes packages that follow each other in the lock, and layers lie on each other in its order: of two packages
that bring one file the later one's stays, as if they were installed in the lock's order, with any grouping.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from .model import Package

MOST_LAYERS: Final = 60
"""Layers of packages in an image. Those of its base and of its content are beside them."""

Group = tuple[Package, ...]

_SMALLEST_BYTES: Final = 32 * 2**10
"""Smaller packages count as large as this: to send one again costs no more than its requests."""

_UNKNOWN_BYTES: Final = 2**20
"""Of a package whose size the lock does not give."""


def group(packages: Sequence[Package], most: int = MOST_LAYERS) -> tuple[Group, ...]:
    """Cuts `packages` into at most `most` runs, one for each layer, in their order.

    The largest are cut out first; among those of about one size their names decide. So a package that changes, or that
    another lock has beside the same ones, changes the run that it is in, and few others.
    """
    cuts = {index for index in range(1, len(packages)) if packages[index].shared != packages[index - 1].shared}
    if len(cuts) >= most:  # a run with one private package is private as a whole
        cuts.clear()
    for index in sorted(range(len(packages)), key=lambda index: _rank(packages[index])):
        around = {index, index + 1} - {0, len(packages)}
        if len(cuts | around) < most:
            cuts |= around
    borders = [0, *sorted(cuts), len(packages)]
    return tuple(tuple(packages[start:end]) for start, end in pairwise(borders) if end > start)


def is_shared(group: Group) -> bool:
    """Whether a layer with these packages may be used for other repositories."""
    return all(package.shared for package in group)


def _rank(package: Package) -> tuple[int, bytes]:
    """The order in which packages get a layer of their own: by the magnitude of their size, the largest first."""
    magnitude = max(package.size or _UNKNOWN_BYTES, _SMALLEST_BYTES).bit_length()
    return -magnitude, hashlib.sha256(f"{package.kind} {package.name}".encode()).digest()
