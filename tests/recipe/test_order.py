"""Which file wins: the reader and the real repo2docker, asked about the same folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repo2docker.app import Repo2Docker  # type: ignore[import-untyped]
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder_recipe.recipe import Recipe, read

PACKAGE: Final = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "x"\nversion = "1"\n'
CONTENTS: Final = {
    "Dockerfile": ["FROM scratch\n"],
    "Project.toml": [""],
    "JuliaProject.toml": [""],
    "REQUIRE": [""],
    "default.nix": [""],
    "DESCRIPTION": ["Package: x\n"],
    "runtime.txt": ["python-3.11", "r-4.4-2024-01-01", "r-2024-01-01"],
    "environment.yml": ["dependencies: [numpy]\n"],
    "environment.yaml": ["dependencies: [numpy]\n"],
    "Pipfile": [""],
    "Pipfile.lock": ["{}"],
    "requirements.txt": ["six\n"],
    "setup.py": [""],
    "pyproject.toml": [PACKAGE, "[tool.black]\n", '[project]\nname = "x"\n'],
    "README.md": [""],
}
folders = st.fixed_dictionaries(
    {},
    optional={
        f"{folder}{name}": st.sampled_from(contents)
        for folder in ("", "binder/")
        for name, contents in CONTENTS.items()
        if folder == "" or name not in ("setup.py", "DESCRIPTION")
    },
)
# The fields of a recipe that are set by what decides for repo2docker, by the build pack that it picks.
BEYOND: Final = {
    "DockerBuildPack": "dockerfile",
    "JuliaProjectTomlBuildPack": "julia",
    "JuliaRequireBuildPack": "julia",
    "NixBuildPack": "nix",
    "RBuildPack": "r",
}


def picked_by_repo2docker(root: Path) -> str:
    """The build pack that repo2docker's own application takes, by its own list."""
    app = Repo2Docker()
    before = Path.cwd()
    os.chdir(root)
    try:
        for pack in app.buildpacks:
            if pack(base_image=app.base_image).detect():
                return str(pack.__name__)
    finally:
        os.chdir(before)
    return "PythonBuildPack"


@settings(max_examples=150)
@given(files=folders)
def test_the_same_file_decides(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]) -> None:
    root = tmp_path_factory.mktemp("repo")
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    folder = "binder/" if (root / "binder").is_dir() else ""
    pack = picked_by_repo2docker(root)
    recipe = read(UntrustedTree(root))
    for field in BEYOND.values():
        assert bool(getattr(recipe, field)) == (BEYOND.get(pack) == field)
    assert bool(recipe.conda) == (pack == "CondaBuildPack")
    assert bool(recipe.pipfile) == (pack == "PipfileBuildPack")
    if pack == "CondaBuildPack":
        assert recipe == Recipe(conda=f"{folder}environment.{'yml' if recipe.conda.endswith('yml') else 'yaml'}")
        assert recipe.conda.endswith("yml") or not (root / folder / "environment.yml").exists()
    elif pack == "PythonBuildPack":
        assert bool(recipe.requirements) == (root / folder / "requirements.txt").exists()
        whole = [root / "setup.py"] if not folder else []
        if any(path.exists() for path in whole) or (not folder and files.get("pyproject.toml") == PACKAGE):
            assert recipe.project == "package"
