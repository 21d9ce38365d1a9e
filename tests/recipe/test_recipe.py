from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder_recipe import recipe
from ringbinder_recipe.recipe import Recipe

REQUIREMENTS = "requirements.txt"
PACKAGE = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "x"\nversion = "1"\n'
PROJECT = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.12"\n'


def read(root: Path) -> Recipe:
    return recipe.read(UntrustedTree(root))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": ""}, Recipe()),
        ({"requirements.txt": "six"}, Recipe(requirements="requirements.txt")),
        ({"environment.yml": "", "requirements.txt": "", "setup.py": ""}, Recipe(conda="environment.yml")),
        ({"environment.yaml": "", "runtime.txt": "python-3.9", "Pipfile": ""}, Recipe(conda="environment.yaml")),
        ({"binder/environment.yml": "", "start": ""}, Recipe(conda="binder/environment.yml")),
        ({"Pipfile": "", "Pipfile.lock": "", "requirements.txt": ""}, Recipe(pipfile="Pipfile.lock")),
        ({"Pipfile": "", "postBuild": ""}, Recipe(pipfile="Pipfile", post_build="postBuild")),
        # What repo2docker does not read counts where none of its files does.
        ({"pixi.toml": "", "pixi.lock": ""}, Recipe(pixi="pixi.lock")),
        ({"binder/pixi.toml": ""}, Recipe(pixi="binder/pixi.toml")),
        ({"pixi.toml": "", "requirements.txt": ""}, Recipe(requirements=REQUIREMENTS)),
        ({"pixi.toml": "", "environment.yml": ""}, Recipe(conda="environment.yml")),
        ({"install.R": "", "requirements.txt": ""}, Recipe(requirements=REQUIREMENTS)),
        ({f"binder/{REQUIREMENTS}": "six", REQUIREMENTS: "x"}, Recipe(requirements=f"binder/{REQUIREMENTS}")),
        ({".binder/requirements.txt": "six"}, Recipe(requirements=".binder/requirements.txt")),
        # A binder folder takes the place of the root, for everything.
        ({"binder/x": "", "Dockerfile": "FROM x", "environment.yml": "", REQUIREMENTS: "six"}, Recipe()),
        ({"binder/x": "", "pyproject.toml": PACKAGE, "setup.py": "", "runtime.txt": "python-3.9"}, Recipe()),
        ({"binder/start": ""}, Recipe(start="binder/start")),
        ({"binder/postBuild": ""}, Recipe(post_build="binder/postBuild")),
        ({"start": "", "postBuild": ""}, Recipe(start="start", post_build="postBuild")),
        ({"runtime.txt": "python-3.10\n"}, Recipe(python="3.10")),
        ({"runtime.txt": "python-3.10.4"}, Recipe(python="3.10.4")),
        ({"runtime.txt": "python-3"}, Recipe()),
        ({"pyproject.toml": PACKAGE}, Recipe(project="package")),
        ({"setup.py": ""}, Recipe(project="package")),
        ({"pyproject.toml": PACKAGE, REQUIREMENTS: ""}, Recipe(project="package", requirements=REQUIREMENTS)),
        ({"pyproject.toml": PROJECT}, Recipe(project="dependencies", requires_python=">=3.12")),
        (
            {"pyproject.toml": PROJECT, REQUIREMENTS: ""},
            Recipe(requires_python=">=3.12", requirements=REQUIREMENTS),
        ),
        ({"pyproject.toml": PACKAGE, "uv.lock": ""}, Recipe(project="locked")),
        ({"pyproject.toml": "[tool.black]\n"}, Recipe()),
        ({"pyproject.toml": "[tool.black]\n", "uv.lock": ""}, Recipe()),
        # Only folders of these names count, and only files.
        ({"binder": "a file", "requirements.txt": ""}, Recipe(requirements="requirements.txt")),
        ({"Dockerfile/x": ""}, Recipe()),
        ({"binder/x": "", "DESCRIPTION": ""}, Recipe()),
    ],
)  # fmt: skip
def test_what_counts(tmp_path: Path, files: dict[str, str], expected: Recipe) -> None:
    assert read(write(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"Dockerfile": "FROM x", "requirements.txt": ""}, Recipe(dockerfile="Dockerfile")),
        ({".binder/Dockerfile": "FROM x"}, Recipe(dockerfile=".binder/Dockerfile")),
        ({"Dockerfile": "", "environment.yml": ""}, Recipe(dockerfile="Dockerfile")),
        ({"Project.toml": "", "requirements.txt": ""}, Recipe(julia="Project.toml")),
        ({"JuliaProject.toml": ""}, Recipe(julia="JuliaProject.toml")),
        ({"REQUIRE": ""}, Recipe(julia="REQUIRE")),
        ({"default.nix": "", "environment.yml": ""}, Recipe(nix="default.nix")),
        ({"runtime.txt": "r-4.4-2024-01-01", "install.R": ""}, Recipe(r="runtime.txt")),
        ({"runtime.txt": "r-2024-01-01"}, Recipe(r="runtime.txt")),
        ({"DESCRIPTION": "", "requirements.txt": ""}, Recipe(r="DESCRIPTION")),
        ({"install.R": ""}, Recipe(r="install.R")),
        ({"apt.txt": "vim", "environment.yml": ""}, Recipe(apt="apt.txt")),
        ({"apt.txt": "vim", "requirements.txt": ""}, Recipe(apt="apt.txt")),
    ],
)
def test_file_beyond_python_and_conda_decides_alone(tmp_path: Path, files: dict[str, str], expected: Recipe) -> None:
    recipe = read(write(tmp_path, files))
    assert recipe == expected
    assert recipe.source.endswith(tuple(files))


def test_python_2_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"runtime\.txt .*Python 3") as caught:
        read(write(tmp_path, {"runtime.txt": "python-2.7"}))
    assert caught.value.code == "unsupported-file"


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"binder/x": "", ".binder/x": ""}, "'.binder'"),
        ({"runtime.txt": "3.10"}, "runtime.txt"),
        ({"runtime.txt": "python-latest"}, "runtime.txt"),
        ({"runtime.txt": ""}, "runtime.txt"),
        ({"pyproject.toml": "[project\n"}, "pyproject.toml"),
        ({"pyproject.toml": PROJECT.replace(">=3.12", "three")}, "requires-python"),
    ],
)
def test_what_is_wrong(tmp_path: Path, files: dict[str, str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        read(write(tmp_path, files))
    assert caught.value.code == "bad-file"
    assert named in caught.value.message


@given(runtime=st.binary(max_size=30), pyproject=st.binary(max_size=60))
def test_any_content_is_a_recipe_or_the_users_error(
    tmp_path_factory: pytest.TempPathFactory, runtime: bytes, pyproject: bytes
) -> None:
    root = tmp_path_factory.mktemp("repo")
    (root / "runtime.txt").write_bytes(runtime)
    (root / "pyproject.toml").write_bytes(pyproject)
    with contextlib.suppress(UserError):
        read(root)


@given(value=st.one_of(st.integers(), st.booleans(), st.lists(st.integers())))
def test_a_project_table_of_the_wrong_kind(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    root = tmp_path_factory.mktemp("repo")
    (root / "pyproject.toml").write_text(f"project = {str(value).lower()}\n")
    read(root)
