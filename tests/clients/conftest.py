"""The real clients from the npm registry, and a server of the embedded mode for them."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from attrs import frozen

DRIVERS: Final = ("@jupyterhub/binderhub-client@0.5.0", "eventsource@4.1.0")
BUNDLES: Final = {"thebe": "thebe@0.9.3", "thebe-core": "thebe-core@0.5.0"}


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]) -> Path:
    """A folder with `node_modules` of the drivers, and one folder for each bundle."""
    require_real("npm")
    folder = tmp_path_factory.mktemp("npm")
    quiet = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    _npm(folder, "install", *quiet, "--no-package-lock", "--prefix", str(folder), *DRIVERS)
    for name, package in BUNDLES.items():
        packed = _npm(folder, "pack", *quiet, package).split()[-1]
        with tarfile.open(folder / packed) as archive:
            archive.extractall(folder / name, filter="data")
    return folder


def _npm(folder: Path, *words: str) -> str:
    npm = shutil.which("npm") or "npm"
    done = subprocess.run([npm, *words], cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@frozen
class Binder:
    """A running `ringbinder serve`."""

    address: str
    """With a slash at its end."""
    repository: str = ""
    """Address of a repository that it can launch."""

    @property
    def spec(self) -> str:
        return f"git/{quote(self.repository, safe='')}/HEAD"


@pytest.fixture(scope="session")
def pages(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Another origin than the server's, with the bundles and whatever is written into its folder."""
    folder = tmp_path_factory.mktemp("site")
    for name in BUNDLES:
        (folder / name).symlink_to(packages / name / "package")
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="session")
def embedded(
    pages: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]
) -> Iterator[Binder]:
    """Launches real notebooks for the pages of the other origin."""
    require_real("git", "uv", "jupyterlab")
    folder = tmp_path_factory.mktemp("repository")
    (folder / "answer.py").write_text("ANSWER = 6 * 7\n")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    sets = {
        "BinderHub.cors_allow_origin": pages[0],
        "GitProvider.allowed_protocols": "[file]",
        "GitRepoProvider.allowed_protocols": "[file]",
    }
    with _serving(tmp_path_factory.mktemp("embedded"), sets) as address:
        yield Binder(address, folder.as_uri())


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Any]:
    """`with fake(**{"Section.option": value}) as address`: a server with the fake plugins."""
    kinds = dict.fromkeys(("Ringbinder.builder", "Ringbinder.registry", "Ringbinder.launcher"), "fake")

    def start(**sets: str) -> Any:
        return _serving(tmp_path, {**kinds, "Ringbinder.extra_plugins": "[fake]", **sets})

    return start


class _serving:
    def __init__(self, folder: Path, sets: dict[str, str]) -> None:
        given = {
            "Ringbinder.state_folder": str(folder / "state"),
            "Ringbinder.cache_folder": str(folder / "cache"),
            **sets,
        }
        words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        program = str(Path(sys.executable).with_name("ringbinder"))
        self._command = [program, "serve", "--port", "0", *words]
        self._log = folder / "server.log"

    def __enter__(self) -> str:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ}
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
