"""What a plugin author has: the built wheels of Ringbinder, fresh environments, and commands that run in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import uv
from attrs import frozen

ROOT = Path(__file__).parents[2]
_LONG = 280
_TOOLS = ("pytest", "pytest-asyncio")


def run(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})}, timeout=_LONG, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@frozen
class Environment:
    """A virtual environment, as a stranger has it."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def install(self, *wanted: str | Path) -> None:
        run(
            [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", self.bin / "python", *wanted],
            self.folder,
        )

    @property
    def variables(self) -> dict[str, str]:
        """State and home of its own."""
        home = self.folder / "home"
        return {
            "HOME": str(home),
            "RINGBINDER_STATE": str(home / "state"),
            "RINGBINDER_CACHE": str(home / "cache"),
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
        }

    def distributions(self) -> list[str]:
        """The names of what is installed."""
        listed = run(
            [uv.find_uv_bin(), "pip", "list", "--quiet", "--format=json", "--python", self.bin / "python"], self.folder
        )
        return [package["name"] for package in json.loads(listed)]

    def __call__(self, *command: str | Path, cwd: Path | None = None) -> str:
        """The output of a program of the environment, which must succeed."""
        program, *arguments = command
        return run([self.bin / program, *arguments], cwd or self.folder, self.variables)

    def launch(self, link: str, *options: str) -> list[dict[str, Any]]:
        """The events of ``ringbinder launch``, which is interrupted after the last one."""
        command = [str(self.bin / "ringbinder"), "launch", link, "--json", "--yes", "--no-browser", *options]
        with subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, **self.variables}, stdout=subprocess.PIPE, text=True
        ) as launched:
            assert launched.stdout is not None
            events = []
            for line in launched.stdout:
                events.append(json.loads(line))
                if events[-1]["phase"] in ("ready", "failed"):
                    launched.send_signal(signal.SIGINT)
                    break
            launched.communicate(timeout=_LONG)
        return events


@frozen
class Wheels:
    """Both wheels of this working copy."""

    core: Path
    whole: Path


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]) -> Wheels:
    require_real("uv")
    folder = tmp_path_factory.mktemp("wheels")
    run([uv.find_uv_bin(), "build", "--quiet", "--wheel", "--all-packages", "--out-dir", folder, ROOT], folder)
    (core,), (whole,) = folder.glob("ringbinder_core-*.whl"), folder.glob("ringbinder-*.whl")
    return Wheels(core, whole)


@pytest.fixture
def author(tmp_path: Path, wheels: Wheels) -> Environment:
    """A new environment with core alone, and pytest."""
    environment = Environment(tmp_path / "environment")
    run([uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, environment.folder], tmp_path)
    environment.install(wheels.core, *_TOOLS)
    return environment


@pytest.fixture
def fresh(author: Environment, wheels: Wheels, require_real: Callable[..., None]) -> Environment:
    """A new environment with all of Ringbinder, and pytest."""
    require_real("jupyterlab")
    author.install(wheels.core, wheels.whole)
    return author
