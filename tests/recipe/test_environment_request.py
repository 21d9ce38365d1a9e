"""What an installer is given of a repository: which files decide it, and what it leaves to another builder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from ringbinder import Declined, UserError
from ringbinder.untrusted import UntrustedTree
from ringbinder_recipe import recipe, request
from ringbinder_recipe.request import EnvironmentRequest

DIGEST = f"sha256:{'0' * 64}"
PROJECT = '[project]\nname = "p"\nversion = "1"\n'
WHEEL = "https://h.example/six-1.16.0-py3-none-any.whl"


def asked(folder: Path, files: Mapping[str, str]) -> EnvironmentRequest | Declined:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tree = UntrustedTree(folder)
    return request.read(tree, recipe.read(tree), "linux-64")


def request_of(folder: Path, files: Mapping[str, str]) -> EnvironmentRequest:
    result = asked(folder, files)
    assert isinstance(result, EnvironmentRequest)
    return result


def test_request_of_included_files_has_their_lines(tmp_path: Path) -> None:
    files = {
        "requirements.txt": "-r more/other.txt\n-c limits.txt\nnumpy\n",
        "more/other.txt": "six\n",
        "limits.txt": "six<2\n",
        "runtime.txt": "python-3.11",
    }
    assert request_of(tmp_path, files) == EnvironmentRequest(
        "requirements.txt", python="3.11", requirements=("six", "numpy"), constraints=("six<2",)
    )


def test_request_digest_ignores_how_the_lines_are_written(tmp_path: Path) -> None:
    one = request_of(tmp_path / "1", {"requirements.txt": "six >= 1\n# of interest\nnumpy\n", "README": "a"})
    other = request_of(tmp_path / "2", {"binder/requirements.txt": "-r ../b.txt", "b.txt": "six>=1\n\nnumpy"})
    assert one.source != other.source
    assert one.digest == other.digest


@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": "six<2\nnumpy\n"},
        {"requirements.txt": "numpy\n", "runtime.txt": "python-3.11"},
        {"requirements.txt": "-i https://index.example/simple\nnumpy\n"},
        {"requirements.txt": "--extra-index-url https://index.example/simple\nnumpy\n"},
        {"requirements.txt": "--pre\nnumpy\n"},
        {"requirements.txt": "-c limits.txt\nnumpy\n", "limits.txt": "numpy<2"},
        {"environment.yml": "dependencies: [numpy]"},
        {"environment.yml": "channels: [one]\ndependencies: [numpy]"},
        {"environment.yml": "dependencies: [pip: [numpy]]"},
        {"pixi.lock": "a"},
        {"pixi.lock": "b"},
        {"pyproject.toml": PROJECT, "uv.lock": "a"},
        {"pyproject.toml": PROJECT, "uv.lock": "b"},
        {"pyproject.toml": f"{PROJECT}[dependency-groups]\ndev = []", "uv.lock": "b"},
    ],
)
def test_request_digest_differs_by_what_decides(tmp_path: Path, files: dict[str, str]) -> None:
    plain = request_of(tmp_path / "plain", {"requirements.txt": "numpy\n"})
    assert request_of(tmp_path / "other", files).digest != plain.digest


def test_request_of_pyproject_has_settings_of_uv(tmp_path: Path) -> None:
    text = f"""{PROJECT}requires-python = ">=3.11"
