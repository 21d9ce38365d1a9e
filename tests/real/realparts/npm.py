"""The npm registry's Binder clients as they are: in node, and as bundles for the pages of another origin."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import frozen

_DRIVERS: Final = ("@jupyterhub/binderhub-client@0.5.0", "eventsource@4.1.0")
_BUNDLES: Final = {"thebe": "thebe@0.9.3", "thebe-core": "thebe-core@0.5.0"}


@frozen
class Packages:
    """A folder with `node_modules` of the drivers, and one folder for each bundle."""

    folder: Path

    async def binderhub_client(self, address: str, link: str, **options: Any) -> list[dict[str, Any]]:
        """What `@jupyterhub/binderhub-client` tells of a launch at the Binder of `address`."""
        return await self._node("binderhub_client.mjs", f"{address}build/", link, json.dumps(options))

    async def eventsource(self, url: str, *, closes: bool) -> list[dict[str, Any]]:
        """What `eventsource` tells of a stream, which it closes after the last event, or not."""
        return await self._node("eventsource.cjs", url, str(closes).lower())

    async def _node(self, script: str, *words: str) -> list[dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            "node", Path(__file__).with_name(script), self.folder, *words,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(600):
                reason, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, errors.decode()
        return [json.loads(line) for line in reason.splitlines() if line.startswith(b"{")]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]) -> Packages:
    """The clients, installed once."""
    require_real("npm")
    folder = tmp_path_factory.mktemp("npm")
    quiet = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    _npm(folder, "install", *quiet, "--no-package-lock", "--prefix", str(folder), *_DRIVERS)
    for name, package in _BUNDLES.items():
        packed = _npm(folder, "pack", *quiet, package).split()[-1]
        with tarfile.open(folder / packed) as archive:
            archive.extractall(folder / name, filter="data")
    return Packages(folder)


def _npm(folder: Path, *words: str) -> str:
    npm = shutil.which("npm") or "npm"
    done = subprocess.run([npm, *words], cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@frozen
class Pages:
    """Another origin than the server's, with the bundles and whatever is written into its folder."""

    origin: str
    folder: Path


@pytest.fixture(scope="session")
def pages(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A site with thebe."""
    folder = tmp_path_factory.mktemp("site")
    for name in _BUNDLES:
        (folder / name).symlink_to(packages.folder / name / "package")
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Pages(f"http://127.0.0.1:{server.server_port}", folder)
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
