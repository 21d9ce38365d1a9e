"""uv sends the operator's password for an index to its address, and to none that a repository gives its name."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ringbinder_recipe.uv import Uv

pytestmark = pytest.mark.real("uv", "git")
PASSWORD = "canary/7f3a@9c"
PROJECT = '[project]\nname = "x"\nversion = "1"\ndependencies = ["alpha"]\n'


class Index:
    """An index without packages, which asks for a password and remembers what it was sent."""

    def __init__(self, stack: ExitStack) -> None:
        self.heard: list[str] = []
        received = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sent = self.headers.get("Authorization", "")
                received.append(base64.b64decode(sent.removeprefix("Basic ")).decode())
                self.send_response(404 if sent else 401)
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        self.address = f"http://127.0.0.1:{server.server_port}/simple"


@pytest.fixture
def indexes() -> Iterator[tuple[Index, Index]]:
    with ExitStack() as stack:
        yield Index(stack), Index(stack)


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Uv:
    for name, value in {
        "UV_INDEX_MY_CORP_USERNAME": "we", "UV_INDEX_MY_CORP_PASSWORD": PASSWORD, "UV_HTTP_RETRIES": "0",
        "UV_NO_CONFIG": "0", "NO_PROXY": "*", "no_proxy": "*",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return Uv(tmp_path / "cache", tmp_path / "pythons")


def install(uv: Uv, tmp_path: Path, files: dict[str, str], *arguments: str) -> None:
    """Let uv install what is not there, in a repository of `files`."""
    repo = tmp_path / "repo"
    repo.mkdir()
    for name, text in files.items():
        (repo / name).write_text(text)
    command = uv.command("pip", "install", "--python", sys.executable, "--target", tmp_path / "target", *arguments)
    done = subprocess.run(command, cwd=repo, env=uv.env(tmp_path / "home"), capture_output=True, text=True)
    assert done.returncode != 0
    assert "canary" not in done.stdout + done.stderr


def index_of(address: str, table: str = "tool.uv.index") -> str:
    return f'[[{table}]]\nname = "My-Corp"\nurl = "{address}"\n'


@pytest.mark.parametrize("variable", ["UV_INDEX", "UV_DEFAULT_INDEX"])
def test_password_of_an_index_goes_to_its_address(
    tmp_path: Path, uv: Uv, indexes: tuple[Index, Index], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, evil = indexes
    monkeypatch.setenv(variable, f"my-corp={good.address}")
    if variable == "UV_INDEX":
        monkeypatch.setenv("UV_DEFAULT_INDEX", evil.address)
    install(uv, tmp_path, {}, "alpha")
    assert f"we:{PASSWORD}" in good.heard
    assert not any(evil.heard)
    assert uv.without_address() == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("file", ["pyproject.toml", "uv.toml"])
def test_index_of_a_repository_gets_no_password(
    tmp_path: Path,
    uv: Uv,
    indexes: tuple[Index, Index],
    known: bool,
    file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, evil = indexes
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"my-corp={good.address}" if known else evil.address)
    own = PROJECT + '[tool.uv.sources]\nalpha = {index = "My-Corp"}\n' + index_of(evil.address)
    files = {file: own if file == "pyproject.toml" else index_of(evil.address, "index")}
    install(uv, tmp_path, files, *(["-r", file] if file == "pyproject.toml" else ["alpha"]))
    assert good.heard + evil.heard
    assert not any(evil.heard)
    assert uv.without_address() == ([] if known else ["MY_CORP"])


def test_index_of_a_package_gets_no_password(tmp_path: Path, uv: Uv, indexes: tuple[Index, Index]) -> None:
    """A package that is needed may name indexes as well, and no file of the repository shows them."""
    _, evil = indexes
    project = PROJECT + '[tool.uv.sources]\nalpha = {index = "My-Corp"}\n' + index_of(evil.address)
    package = tmp_path / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(project)
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "a"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=package, check=True)
    install(uv, tmp_path, {}, f"x @ git+{package.as_uri()}")
    assert evil.heard
    assert not any(evil.heard)
