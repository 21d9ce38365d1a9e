"""Builds without a sandbox share uv's cache: what one index or address gives is not installed for another."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ringbinder_recipe.uv import Uv

pytestmark = pytest.mark.real("uv")
WHEEL = "alpha-1.0-py3-none-any.whl"


def wheel(content: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = "alpha-1.0.dist-info"
        archive.writestr("alpha.py", content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Addresses of two indexes that have different packages of one name and version."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    for name in ("good", "evil"):
        folder = tmp_path / "indexes" / name / "alpha"
        folder.mkdir(parents=True)
        (folder / WHEEL).write_bytes(wheel(name))
        (folder / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')
    handler = functools.partial(Handler, directory=str(tmp_path / "indexes"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield f"{address}/good", f"{address}/evil"
        server.shutdown()
        thread.join()


def installed(tmp_path: Path, *arguments: str, settings: str = "") -> str:
    """Return what alpha is, installed by a build whose repository has `settings` for uv."""
    repo, target = tmp_path / "repo", tmp_path / "target"
    repo.mkdir(exist_ok=True)
    (repo / "uv.toml").write_text(settings)
    uv = Uv(tmp_path / "cache", tmp_path / "pythons")
    command = uv.command("pip", "install", "--python", sys.executable, "--target", target, "--reinstall", *arguments)
    done = subprocess.run(command, cwd=repo, env=uv.env(tmp_path / "home"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (target / "alpha.py").read_text()


def test_package_of_another_index_is_another(tmp_path: Path, indexes: tuple[str, str]) -> None:
    good, evil = indexes
    for _ in range(2):
        assert installed(tmp_path, "--index-url", evil, "alpha") == "evil"
        assert installed(tmp_path, "--index-url", good, "alpha") == "good"
        assert installed(tmp_path, "alpha", settings=f'index-url = "{evil}"') == "evil"
        assert installed(tmp_path, f"alpha @ {evil}/alpha/{WHEEL}") == "evil"
        assert installed(tmp_path, f"alpha @ {good}/alpha/{WHEEL}") == "good"
        assert installed(tmp_path, "--index-url", good, "alpha==1.0") == "good"


def test_cache_that_a_repository_names_is_not_used(tmp_path: Path, indexes: tuple[str, str]) -> None:
    other = tmp_path / "other"
    installed(tmp_path, "--index-url", indexes[0], "alpha", settings=f'cache-dir = "{other}"')
    assert not other.exists()
    assert (tmp_path / "cache").is_dir()
