"""Servers for the clients from the npm registry: of the embedded mode, and with the fake plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from attrs import frozen
from realparts.forge import Forge
from realparts.npm import Pages


@frozen
class Binder:
    """A running `ringbinder serve`."""

    address: str
    """With a slash at its end."""
    repository: str = ""
    """Address of a repository that it can launch."""
    on_github: str = ""
    """``owner/name`` of the same at GitHub, or what stands in for it."""

    @property
    def spec(self) -> str:
        return f"git/{quote(self.repository, safe='')}/HEAD"


@pytest.fixture(scope="session")
def embedded(
    pages: Pages, forge: Forge, tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]
) -> Iterator[Binder]:
    """Launches real notebooks for the pages of the other origin."""
    require_real("git", "uv", "jupyterlab")
    repository = forge.repository("owner/clients")
    repository.commit({"answer.py": "ANSWER = 6 * 7\n"})
    sets = {
        **{f"{section}.{name}": value for section, of in forge.settings.items() for name, value in of.items()},
        "BinderHub.cors_allow_origin": pages.origin,
        "GitProvider.allowed_protocols": "[file]",
        "GitRepoProvider.allowed_protocols": "[file]",
    }
    with _serving(tmp_path_factory.mktemp("embedded"), sets, forge.env) as address:
        yield Binder(address, repository.folder.as_uri(), "owner/clients")


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Any]:
    """`with fake(**{"Section.option": value}) as address`: a server with the fake plugins."""
    kinds = dict.fromkeys(("Ringbinder.builder", "Ringbinder.registry", "Ringbinder.launcher"), "fake")

    def start(**sets: str) -> Any:
        return _serving(tmp_path, {**kinds, "Ringbinder.extra_plugins": "[fake]", **sets}, {})

    return start


class _serving:
    def __init__(self, folder: Path, sets: dict[str, str], env: dict[str, str]) -> None:
        given = {
            "Ringbinder.state_folder": str(folder / "state"),
            "Ringbinder.cache_folder": str(folder / "cache"),
            **sets,
        }
        words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        program = str(Path(sys.executable).with_name("ringbinder"))
        self._command = [program, "serve", "--no-token", "--port", "0", *words]
        self._log = folder / "server.log"
        self._env = os.environ | env

    def __enter__(self) -> str:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._env
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        match = re.search(r"http://\S+", line)
        assert match is not None, self._log.read_text()
        return match[0]

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=60)
        finally:
            self._process.kill()
            self._process.wait()
