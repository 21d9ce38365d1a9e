"""The package and the chart have one version, complete metadata, and types for those who import them."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from .pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text())
PACKAGES = [
    str(folder / package)
    for folder, project in ((Path(), PROJECT), (Path("core"), CORE))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
]


def name_of(requirement: str) -> str:
    return Requirement(requirement).name


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_the_marker_of_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_every_package_is_in_a_wheel() -> None:
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


def test_core_has_the_version_and_license_of_the_project() -> None:
    version = PROJECT["project"]["version"]
    assert CORE["project"]["version"] == version
    assert f"ringbinder-core=={version}" in PROJECT["project"]["dependencies"]
    assert (ROOT / "core" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_each_requirement_stands_in_one_project() -> None:
    core, whole = ({name_of(text) for text in project["project"]["dependencies"]} for project in (CORE, PROJECT))
    assert core & whole == set()


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
