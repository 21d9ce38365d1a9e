"""The Makefile where something that it needs is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


pytestmark = pytest.mark.real("make")


@pytest.fixture
def make() -> str:
    found = shutil.which("make")
    assert found is not None
    return found


def test_no_python_is_reported_in_words(make: str, tmp_path: Path) -> None:
    old = tmp_path / "bin" / "python3"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        [make, "launch", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT, env={"PATH": str(old.parent)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Ringbinder needs Python 3.11 or later" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_make_alone_lists_the_targets(make: str) -> None:
    done = subprocess.run(
        [make], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=60, check=True
    )
    for target in ("launch", "test", "test-all", "bench", "lint", "clean"):
        assert f"make {target}" in done.stdout
