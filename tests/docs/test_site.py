"""The site is made without a warning; the public surface and the migration page are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ringbinder.config import binderhub as compat
from ringbinder.plugins.hookspecs import Hooks

from .pages import PAGES, ROOT, named

DOCS = ROOT / "docs"
NAMES = yaml.safe_load(Path(__file__).with_name("binderhub-names.yaml").read_text())
NO_SECTIONS = ("BinderSpawnerMixin", "FakeRegistry", "HealthHandler", "KubernetesHealthHandler")
ANSWER = re.compile(r"the same|gone(?:, because|:)|accepted")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=280, check=False, cwd=ROOT)


@pytest.mark.slow
def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    done = run("-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "how-to" / "come-from-binderhub.html").exists()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pictures_have_alt_text_and_both_schemes(page: Path) -> None:
    for alt, file in re.findall(r"!\[([^\]]*)\]\((?![a-z]+:)([^)]+)\)", page.read_text()):
        assert len(alt) > 20, f"{file} has no text for those who cannot see it"
        if file.endswith(".svg") and "badge" not in file:
            picture = (page.parent / file).read_text()
            assert "<title>" in picture
            assert "prefers-color-scheme: dark" in picture, f"{file} is not for a dark page"


def test_picture_of_the_hooks_names_hooks() -> None:
    picture = (DOCS / "images" / "hooks.svg").read_text()
    titles = re.findall(r'class="strong"[^>]*>([^<]+)<', picture)
    names = {name for title in titles for name in re.sub(r" \(.*\)", "", title).split(", ")}
    assert {"resolve", "build", "launch"} <= names
    assert [name for name in sorted(names) if not hasattr(Hooks, name)] == []


def test_the_surface_is_the_recorded_one() -> None:
    done = run(DOCS / "surface.py", "--check")
    message = "write a line into CHANGELOG.md, then run `python docs/surface.py`"
    assert done.returncode == 0, f"the public surface has changed; {message}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", NAMES)
def test_migration_page_has_every_class_and_option_of_binderhub(name: str) -> None:
    """Against BinderHub's own names, not against what this code knows of them."""
    page = (DOCS / "how-to" / "come-from-binderhub.md").read_text()
    part = page.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", part, re.MULTILINE))
    if part:
        assert [option for option in NAMES[name].split() if option not in rows] == []
        assert [option for option, here in rows.items() if not ANSWER.match(here)] == []
    else:
        words = re.search(rf"^\| `{name}` \| (.+) \|$", page, re.MULTILINE)
        assert words, f"the class {name} is not on the page"
        assert [option for option in NAMES[name].split() if f"`{option}`" not in words[1]] == []


def test_the_configuration_knows_every_option_of_binderhub() -> None:
    sections = {name: set(options.split()) for name, options in NAMES.items() if name not in NO_SECTIONS}
    unknown = [f"{s}.{o}" for s, options in sections.items() for o in options if not compat.known(s, o)]
    assert unknown == []
