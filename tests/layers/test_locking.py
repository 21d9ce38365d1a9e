"""From files to a lock: every kind of file, against a package index of the tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from realparts.package_index import PackageIndex
from ringbinder import Context, Declined
from ringbinder.testing import make_context

from .locking import Locking, index_of_base, named, write

pytestmark = pytest.mark.real("uv")

BASE = {
    "ipykernel": "7.0",
    "traitlets": "5.0",
    "pip": "26.0",
    "ipywidgets": "8.1",
    "nbformat": "5.10",
    "nbconvert": "7.16",
}


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    index = PackageIndex()
    index_of_base(index)
    with index.serving():
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        yield index


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    context = make_context(tmp_path / "process", "layers")
    yield context
    await context.services.close()


async def test_lock_of_no_file_is_the_base(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    lock = await Locking(context).lock(write(tmp_path / "r", {"README": "a"}))
    assert not isinstance(lock, Declined)
    assert named(lock) == BASE
    assert lock.python == "3.12"
