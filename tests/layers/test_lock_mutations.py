"""Every file of thirty repositories changed, one at a time: no lock is ever that of another content.

A process that has locked all of it before, and keeps its locks, is compared with one that knows nothing. The index is
frozen. By hand is written which files decide: these and no others change what is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen
from realparts.conda_channel import CondaChannel
from realparts.package_index import PackageIndex
from ringbinder import Context, Declined, UserError
from ringbinder.testing import make_context

from .locking import Locking, frozen_index, write

pytestmark = [pytest.mark.real("uv"), pytest.mark.slow]

PROJECT: Final = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\n'
OTHER: Final = {
    "needs_source": "gamma", "alpha": "marked", "beta": "delta", "gamma": "delta", "3.12": "3.13", "3.11": "3.12",
    "<2": "<3", "==1.0": "==2.0",
}  # fmt: skip
"""What stands for what in a file that was changed."""
AT_ONCE: Final = 3


@frozen
class Repository:
    """Files by path; those that `decide`, others are read for nothing."""

    files: Mapping[str, str]
    decide: frozenset[str]

    @classmethod
    def of(cls, files: Mapping[str, str], *decide: str) -> Repository:
        return cls({"README.md": "alpha\n", **files}, frozenset(decide))


REPOSITORIES: Final[Mapping[str, Repository]] = {
    "nothing": Repository.of({"work.ipynb": '{"cells": ["gamma"]}\n', "data/alpha.csv": "3.11\n"}),
    "requirements": Repository.of({"requirements.txt": "alpha\n"}, "requirements.txt"),
    "binder": Repository.of(
        {"binder/requirements.txt": "alpha\n", "requirements.txt": "gamma\n", "runtime.txt": "python-3.11"},
        "binder/requirements.txt",
    ),
    "dot-binder": Repository.of(
        {".binder/requirements.txt": "alpha\n", ".binder/runtime.txt": "python-3.11", "environment.yml": "gamma"},
        ".binder/requirements.txt", ".binder/runtime.txt",
    ),
    "runtime": Repository.of({"runtime.txt": "python-3.11"}, "runtime.txt"),
    "runtime and requirements": Repository.of(
        {"runtime.txt": "python-3.11", "requirements.txt": "marked\n"}, "runtime.txt", "requirements.txt"
    ),
    "included": Repository.of(
        {"requirements.txt": "-r more.txt\n", "more.txt": "alpha\n", "other.txt": "gamma\n"},
        "requirements.txt", "more.txt",
    ),
    "included in folders": Repository.of(
        {
            "requirements.txt": "-r a/one.txt\n", "a/one.txt": "-r b/two.txt\n", "a/b/two.txt": "-r ../../three.txt\n",
            "three.txt": "gamma\n", "a/three.txt": "alpha\n", "b/two.txt": "alpha\n",
        },
        "requirements.txt", "a/one.txt", "a/b/two.txt", "three.txt",
    ),
    "included from the root": Repository.of(
        {"binder/requirements.txt": "-r ../requirements.txt\n", "requirements.txt": "alpha\n", "setup.py": ""},
        "binder/requirements.txt", "requirements.txt",
    ),
    "constraints": Repository.of(
        {"requirements.txt": "-c limits.txt\nalpha\n", "limits.txt": "beta<2\n"}, "requirements.txt", "limits.txt"
    ),
    "constraints in constraints": Repository.of(
        {"requirements.txt": "-c c/limits.txt\nalpha\n", "c/limits.txt": "-c more.txt\n", "c/more.txt": "beta==1.0\n",
         "more.txt": "beta==2.0\n"},
        "requirements.txt", "c/limits.txt", "c/more.txt",
    ),
    "constraint that is included": Repository.of(
        {"requirements.txt": "-r both.txt\nalpha\n-c both.txt\n", "both.txt": "beta<2\n"},
        "requirements.txt", "both.txt",
    ),
    "pyproject": Repository.of(
        {"pyproject.toml": f'{PROJECT}dependencies = ["alpha"]\n', "src/p/__init__.py": "import gamma\n"},
        "pyproject.toml",
    ),
    "pyproject with settings": Repository.of(
        {"pyproject.toml": f'{PROJECT}dependencies = ["alpha"]\n[tool.uv]\nconstraint-dependencies = ["beta<2"]\n',
         "uv.toml": 'constraint-dependencies = ["beta==1.0"]\n'},
        "pyproject.toml",
    ),
    "pyproject beside requirements": Repository.of(
        {"pyproject.toml": f'{PROJECT}dependencies = ["alpha"]\n', "requirements.txt": "gamma\n"},
        "requirements.txt",
    ),
    "package": Repository.of({"setup.py": "alpha\n", "requirements.txt": "gamma\n"}),
    "editable": Repository.of({"requirements.txt": "-e .\nalpha\n", "setup.cfg": "alpha\n"}),
    "folder": Repository.of(
        {"requirements.txt": "./alpha\n", "alpha/pyproject.toml": PROJECT}, "requirements.txt"
    ),
    "source": Repository.of({"requirements.txt": "needs_source\nalpha\n"}, "requirements.txt"),
    "address": Repository.of({"requirements.txt": "alpha @ https://other.example/alpha-1.0-py3-none-any.whl\n"}),
    "marker": Repository.of({"requirements.txt": "gamma ; python_version >= '3.12'\n"}, "requirements.txt"),
    "start": Repository.of({"requirements.txt": "alpha\n", "start": "#!/bin/sh\ngamma\n"}, "requirements.txt"),
    "no index": Repository.of({"requirements.txt": "-i https://pypi.org/simple\nalpha\n"}, "requirements.txt"),
    "Pipfile": Repository.of(
        {"Pipfile": '[packages]\nalpha = "*"\n[requires]\npython_version = "3.11"\n', "requirements.txt": "gamma\n"},
        "Pipfile",
    ),
    "Pipfile.lock": Repository.of(
        {"Pipfile.lock": '{"_meta": {}, "default": {"beta": {"version": "==1.0"}}}\n', "Pipfile": "gamma\n"},
        "Pipfile.lock",
    ),
    "environment.yml": Repository.of(
        {"environment.yml": "dependencies:\n- beta\n- pip: [gamma]\n", "requirements.txt": "alpha\n"},
        "environment.yml",
    ),
    "environment.yml with requirements": Repository.of(
        {"binder/environment.yaml": "dependencies:\n- pip: [-r ../pip.txt]\n", "pip.txt": "gamma\n",
         "environment.yml": "a"},
        "binder/environment.yaml", "pip.txt",
    ),
    "pixi.toml": Repository.of(
        {"pixi.toml": '[workspace]\nchannels = ["main"]\n[dependencies]\nbeta = "*"\n', "other.toml": "beta\n"},
        "pixi.toml",
    ),
    "no Python 2": Repository.of({"runtime.txt": "python-2.7\n", "requirements.txt": "alpha\n"}),
    "encoded": Repository.of({"requirements.txt": "# -*- coding: latin-1 -*-\ngamma # h\u00e9\n"}, "requirements.txt"),
}  # fmt: skip


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    main = CondaChannel(folder / "main", "linux-64")
    main.add_python()
    for name in ("beta", "delta"):
        main.add_module(name, "2.0")
    asyncio.run(main.index())
    return folder


@pytest.fixture
def index(channels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    index = frozen_index()
    # So that uv needs to run only once for each lock.
    index.add("ipykernel", "7.1", requires=["traitlets", "ipywidgets", "nbconvert", "nbformat"])
    index.channels = channels
    with index.serving():
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        yield index


def process(context: Context, index: PackageIndex) -> Locking:
    return Locking(context, options={"channels": ("main",), "alias": f"{index.root}/conda/"})


async def outcome(locking: Locking, folder: Path) -> str:
    """What comes of the repository: the digest of its lock, or why it has none."""
    try:
        lock = await locking.lock(folder)
    except UserError as error:
        return f"{error.code}: {error.message}"
    return lock.reason if isinstance(lock, Declined) else lock.digest


def mutations(repository: Repository) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield what is changed, the file, and the repository with it."""
    for file, text in repository.files.items():
        rest = {name: content for name, content in repository.files.items() if name != file}
        yield "removed", file, rest
        changed = text
        for word, other in OTHER.items():
            changed = changed.replace(word, other)
        if changed != text:
            yield "changed", file, {**rest, file: changed}
        if changed == text or file in repository.decide:
            yield "lengthened", file, {**rest, file: f"{text}\n"}


