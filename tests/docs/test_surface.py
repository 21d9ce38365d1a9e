"""What comes to the public surface or goes is named in the changelog, also before there is a release."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from .pages import ROOT


@pytest.fixture(scope="module")
def unexplained() -> Callable[[Path], list[str]]:
    spec = spec_from_file_location("surface", ROOT / "docs" / "surface.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[Path], list[str]] = module.unexplained
    return found


class Repository:
    """A git repository with a record of the surface and a changelog."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "docs").mkdir()
        self.git("init", "--quiet")
        self.write("hook fetch\nhook resolve\n", "## Unreleased\n")
        self.commit()

    def git(self, *arguments: str) -> None:
        author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *author, *arguments], cwd=self.root, check=True, capture_output=True)

    def write(self, surface: str, changelog: str) -> None:
        (self.root / "docs" / "surface.txt").write_text(surface)
        (self.root / "CHANGELOG.md").write_text(changelog)

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "a change")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("released", [False, True])
def test_what_has_gone_is_named(
    repository: Repository, unexplained: Callable[[Path], list[str]], committed: bool, released: bool
) -> None:
    assert unexplained(repository.root) == []
    if released:
        repository.git("tag", "v0.1.0")
    for changelog, missing in [("## Unreleased\n", ["hook fetch"]), ("- The hook `fetch` is gone.\n", [])]:
        repository.write("hook resolve\n", changelog)
        if committed:
            repository.commit()
        assert unexplained(repository.root) == missing


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("hook stop", "stop"),
        ("hook fetch(limit)", "fetch"),
        ("ringbinder.Shelf.books", "Shelf"),
        ("ringbinder.Shelf.lend(book)", "Shelf"),
        ("ringbinder.testing.shelves.fill(shelf)", "fill"),
    ],
)
def test_what_has_come_is_named(
    repository: Repository, unexplained: Callable[[Path], list[str]], committed: bool, line: str, name: str
) -> None:
    whole = "ringbinder.Shelf\nringbinder.Shelf.lend\nringbinder.testing.shelves.fill\n"
    repository.write(f"hook fetch\nhook resolve\n{whole}", "")
    repository.commit()
    for changelog, missing in [("## Unreleased\n", [line]), (f"- `{name}` is new.\n", [])]:
        repository.write(f"hook fetch\nhook resolve\n{whole}{line}\n", changelog)
        if committed:
            repository.commit()
        assert unexplained(repository.root) == missing


def test_what_went_before_the_release_is_not_asked_for_after_it(
    repository: Repository, unexplained: Callable[[Path], list[str]]
) -> None:
    repository.write("hook resolve\n", "")
    repository.commit()
    repository.git("tag", "v0.1.0")
    assert unexplained(repository.root) == []


def test_what_was_part_of_a_class_goes_with_it(
    repository: Repository, unexplained: Callable[[Path], list[str]]
) -> None:
    repository.write("ringbinder.Shelf\nringbinder.Shelf.lend\nringbinder.Shelf.lend(book)\n", "")
    repository.commit()
    repository.write("ringbinder.Shelf\n", "")
    assert unexplained(repository.root) == ["ringbinder.Shelf.lend", "ringbinder.Shelf.lend(book)"]
    repository.write("", "- `ringbinder.Shelf` is gone.\n")
    assert unexplained(repository.root) == []
