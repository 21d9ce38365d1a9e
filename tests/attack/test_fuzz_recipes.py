"""Recipe files of any content, mutated and made up: understood or refused, within bounds of memory and steps."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder.runtime.bounded import RECIPE_BYTES
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder_recipe import condafile, files, pipfile, pixi, recipe
from ringbinder_recipe.inside import Inside
from ringbinder_recipe.requirements import Requirements

MEMORY = 64 * 1024**2


READERS: dict[str, Callable[[UntrustedTree], object]] = {
    "runtime.txt": recipe.read,
    "pyproject.toml": lambda tree: _project(tree),
    "uv.toml": lambda tree: Inside(tree).project(),
    "uv.lock": lambda tree: Inside(tree).project(),
    "requirements.txt": lambda tree: Requirements(Inside(tree)).add_file("requirements.txt"),
    "environment.yml": lambda tree: _lines(tree, condafile.read(tree, "environment.yml").pip),
    "Pipfile": lambda tree: _lines(tree, pipfile.read(tree, "Pipfile").lines),
    "Pipfile.lock": lambda tree: _lines(tree, pipfile.read(tree, "Pipfile.lock").lines),
    "pixi.toml": lambda tree: _lines(tree, pixi.read(tree, "pixi.toml", "linux-64").pip),
}
VALID: dict[str, str] = {
    "runtime.txt": "python-3.12",
    "pyproject.toml": '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "x"\nversion = "1"\nreadme = "a"\n'
    'requires-python = ">=3.11"\ndependencies = ["a @ file:///x", "b; c == \'d\'"]\n'
    '[tool.uv.sources]\na = {path = "./a"}\n'
    '[tool.uv.workspace]\nmembers = ["p/*", "q"]\n[[tool.uv.index]]\nurl = "https://h.example"\n',
    "uv.toml": 'find-links = ["a"]\nindex-url = "https://h.example"\n[pip]\nextra-index-url = ["./b"]\n',
    "uv.lock": 'version = 1\n[[package]]\nname = "a"\nsource = { editable = "p/a" }\n'
    'wheels = [{ url = "https://h.example" }]\n',
    "requirements.txt": "-r requirements.txt\n-c a/b.txt\n-e ./p[x]\na==1 ; b == 'c' --hash=sha256:00 \\\n  # d\n"
    "b @ git+https://h.example/c.git@d#subdirectory=e\n--find-links=f\n-i https://h.example\n",
    "environment.yml": "channels: [a]\ndependencies:\n- python=3.12\n- a::b >=1\n- pip: [c, '-r d', -e .]\n",
    "Pipfile": '[[source]]\nurl = "https://h.example"\n[packages]\na = "*"\n'
    'b = {git = "c", ref = "d", extras = ["e"]}\n'
    'f = {path = ".", editable = true}\n[requires]\npython_version = "3.12"\n',
    "Pipfile.lock": json.dumps({"_meta": {"sources": [{"url": "u"}], "requires": {}}, "default": {
        "a": {"version": "==1", "hashes": ["sha256:0"], "markers": "b"}, "c": {"path": "d"}}}),
    "pixi.toml": '[workspace]\nchannels = ["a", {channel = "b"}]\nplatforms = ["linux-64"]\n[dependencies]\na = "*"\n'
    '[target.unix.dependencies]\nb = {version = "1"}\n[pypi-dependencies]\nc = {path = "./d"}\ne = {git = "f"}\n',
}  # fmt: skip
REPEATED = [
    "[", "{", "- ", "? ", "a.", "[a.", "&a [*a,", "<<: {", "!!int 1:", "0x9", "1:", "9", ",", "=", "'", '"', "\\\n",
    "a: ", "-r ", "-e ", "@", "${A}", "../", "./", "a/", "#", " ;", "\n", "\t", "\0", "[[a]]\n", "a={", '"""', "\ufeff",
    "\x1b",
]  # fmt: skip


def _project(tree: UntrustedTree) -> None:
    recipe.read(tree)
    Inside(tree).project()


def _lines(tree: UntrustedTree, lines: tuple[str, ...]) -> None:
    Requirements(Inside(tree)).add_lines(lines, "environment.yml")


def read(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    message = ""
    try:
        READERS[name](UntrustedTree(folder))
    except UserError as error:
        assert error.code in ("bad-file", "missing-file", "unsupported-file")  # noqa: PT017 - no error is fine, too
        message = error.message
    assert len(message) < 600
    assert message.isprintable()


@st.composite
def mutated(draw: st.DrawFn, valid: str) -> bytes:
    """Return a valid file with pieces cut out, repeated, exchanged and put in."""
    content = valid.encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 30)))
        piece = draw(
            st.sampled_from([b"", content[start:end] * 3, *(word.encode() for word in REPEATED)])
            | st.binary(max_size=8)
        )
        content = content[:start] + piece + content[end:]
    return content


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(REPEATED),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_mutated_recipe_is_understood_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    read(tmp_path_factory.mktemp("repo"), name, data.draw(mutated(VALID[name])))


@pytest.mark.parametrize("name", ["environment.yml", "Pipfile.lock"])
@given(content=values, key=st.sampled_from(["dependencies", "channels", "_meta", "default", "develop"]))
def test_recipe_of_any_structure_is_understood_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: object, key: str
) -> None:
    document = json.dumps({"_meta": {"sources": []}, key: content})
    read(tmp_path_factory.mktemp("repo"), name, document.encode())


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("unit", REPEATED, ids=ascii)
def test_recipe_full_of_one_thing_stays_within_memory(tmp_path: Path, name: str, unit: str) -> None:
    for before in ("", f"{VALID[name]}\n", "a = ", "a: "):
        content = (before + unit * RECIPE_BYTES).encode()[:RECIPE_BYTES].decode(errors="ignore").encode()
        tracemalloc.start()
        try:
            read(tmp_path, name, content)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MEMORY


def test_folder_of_many_projects_is_read_in_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    content = files.content

    def counted(*arguments: Any) -> bytes:
        nonlocal reads
        reads += 1
        return content(*arguments)

    monkeypatch.setattr(files, "content", counted)
    for number in range(1000):
        folder = tmp_path / "p" / str(number)
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(
            f'[tool.uv.sources]\na = {{path = "../{(number + 1) % 1000}"}}\nb = {{path = "../{number * 7 % 1000}"}}\n'
        )
    (tmp_path / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["p/*"]\n')
    with contextlib.suppress(UserError):
        Inside(UntrustedTree(tmp_path)).project()
    assert reads <= 151