dependencies = ["numpy"]
[tool.uv]
constraint-dependencies = ["numpy<3"]
override-dependencies = ["six==1.16.0"]
prerelease = "allow"
exclude-newer = "2026-01-01"
index = [{{url = "https://a.example/simple"}}, {{url = "https://b.example/simple", default = true}}]
"""
    assert request_of(tmp_path, {"pyproject.toml": text}) == EnvironmentRequest(
        "pyproject.toml",
        requires_python=">=3.11",
        requirements=("numpy",),
        constraints=("numpy<3",),
        overrides=("six==1.16.0",),
        arguments=("--prerelease", "allow", "--exclude-newer", "2026-01-01"),
        index="https://b.example/simple",
        more_indexes=("https://a.example/simple",),
    )


def test_request_of_pipfile_lock_is_complete(tmp_path: Path) -> None:
    lock = f'{{"_meta": {{}}, "default": {{"six": {{"version": "==1.16.0", "hashes": ["{DIGEST}"]}}}}}}'
    asked_for = request_of(tmp_path, {"Pipfile.lock": lock})
    assert asked_for.requirements == (f"six==1.16.0 --hash={DIGEST}",)
    assert asked_for.pinned


def test_request_takes_wheels_by_their_address(tmp_path: Path) -> None:
    lines = (WHEEL, f"six[x] @ {WHEEL} --hash={DIGEST}")
    assert request_of(tmp_path, {"requirements.txt": "\n".join(lines)}).requirements == lines


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"requirements.txt": "-e ."}, "-e ."),
        ({"requirements.txt": "./mine"}, "./mine"),
        ({"requirements.txt": "mine/"}, "mine/"),
        ({"requirements.txt": "six-1.16.0.tar.gz"}, "six-1.16.0.tar.gz"),
        ({"requirements.txt": "six-1.16.0-py3-none-any.whl"}, "six-1.16.0-py3-none-any.whl"),
        ({"requirements.txt": "git+https://h.example/a"}, "git+https://h.example/a"),
        ({"requirements.txt": "a @ git+https://h.example/a"}, "a @ git+https://h.example/a"),
        ({"requirements.txt": "a @ https://h.example/a.zip"}, "a @ https://h.example/a.zip, which is no wheel"),
        ({"requirements.txt": "https://u@h.example/a.whl"}, "https://u@h.example/a.whl"),
        ({"requirements.txt": "https://h.example/a?b.whl"}, "https://h.example/a?b.whl"),
        ({"requirements.txt": "a @ https://e.example\\@h.example/a.whl"}, "a @ https://e.example\\@h.example/a.whl"),
        ({"requirements.txt": "--no-binary six\nsix"}, "--no-binary six"),
        ({"requirements.txt": "-f wheels\nsix"}, "--find-links"),
        ({"requirements.txt": "-r https://h.example/r.txt"}, "-r https://h.example/r.txt"),
        ({"requirements.txt": "-c c.txt", "c.txt": "a @ git+https://h.example/a"}, "a @ git+https://h.example/a"),
        ({"environment.yml": "dependencies: [pip: [-e .]]"}, "-e ."),
        ({"pixi.toml": '[workspace]\nchannels = []\n[pypi-dependencies]\np = {path = "."}'}, "./."),
        ({"setup.py": ""}, "the package in the root"),
        ({"pyproject.toml": f"{PROJECT}[build-system]\nrequires = []"}, "the package in the root"),
        ({"pyproject.toml": f'{PROJECT}dynamic = ["dependencies"]'}, "dependencies of pyproject.toml that code makes"),
        ({"pyproject.toml": f'{PROJECT}[tool.uv.sources]\na = {{path = "a"}}'}, "tool.uv.sources in pyproject.toml"),
        ({"pyproject.toml": f"{PROJECT}[tool.uv.pip]\nstrict = true"}, "tool.uv.pip.strict in pyproject.toml"),
        (
            {"pyproject.toml": f'{PROJECT}[tool.uv]\noverride-dependencies = ["a @ git+https://h.example/a"]'},
            "override-dependencies in pyproject.toml",
        ),
    ],
)
def test_request_declines_what_needs_the_repository(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "wheels").mkdir()
    result = asked(tmp_path, files)
    assert isinstance(result, Declined)
    assert result.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "tool = 1",
        "[tool]\nuv = 1",
        f"{PROJECT}dependencies = [1]",
        f'{PROJECT}dependencies = ["a\\nb"]',
        f'{PROJECT}dependencies = ["../a"]',
        f'{PROJECT}[tool.uv]\nprerelease = "--x"',
        f'{PROJECT}[tool.uv]\nexclude-newer = "--x"',
        f"{PROJECT}[tool.uv]\nindex = 1",
        f'{PROJECT}[tool.uv]\nconstraint-dependencies = ["$"]',
    ],
)
def test_request_of_a_wrong_pyproject_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"pyproject\.toml") as caught:
        asked(tmp_path, {"pyproject.toml": text if "[project]" in text else f"{text}\n{PROJECT}"})
    assert caught.value.code == "bad-file"


@pytest.mark.parametrize("member", ["../*", "/*", "a/../../*"])
def test_request_of_a_lock_names_nothing_elsewhere(tmp_path: Path, member: str) -> None:
    text = f'{PROJECT}[tool.uv.workspace]\nmembers = ["{member}"]\n'
    with pytest.raises(UserError, match="which is not in the repository"):
        asked(tmp_path / "r", {"pyproject.toml": text, "uv.lock": "version = 1\n"})


@pytest.mark.parametrize("line", [f"a{' ' * 1_000_000}x", f"a{' ' * 1_000_000}[", f"a[x]{' ' * 1_000_000}@"])
def test_address_of_an_endless_line_is_none(line: str) -> None:
    """It is read once, not once for each of its blanks, which would take an hour."""
    assert request.address_of(line) == ""
