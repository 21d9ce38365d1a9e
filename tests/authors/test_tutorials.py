"""The tutorials, done literally: in one shell, with a home of its own, as their reader does them.

A page is made of four kinds of blocks, and of no other ones:

- ``{code-block} python`` with the caption ``PATH`` is written to that file, seen from where the shell is; with
  ``PATH (continued)`` it is appended to it.
- ``sh`` is run, and must succeed. A line that ends with ``# Ctrl-C ends it`` goes on until its output has come.
- ``text`` is the output of the block before it: each of its lines has to come, ``...`` standing for any text.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest
import uv
from attrs import define, field, frozen
from ringbinder import Secret, Server
from ringbinder.testing.kernel import open_kernel

from .conftest import Wheels, run

TUTORIALS: Final = Path(__file__).parents[2] / "docs" / "tutorials"
BLOCK: Final = re.compile(
    r"^```(?P<kind>[^\n]+)\n(?::caption: (?P<path>\S+)(?P<more> \(continued\))?\n\n)?(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
CTRL_C: Final = "# Ctrl-C ends it\n"
ADDRESS: Final = re.compile(r"(http://localhost:\d+/)lab\S*[?&]token=([\w-]+)")
LONG: Final = 300.0


@frozen
class Block:
    kind: str
    text: str
    path: str = ""
    appended: bool = False

    @property
    def command(self) -> str:
        """What the shell is told."""
        if self.kind == "sh":
            return self.text
        redirect = ">>" if self.appended else ">"
        return f"printf %s {shlex.quote(self.text)} {redirect} {shlex.quote(self.path)}\n"

    @property
    def patterns(self) -> list[re.Pattern[str]]:
        lines = (re.escape(line).replace(r"\.\.\.", ".*") for line in self.text.splitlines())
        return [re.compile(f"^{line}", re.MULTILINE) for line in lines]


def blocks(page: Path) -> list[Block]:
    found = [
        Block(match["kind"], match["text"], match["path"] or "", bool(match["more"]))
        for match in BLOCK.finditer(page.read_text())
    ]
    for block in found:
        assert (block.kind, bool(block.path)) in {
            ("sh", False), ("text", False), ("{code-block} python", True),
        }, f"{page.name} has a block that nobody would try: {block.kind} {block.path}"  # fmt: skip
    return found


@define
class Shell:
    """A bash that is told one block after the other."""

    process: asyncio.subprocess.Process
    said: str = ""
    done: int = 0
    _news: asyncio.Event = field(factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, env: Mapping[str, str]) -> AsyncIterator[Shell]:
        process = await asyncio.create_subprocess_exec(
            "bash", cwd=folder, env=env, start_new_session=True, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        shell = cls(process)
        listening = asyncio.create_task(shell._listen())
        try:
            yield shell
        finally:
            started: list[psutil.Process] = []
            with suppress(psutil.NoSuchProcess):
                started = psutil.Process(process.pid).children(recursive=True)
            for one in started:
                with suppress(psutil.NoSuchProcess):
                    one.terminate()
            assert process.stdin is not None
            process.stdin.close()
            psutil.wait_procs(started, timeout=60)
            await process.wait()
            await listening

    async def run(self, block: Block, expected: Block | None) -> str:
        """Runs it to its end, and returns what was said meanwhile."""
        before = len(self.said)
        self.done += 1
        mark = f"tutorial-block-{self.done}-has-succeeded"
        assert self.process.stdin is not None
        # What a program would read from a terminal is not the next block.
        self.process.stdin.write(f"set -e\n{{\n{block.command}}} </dev/null\necho {mark}\n".encode())
        if expected is not None:
            for pattern in expected.patterns:
                await self._until(pattern, before)
        if block.text.endswith(CTRL_C):
            await self._cell_of_notebook(before)
            newest = max(psutil.Process(self.process.pid).children(), key=psutil.Process.create_time)
            newest.send_signal(signal.SIGINT)
        await self._until(re.compile(mark), before)
        return self.said[before:]

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        while received := await self.process.stdout.read(65536):
            self.said += received.decode(errors="replace")
            self._news.set()
        self._news.set()

    async def _until(self, pattern: re.Pattern[str], since: int) -> None:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(LONG):
                while not pattern.search(self.said, since):
                    assert not self.process.stdout.at_eof(), f"the shell ended:\n{self.said[since:]}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"{pattern.pattern!r} has not come within {LONG:g} s:\n{self.said[since:]}")

    async def _cell_of_notebook(self, since: int) -> None:
        """The cell of the lesson runs in the notebook whose address was said."""
        address = ADDRESS.search(self.said, since)
        assert address is not None, self.said[since:]
        kernel = await open_kernel(Server("tutorial", address[1], Secret(address[2])))
        try:
            reason = await kernel.run("import json; exec(json.load(open('lesson.ipynb'))['cells'][0]['source'])")
        finally:
            await kernel.close()
        assert reason == "45\n"


@pytest.fixture
def env(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, wheels: Wheels) -> dict[str, str]:
    """A home of its own; what was downloaded before is not downloaded again."""
    home = tmp_path / "home"
    home.mkdir()
    downloaded = run([uv.find_uv_bin(), "cache", "dir"], tmp_path).strip()
    found = os.environ.get("PIP_FIND_LINKS", "")
    usual = ("VIRTUAL_ENV", "PYTHONPATH", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return {name: value for name, value in os.environ.items() if name not in usual} | {
        "HOME": str(home),
        "PATH": f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_FIND_LINKS": f"{found} {wheels.core.parent}".strip(),
        "PYTHONUNBUFFERED": "1",
        "RINGBINDER_CACHE": str(tmp_path_factory.getbasetemp() / "end-to-end" / "cache"),
        "UV_CACHE_DIR": downloaded,
        "UV_FIND_LINKS": str(wheels.core.parent),
    }


@pytest.mark.real("uv", "jupyterlab")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
async def test_a_tutorial_works_as_it_stands(page: Path, tmp_path: Path, env: dict[str, str]) -> None:
    folder = tmp_path / "tutorial"
    folder.mkdir()
    steps = blocks(page)
    async with Shell.running(folder, env) as shell:
        for block, after in zip(steps, [*steps[1:], None], strict=True):
            if block.kind != "text":
                await shell.run(block, after if after and after.kind == "text" else None)


def test_a_page_with_another_kind_of_block_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nprint('nobody runs this')\n```\n")
    with pytest.raises(AssertionError, match="nobody would try"):
        blocks(page)


async def test_what_does_not_work_is_reported(tmp_path: Path) -> None:
    async with Shell.running(tmp_path, os.environ) as shell:
        await shell.run(Block("sh", "cd /\nexport WORD=kept\n"), None)
        await shell.run(Block("sh", 'echo "$WORD in $PWD"\n'), Block("text", "kept ... /\n"))
        with pytest.raises(AssertionError, match=r"(?s)the shell ended.*cannot access"):
            await shell.run(Block("sh", "LC_ALL=C ls /there/is/no/such\ntrue\n"), None)
