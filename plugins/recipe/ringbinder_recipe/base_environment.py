"""What repo2docker's base environment has for kernels, and notebooks rely on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

ALWAYS: Final = ("ipykernel", "pip")
"""pip, since notebooks call !pip install."""
WHERE_THEY_FIT: Final[Mapping[str, str]] = {
    "ipywidgets": "ipywidgets>=8,<9",
    "nbconvert": "nbconvert",
    "nbformat": "nbformat",
}
WHERE_THEY_FIT_WITH_SERVER: Final[Mapping[str, str]] = {"notebook": "notebook>=7,<8"}


def missing(installed: Collection[str]) -> list[str]:
    """Return the requirements of what is not `installed`, names that are normalized; not at the cost of a failure."""
    base = {**WHERE_THEY_FIT, **(WHERE_THEY_FIT_WITH_SERVER if "jupyter-server" in installed else {})}
    return [spec for name, spec in base.items() if name not in installed]
