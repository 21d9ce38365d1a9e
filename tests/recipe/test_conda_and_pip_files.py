"""Readers of environment.yml, Pipfile and pixi.toml: what they take out, and what they say of a wrong file."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder_recipe import condafile, pipfile, pixi
from ringbinder_recipe.condafile import CondaPackages

T = TypeVar("T")


def of(read: Callable[..., T], content: bytes, file: str, *more: str) -> T:
    """What `read` makes of a repository that has this `file`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return read(UntrustedTree(Path(folder)), file, *more)


@pytest.mark.parametrize(
    ("content", "packages"),
    [
        ("", CondaPackages()),
        ("name: x\nprefix: /opt\nvariables: {A: b}\n", CondaPackages()),
        (
            "channels: [mine, conda-forge, nodefaults, mine]\ndependencies: [numpy=1.21, 'mine::tool >=2']\n",
            CondaPackages(("mine", "conda-forge"), ("numpy=1.21", "mine::tool >=2")),
        ),
        (
            "dependencies:\n- pip\n- pip: [six, '-r requirements.txt', -e .]\n",
            CondaPackages((), ("pip",), ("six", "-r requirements.txt", "-e .")),
        ),
        ("dependencies:\n- pip:\n", CondaPackages()),
        ("channels: {}\ndependencies: {}\n", CondaPackages()),
    ],
)
def test_environment_yml(content: str, packages: CondaPackages) -> None:
    assert of(condafile.read, content.encode(), "environment.yml") == packages


def test_defaults_are_anacondas_own_channels() -> None:
    assert of(condafile.read, b"channels: [defaults]\n", "x").channels == (
        "https://repo.anaconda.com/pkgs/main",
        "https://repo.anaconda.com/pkgs/r",
    )


def test_python_is_always_there() -> None:
    assert CondaPackages(specs=("numpy",)).with_python().specs == ("python", "numpy")
    for spec in ("python=3.11", "python >=3.9", "conda-forge::python", "Python"):
        assert CondaPackages(specs=(spec,)).with_python().specs == (spec,)
    assert CondaPackages(specs=("python-dateutil",)).with_python().specs[0] == "python"


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        ("- a\n- b\n", "bad-file", "should have keys"),
        ("dependencies: {numpy: '1.21'}\n", "bad-file", "'dependencies' should be a list"),
        ("dependencies: numpy\n", "bad-file", "'dependencies' should be a list"),
        ("dependencies: [1.5]\n", "bad-file", "1.5"),
        ("dependencies: [{conda: [x]}]\n", "bad-file", "conda"),
        ("dependencies: ['>=3']\n", "bad-file", ">=3"),
        ("channels: [{a: b}]\n", "bad-file", "channels"),
        ("a: [\n", "bad-file", "is no valid YAML"),
        ("dependencies: [python=2.7]\n", "unsupported-file", "Python 3"),
        ("dependencies: ['python 2']\n", "unsupported-file", "Python 3"),
        ("dependencies: ['python <3']\n", None, ""),
        ("dependencies: ['python 3.2']\n", None, ""),
    ],
)
def test_a_wrong_environment_yml(content: str, code: str | None, named: str) -> None:
    if code is None:
        of(condafile.read, content.encode(), "environment.yml")
        return
    with pytest.raises(UserError) as caught:
        of(condafile.read, content.encode(), "binder/environment.yml")
    assert (caught.value.code, named in caught.value.message) == (code, True), caught.value.message
    assert caught.value.message.startswith("binder/environment.yml")


def test_pipfile_lock() -> None:
    lock = {
        "_meta": {
            "requires": {"python_full_version": "3.12.4"},
            "sources": [{"url": "https://pypi.org/simple"}, {"url": "https://a.example/simple"}],
        },
        "default": {
            "a": {
                "version": "==1",
                "extras": ["x", "y"],
                "markers": "os_name == 'nt'",
                "hashes": ["sha256:1"],
            },
            "b": {"git": "https://git.example/b.git", "ref": "abc", "subdirectory": "c"},
            "c": {"path": ".", "editable": True},
            "d": {"file": "https://d.example/d.whl"},
        },
        "develop": {"a": {"version": "==1"}},
    }
    found = of(pipfile.read, json.dumps(lock).encode(), "Pipfile.lock")
    assert (found.python, found.locked) == ("3.12", True)
    assert found.lines == (
        "--index-url https://pypi.org/simple",
        "--extra-index-url https://a.example/simple",
        "a[x,y]==1 ; os_name == 'nt' --hash=sha256:1",
        "b @ git+https://git.example/b.git@abc#subdirectory=c",
        "-e ./.",
        "d @ https://d.example/d.whl",
        "a==1",
    )


def test_pixi_toml_for_a_platform() -> None:
    content = (
        b'[project]\nchannels = ["a", {channel = "b", priority = 1}]\nplatforms = ["linux-64", "osx-arm64"]\n'
        b'[dependencies]\npython = "3.12.*"\nx = {version = ">=1", channel = "b"}\n'
        b'[target.linux-64.dependencies]\nx = "2.*"\n[target.unix.dependencies]\ny = "*"\n'
        b'[pypi-dependencies]\np = {path = ".", editable = true}\nq = {version = ">=1", extras = ["z"]}\n'
    )
    assert of(pixi.read, content, "pixi.toml", "linux-64") == CondaPackages(
        ("a", "b"), ("python 3.12.*", "x 2.*", "y *"), ("-e ./.", "q[z]>=1")
    )
    assert of(pixi.read, content, "pixi.toml", "osx-arm64").specs == ("python 3.12.*", "b::x >=1", "y *")
    with pytest.raises(UserError, match=r"linux-64, osx-arm64; this machine is win-64"):
        of(pixi.read, content, "pixi.toml", "win-64")
    content = b'[dependencies]\nx = {git = "https://git.example/x"}\n'
    with pytest.raises(UserError, match="does not know git"):
        of(pixi.read, content, "pixi.toml", "linux-64")


READERS: dict[str, Callable[[bytes], object]] = {
    "environment.yml": lambda content: of(condafile.read, content, "environment.yml"),
    "Pipfile": lambda content: of(pipfile.read, content, "Pipfile"),
    "Pipfile.lock": lambda content: of(pipfile.read, content, "Pipfile.lock"),
    "pixi.toml": lambda content: of(pixi.read, content, "pixi.toml", "linux-64"),
}
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "channels",
                    "dependencies",
                    "pip",
                    "packages",
                    "_meta",
                    "default",
                    "requires",
                    "sources",
                    "a",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", READERS)
@given(content=st.one_of(st.binary(max_size=60), plain.map(json.dumps).map(str.encode)))
def test_any_content_is_understood_or_the_users_error(name: str, content: bytes) -> None:
    with contextlib.suppress(UserError):
        READERS[name](content)


@pytest.mark.parametrize("name", ["Pipfile.lock"])
@given(content=plain)
def test_a_lock_of_any_form(name: str, content: object) -> None:
    whole = {"_meta": {"sources": content, "requires": content}, "default": content}
    with contextlib.suppress(UserError):
        READERS[name](json.dumps(whole).encode())
