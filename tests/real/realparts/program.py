"""Runs the installed `ringbinder` program, in pipes or in a pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest
from attrs import define, field

from .warm import Warm

_PROGRAM = Path(sys.executable).with_name("ringbinder")
_KINDS = ("builder", "registry", "launcher")
_HIDDEN = (
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "BROWSER",
    "SSH_CONNECTION",
    "SSH_TTY",
    "FORCE_COLOR",
    "NO_COLOR",
    "COLUMNS",
)
_LONG = 120


def sets(**options: object) -> list[str]:
    """Arguments that choose the fakes and set `options`, of which ``Fake__fail_at`` is ``Fake.fail_at``."""
    chosen = [f"Ringbinder.{kind}=fake" for kind in _KINDS]
    chosen += [f"{name.replace('__', '.')}={value}" for name, value in options.items()]
    return [part for text in chosen for part in ("--set", text)]


@define
class Terminal:
    """A command in a pseudo-terminal."""

    child: pexpect.spawn[str]
    seen: str = ""

    def expect(self, *patterns: str) -> str:
        """Waits for each of `patterns`, and returns what the last one matched."""
        match: Any = None
        for pattern in patterns:
            self.child.expect(pattern)
            match = self.child.match
            self.seen += f"{self.child.before}{match[0]}"
        return str(match[match.lastindex or 0])

    def ctrl_c(self) -> None:
        self.child.sendintr()

    def hang_up(self) -> int:
        """Closes the terminal, as who closes its window, and returns the exit code."""
        process: Any = self.child.ptyproc  # type: ignore[attr-defined]
        process.fileobj.close()
        self.child.closed = process.closed = True
        return int(process.wait())

    def end(self) -> int:
        """The exit code, once it has ended by itself; negative: the signal that ended it."""
        self.child.expect(pexpect.EOF)
        self.seen += str(self.child.before)
        self.child.wait()
        status = self.child.exitstatus
        return status if status is not None else -(self.child.signalstatus or 0)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.child.pid).children(recursive=True)


@define
class Program:
    """`ringbinder` with state, cache and home of its own."""

    folder: Path
    env: dict[str, str]
    _warm: Warm
    terminals: list[Terminal] = field(factory=list)

    def __call__(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs to its end, in a process that has imported all of the program already."""
        return self._warm.run(self.command(*arguments), self.env | env, self.folder, _LONG)

    def cold(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs to its end, from the start of the interpreter."""
        return subprocess.run(
            self.command(*arguments), env=self.env | env, cwd=self.folder,
            capture_output=True, text=True, timeout=_LONG, check=False,
        )  # fmt: skip

    def start(self, *arguments: object, **env: str) -> subprocess.Popen[str]:
        """In the background, with both its outputs in pipes."""
        return subprocess.Popen(
            self.command(*arguments), env=self.env | env, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def terminal(self, *arguments: object, **env: str) -> Terminal:
        command, *rest = self.command(*arguments)
        child = pexpect.spawn(
            command, rest, env={**self.env, "TERM": "xterm-256color", **env}, cwd=str(self.folder),
            dimensions=(40, 120), encoding="utf-8", timeout=_LONG,
        )  # fmt: skip
        self.terminals.append(Terminal(child))
        return self.terminals[-1]

    def plugin(self, name: str, source: str) -> dict[str, str]:
        """Installs the general plugin ``Plugin`` in `source`; returns the environment that finds it."""
        site = self.folder / f"site-{name}"
        metadata = site / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{name}.py").write_text(source)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[ringbinder.plugins]\n{name} = {name}:Plugin\n")
        return {"PYTHONPATH": str(site)}

    @staticmethod
    def command(*arguments: object) -> list[str]:
        """The command line."""
        return [str(_PROGRAM), *map(str, arguments)]


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    started = Warm.started()
    yield started
    started.close()


@pytest.fixture
def ringbinder(tmp_path: Path, warm: Warm) -> Iterator[Program]:
    env = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
    env |= {
        "HOME": str(tmp_path),
        "RINGBINDER_STATE": str(tmp_path / "state"),
        "RINGBINDER_CACHE": str(tmp_path / "cache"),
    }
    program = Program(tmp_path, env, warm)
    yield program
    for terminal in program.terminals:
        if not terminal.child.closed:
            terminal.child.close(force=True)


@pytest.fixture
def fakes() -> Any:
    return sets
