"""The package and the chart have one version, complete metadata, and types for those who import them."""

from __future__ import annotations

import tomllib
from importlib import import_module

import pytest
import yaml

from .pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_the_marker_of_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_every_package_is_in_the_wheel() -> None:
    named = {path.parent for folder in ("core", "plugins", "server") for path in (ROOT / folder).glob("**/py.typed")}
    assert named == {ROOT / package for package in PACKAGES}


@pytest.mark.parametrize(("tests", "package"), [("core", "core/ringbinder"), ("server", "server/ringbinder_server")])
def test_tests_stand_where_their_module_stands(tests: str, package: str) -> None:
    stray = []
    for file in (ROOT / "tests" / tests).rglob("test_*.py"):
        modules = (ROOT / package / file.parent.relative_to(ROOT / "tests" / tests)).glob("*.py")
        if not f"{file.stem}_".startswith(tuple(f"test_{module.stem}_" for module in modules)):
            stray.append(str(file))
    assert stray == []


def test_chart_has_the_version_of_the_project() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "ringbinder" / "Chart.yaml").read_text())
    assert chart["appVersion"] == PROJECT["project"]["version"]
    assert chart["version"].startswith(chart["appVersion"].partition(".dev")[0])


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2", "1.2.0"),
        ("1.2.3", "1.2.3"),
        ("1.2.0rc1", "1.2.0-rc.1"),
        ("0.1.0.dev0", "0.1.0-dev.0"),
        ("0.1.0b2.dev3", "0.1.0-b.2.dev.3"),
    ],
)
def test_version_as_semver(version: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    assert import_module("chart_files").semver(version) == expected
