"""One launch of the whole thing: real uv, real JupyterLab, a real terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Program, Terminal

pytestmark = [pytest.mark.real("git", "uv", "jupyterlab"), pytest.mark.timeout(900)]


class Notebook:
    """The API of the notebook server at `address`."""

    def __init__(self, address: str) -> None:
        base, token = re.fullmatch(r"(http://[^/]+/).*token=(\w[\w-]*)", address).groups()  # type: ignore[union-attr]
        self.base, self.headers = base, {"Authorization": f"token {token}"}

    def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        url = f"{self.base}api/{path}"
        return httpx.request(method, url, headers=self.headers, timeout=60, **body).raise_for_status()

    def files(self) -> set[str]:
        return {entry["name"] for entry in self.ask("GET", "contents/").json()["content"]}

    def write(self, name: str, text: str) -> None:
        self.ask("PUT", f"contents/{name}", json={"type": "file", "format": "text", "content": text})

    def start_kernel(self) -> None:
        self.ask("POST", "kernels", json={"name": "python3"})

    def shut_down(self) -> None:
        self.ask("POST", "shutdown")


@pytest.fixture
def repository(ringbinder: Program) -> Path:
    folder = ringbinder.folder / "repository"
    folder.mkdir()
    (folder / "notebook.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    (folder / "requirements.txt").write_text("six\n")
    return folder


def opened(terminal: Terminal) -> tuple[Notebook, str]:
    terminal.child.timeout = 600
    address = terminal.expect(r"ready after [^\r\n]+\s+(http://\S+)\r\n")
    terminal.expect("Press Ctrl-C to stop it")
    return Notebook(address), address


def test_launch_change_interrupt_and_launch_again(ringbinder: Program, repository: Path) -> None:
    terminal = ringbinder.terminal("launch", "repository/notebook.ipynb")
    notebook, address = opened(terminal)
    assert "/lab/tree/notebook.ipynb?" in address
    assert notebook.files() == {"notebook.ipynb", "requirements.txt"}
    notebook.start_kernel()
    notebook.write("found.txt", "42")
    descendants = terminal.descendants()
    assert len(descendants) >= 2

    terminal.ctrl_c()
    assert terminal.end() == 0
    _, alive = psutil.wait_procs(descendants, timeout=0)
    assert not alive
    kept = re.search(r"Files that you changed are kept in (\S+)", terminal.seen)
    assert kept is not None
    assert (Path(kept[1]) / "found.txt").read_text() == "42"
    assert not (repository / "found.txt").exists()

    again = ringbinder.terminal("launch", "repository")
    notebook, address = opened(again)
    assert "/lab?" in address
    assert "Building" not in again.seen, "an image that is there is built again"
    assert notebook.files() == {"notebook.ipynb", "requirements.txt"}, "a launch sees what another one wrote"
    notebook.shut_down()
    assert again.end() == 0
    assert "The notebook has ended by itself: it was shut down from within" in again.seen
    assert "kept" not in again.seen


def test_a_build_that_fails_shows_why(ringbinder: Program, repository: Path) -> None:
    (repository / "requirements.txt").write_text("six==99.99\n")
    terminal = ringbinder.terminal("launch", "repository")
    terminal.child.timeout = 600
    assert terminal.end() == 4
    cause = terminal.seen.rpartition("Failed: ")[2]
    assert "six" in cause.splitlines()[0]
    assert "six==99.99" in terminal.seen
