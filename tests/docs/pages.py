"""The pages of the documentation: all Markdown of the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


PAGES: Final = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "charts/**/*.md")
    for page in ROOT.glob(pattern)
    if "_build" not in page.parts
)


def named(page: Path) -> str:
    """The page in the name of a test."""
    return str(page.relative_to(ROOT))


def block(text: str, language: str) -> list[str]:
    """The contents of all fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
