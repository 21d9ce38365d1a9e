"""Which packages of a lock share a layer.

Engines run images of about 125 layers, and each layer costs requests. So small packages share layers, which are sent
again when one of theirs changes, and large ones have their own.

A layer takes packages that follow each other in the lock, and layers lie on each other in its order: of two packages
that bring one file the later one's stays, as if they were installed in the lock's order, with any grouping.

Engines share what they have unpacked between images from the bottom up to the first layer that differs. Locks begin
with what most environments have, and how their first layers are cut depends on nothing that comes after.
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

_FIRST_PART: Final = 2 / 3
"""Of all layers: those that no later package changes."""

_LARGE_BYTES: Final = 512 * 2**10
"""Packages of this size have a layer of their own."""

_ONE_IN: Final = 4
"""Small packages that begin a layer, as their names decide."""

_SMALLEST_BYTES: Final = 32 * 2**10
"""Smaller packages count as large as this: to send one again costs no more than its requests."""


def group(packages: Sequence[Package], most: int = MOST_LAYERS) -> tuple[Group, ...]:
    """Cuts `packages` into at most `most` runs, one for each layer, in their order.

    A package that changes changes the run that it is in, and few others if its size is quite another.
    """
    cuts = [index for index in range(1, len(packages)) if _is_cut(packages[index - 1], packages[index])]
    first = int(most * _FIRST_PART)
    if len(cuts) >= most:
        start = cuts[first - 1] if first else 0
        cuts = [*cuts[:first], *(start + cut for cut in _cut_into(packages[start:], most - first))]
    borders = [0, *cuts, len(packages)]
    return tuple(tuple(packages[start:end]) for start, end in pairwise(borders) if end > start)


def is_shared(group: Group) -> bool:
    """Whether a layer with these packages may be used for other repositories."""
    return all(package.shared for package in group)


def _is_cut(before: Package, after: Package) -> bool:
    """Whether two neighbours are in two layers, where there is no lack of them."""
    if before.shared != after.shared or _is_large(before) or _is_large(after):
        return True
    return _digest(after)[0] % _ONE_IN == 0


def _is_large(package: Package) -> bool:
    return package.size is None or package.size >= _LARGE_BYTES


def _cut_into(packages: Sequence[Package], most: int) -> list[int]:
    """Cuts `packages` into at most `most` runs: around the largest; of one magnitude their names decide."""
    cuts = {index for index in range(1, len(packages)) if packages[index].shared != packages[index - 1].shared}
    if len(cuts) >= most:  # a run with one private package is private as a whole
        cuts.clear()
    for index in sorted(range(len(packages)), key=lambda index: _rank(packages[index])):
        around = {index, index + 1} - {0, len(packages)}
        if len(cuts | around) < most:
            cuts |= around
    return sorted(cuts)


def _rank(package: Package) -> tuple[int, bytes]:
    size = _LARGE_BYTES if package.size is None else package.size
    return -max(size, _SMALLEST_BYTES).bit_length(), _digest(package)


def _digest(package: Package) -> bytes:
    return hashlib.sha256(f"{package.kind} {package.name}".encode()).digest()
