"""Files that a build or a notebook leaves without their owner's permissions are in nobody's way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("unreadable_files.py")
# To root, who could read all, permissions mean something without these two capabilities.
AS_OTHERS = [
    "setpriv",
    *(f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps")),
]


@pytest.mark.parametrize("what", ["image", "session"])
def test_unreadable_files_of_strangers_are_in_nobodys_way(tmp_path: Path, what: str) -> None:
    as_others = [] if os.geteuid() else AS_OTHERS
    if as_others and shutil.which("setpriv") is None:
        pytest.skip("the tests run as root, and setpriv (util-linux) is not installed")
    done = subprocess.run(
        [*as_others, sys.executable, PROGRAM, what, tmp_path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
