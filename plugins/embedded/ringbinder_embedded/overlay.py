"""The thin environment of one session, over the shared one of its image.

What a notebook installs lands in the overlay: `sys.prefix` is the overlay, and the image's packages come
after its own on `sys.path`. It is written file by file, since calling uv would take longer than all of it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

from .store import Entry

_HEAD_BYTES: Final = 1024  # more than the lines in which a console script names its interpreter
_PYTHON: Final = re.compile(r"python(3(\.\d+)?)?")
_HOOK: Final = '''\
"""Puts the packages of the image after those of this environment."""
import site
import sys

site.addsitedir({packages!r})
# What postBuild installed as editable is this session's own copy of the repository.
sys.path[:] = [
    {work!r} + path[len({repo!r}):] if f"{{path}}/".startswith({repo!r} + "/") else path for path in sys.path
]
'''


@frozen
class Overlay:
    """`folder` is the environment, `jupyter` a folder for Jupyter's data path, with the kernelspecs."""

    folder: Path
    jupyter: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def make(self, image: Entry, work: Path, home: Path) -> None:
        """Writes it; blocks. `work` and `home` are the session's copies of the image's folders."""
        self._make_venv(image, work)
        for spec in _kernelspecs(image, home):
            self._add_kernel(spec, image)

    def _make_venv(self, image: Entry, work: Path) -> None:
        scripts = self.folder / "bin"
        scripts.mkdir(parents=True)
        if image.is_conda:
            (self.folder / "pyvenv.cfg").write_text(f"home = {image.env / 'bin'}\n")
        else:
            shutil.copyfile(image.env / "pyvenv.cfg", self.folder / "pyvenv.cfg")
        ours, theirs = str(self.python).encode(), str(image.python).encode()
        for program in (image.env / "bin").iterdir():
            if image.is_conda and _PYTHON.fullmatch(program.name):
                (scripts / program.name).symlink_to(program)
            elif program.is_symlink() and not image.is_conda:
                (scripts / program.name).symlink_to(program.readlink())
            elif program.is_file():
                content = program.read_bytes()
                head = content[:_HEAD_BYTES]
                if head.startswith(b"#!") and theirs in head:
                    copy = scripts / program.name
                    copy.write_bytes(head.replace(theirs, ours) + content[_HEAD_BYTES:])
                    copy.chmod(0o755)
        for library in (image.env / "lib").glob("python3.*"):
            packages = self.folder / "lib" / library.name / "site-packages"
            packages.mkdir(parents=True)
            hook = _HOOK.format(packages=str(library / "site-packages"), repo=str(image.repo), work=str(work))
            (packages / "_ringbinder_image.py").write_text(hook)
            (packages / "_ringbinder_image.pth").write_text("import _ringbinder_image\n")

    def _add_kernel(self, spec: Path, image: Entry) -> None:
        target = self.jupyter / "kernels" / spec.name.lower()
        if target.exists():
            return
        try:
            kernel = json.loads((spec / "kernel.json").read_text())
            program = kernel["argv"][0]
        except (OSError, ValueError, LookupError, TypeError):
            return  # Jupyter would not take it either
        # A bare "python" would become the python of the server, and an absolute one is the image's.
        if Path(program).name.startswith("python") and Path(program).parent in (Path(), image.env / "bin"):
            kernel["argv"][0] = str(self.python)
        shutil.copytree(spec, target)
        (target / "kernel.json").write_text(json.dumps(kernel))


def _kernelspecs(image: Entry, home: Path) -> Iterator[Path]:
    for folder in (
        home / ".local/share/jupyter/kernels",
        home / "Library/Jupyter/kernels",
        image.env / "share/jupyter/kernels",
    ):
        if folder.is_dir():
            yield from (spec for spec in folder.iterdir() if spec.is_dir())
