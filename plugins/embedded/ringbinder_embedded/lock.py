"""What the shared JupyterLab is installed from. Imports nothing of ours: docs/locks.py reads it before all else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LOCK: Final = Path(__file__).with_name("jupyterlab.txt")
"""Its packages, each with its version and its hashes; docs/locks.py writes it."""

LEFT_OUT: Final = (
    # Completes code in kernels, which run in the environments of images: half of all the files to be written.
    "jedi",
    # Judges internationalised addresses in JSON schemas, of which Jupyter's events have none. Only to be imported
    # it compiles a grammar, which takes longer than all else that JupyterLab does until it answers.
    "rfc3987-syntax",
)
"""Packages that JupyterLab asks for and that it does without here."""
