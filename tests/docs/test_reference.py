"""The documentation says what the code says, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from ringbinder.config.loading import load

from .pages import PAGES, ROOT, block, named

LINK = re.compile(r"(?:\]\(|(?:href|src)=\")(?![a-z]+:)(?P<file>[^)#\s\"]*)(?:#(?P<anchor>[^)\s\"]+))?")
OWN_FILE = re.compile(
    r"`(?P<file>(?:\.ci|benchmarks|charts|core|docs(?!/_build)|examples|plugins|server|tests)/[\w./-]+)`"
)
CODE = re.compile(r"^( *)```.*?^\1```|^(?:    [^\n]*\n)+", re.DOTALL | re.MULTILINE)


def test_generated_parts_are_fresh() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"run `python docs/generate.py`:\n{done.stdout}{done.stderr}"


@cache
def anchors(page: Path) -> frozenset[str]:
    """What a link to a heading of `page` may say, by the rule of GitHub's that the site has as well."""
    seen: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        seen.append(f"{slug}-{seen.count(slug)}" if slug in seen else slug)
    return frozenset(seen)


def dead_links(page: Path) -> list[str]:
    dead = []
    for match in LINK.finditer(CODE.sub("", page.read_text())):
        target = page.parent / match["file"] if match["file"] else page
        lost = match["anchor"] and target.suffix == ".md" and match["anchor"] not in anchors(target)
        if lost or not target.exists():
            dead.append(match[0].partition("(")[2] or match[0])
    return dead


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading\n\n[a](#a-heading) [b](#none) [c](page.md#a-heading) [d](gone.md) [e](https://x/y)")
    assert dead_links(page) == ["#none", "gone.md"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_of_the_project_that_are_named_are_there(page: Path) -> None:
    missing = [match["file"] for match in OWN_FILE.finditer(page.read_text()) if not (ROOT / match["file"]).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_examples_of_configuration_are_right(page: Path, tmp_path: Path) -> None:
    for text in block(page.read_text(), "yaml"):
        assert isinstance(yaml.safe_load(text), dict)
        file = tmp_path / "example.yaml"
        file.write_text(text)
        load([file], environ={})
