"""Repositories that are locked against a package index of the tests' own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import Factory, define, field
from realparts.package_index import PackageIndex
from ringbinder import Context, Declined
from ringbinder.testing import RecordingLog
from ringbinder.untrusted import UntrustedTree
from ringbinder_layers.lock_store import LockStore
from ringbinder_layers.locking import Locks
from ringbinder_layers.model import Lock
from ringbinder_layers.records import Records
from ringbinder_layers.sources import sources
from ringbinder_layers.wheels import Target
from ringbinder_recipe import recipe, request
from ringbinder_recipe.request import EnvironmentRequest
from ringbinder_recipe.uv import Uv

TARGET: Final = Target(("3.12.11", "3.11.9"), "linux/amd64", (2, 36))
DAY: Final = 86_400.0
BASE: Final = {
    "ipykernel": "7.0", "traitlets": "5.0", "pip": "26.0", "ipywidgets": "8.1", "nbformat": "5.10", "nbconvert": "7.16",
}  # fmt: skip
"""What an environment has that nothing is asked for."""


def frozen_index() -> PackageIndex:
    """What every environment has or may have, and some packages more."""
    index = PackageIndex()
    index.add("ipykernel", "7.0", requires=["traitlets"])
    index.add("traitlets", "5.0")
    index.add("pip", "26.0")
    index.add("ipywidgets", "8.1")
    index.add("nbformat", "5.10")
    index.add("nbconvert", "7.16", requires=["nbformat>=5"])
    index.add("alpha", "1.0", requires=["beta"])
    index.add("beta", "1.0")
    index.add("beta", "2.0")
    index.add("gamma", "1.0")
    index.add("delta", "1.0")
    index.add("marked", "1.0", requires=["gamma ; python_full_version < '3.12'"])
    index.add("newer", "1.0", python=">=3.13")
    index.add_sdist("onlysource", "1.0")
    index.add("needs_source", "1.0", requires=["onlysource"])
    return index


@define(eq=False)
class Locking:
    """A process that locks repositories."""

    context: Context
    records: Records | None = None
    target: Target = TARGET
    relock_after: float = 7 * DAY
    timeout: float = 60.0
    options: Mapping[str, Any] = field(factory=dict)
    uv: Uv = Factory(
        lambda self: Uv(self.context.paths.cache / "uv", self.context.paths.state / "python"), takes_self=True
    )
    log: RecordingLog = field(factory=RecordingLog)

    @property
    def locks(self) -> Locks:
        known = sources(self.uv.env(self.context.paths.state), **self.options)
        store = LockStore(self.context, self.records)
        return Locks(self.context, self.uv, known, self.target, store, self.relock_after, self.timeout)

    async def lock(self, folder: Path, *, private: bool = False) -> Lock | Declined:
        asked = await asyncio.to_thread(read, folder, self.target)
        return asked if isinstance(asked, Declined) else await self.locks.lock(asked, self.log, private=private)


def read(folder: Path, target: Target = TARGET) -> EnvironmentRequest | Declined:
    """Return what the repository in `folder` asks for."""
    tree = UntrustedTree(folder)
    return request.read(tree, recipe.read(tree), target.conda_platform)


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Writes a repository into the folder, in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def named(lock: Lock | Declined) -> dict[str, str]:
    """Versions of its packages by name."""
    assert isinstance(lock, Lock)
    return {package.name: package.version for package in lock.packages}
