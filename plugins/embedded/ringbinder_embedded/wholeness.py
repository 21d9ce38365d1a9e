"""Whether an environment that was installed is still whole: every file that its packages' records list is there."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Collection
from pathlib import Path
from typing import Final

from ringbinder import process
from ringbinder.folder_image import FolderImage

_PYTHON_SECONDS: Final = 30.0


def packages(entry: FolderImage) -> list[str]:
    """Names and versions of the packages that are installed in the environment of `entry`. Blocks."""
    return sorted(record.parent.name.removesuffix(".dist-info") for record in _records(entry))


async def damage(entry: FolderImage, wanted: Collection[str]) -> str:
    """Say what the environment of `entry` lacks of the packages `wanted`; empty if it lacks nothing.

    Only for an environment that no stranger can write.
    """
    if lack := await asyncio.to_thread(_missing, entry, wanted):
        return lack
    try:
        done = await process.run([str(entry.python), "-I", "-c", ""], timeout=_PYTHON_SECONDS)
    except (OSError, TimeoutError) as error:
        return f"its Python does not start: {error}"
    return f"its Python ends with exit code {done.returncode}" if done.returncode else ""


def _missing(entry: FolderImage, wanted: Collection[str]) -> str:
    if gone := sorted(set(wanted) - set(packages(entry))):
        return f"{gone[0]} is not installed"
    for record in _records(entry):
        with record.open(newline="", encoding="utf-8") as file:
            for path, _, size in csv.reader(file):
                try:
                    there = (record.parents[1] / path).stat().st_size
                except OSError:
                    return f"{path} is missing"
                if size and there != int(size):
                    return f"{path} has {there} bytes instead of {size}"
    return ""


def _records(entry: FolderImage) -> list[Path]:
    return sorted(entry.env.place.glob("lib/python3.*/site-packages/*.dist-info/RECORD"))