@pytest.mark.parametrize("name", REPOSITORIES)
async def test_no_change_leaves_a_stale_lock(tmp_path: Path, index: PackageIndex, name: str) -> None:
    contexts = [make_context(tmp_path / "known", "layers")]
    known = process(contexts[0], index)
    repository = REPOSITORIES[name]
    plain = await outcome(known, write(tmp_path / "r", repository.files))
    permits = asyncio.Semaphore(AT_ONCE)

    async def check(number: int, kind: str, file: str, files: Mapping[str, str]) -> None:
        folder = write(tmp_path / f"r{number}", files)
        async with permits:
            warm = await outcome(known, folder)
            contexts.append(make_context(tmp_path / f"nothing{number}", "layers"))
            cold = process(contexts[-1], index)
            cold.uv = known.uv  # what it has downloaded: the index says whether it is still so
            assert warm == await outcome(cold, folder), f"{file} {kind}"
        if kind == "changed":
            assert (warm != plain) == (file in repository.decide), f"{file} {kind}"
        if kind == "lengthened":
            assert warm == plain, f"{file} {kind}"

    try:
        async with asyncio.TaskGroup() as group:
            for number, change in enumerate(mutations(repository)):
                group.create_task(check(number, *change))
    finally:
        for context in contexts:
            await context.services.close()
