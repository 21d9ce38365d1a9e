"""The thin environment of one session, over the shared one of its image.

What a notebook installs lands in the overlay: `sys.prefix` is the overlay, and the image's packages come
after its own on `sys.path`. It is written file by file, since calling uv would take longer than all of it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from attrs import frozen
from ringbinder.files import write_state
from ringbinder.folder_image import FolderImage
from ringbinder.untrusted import MalformedError, UntrustedError, UntrustedTree, parse_json

from .installed import site_packages
from .store import remove_tree

_KERNELS: Final = "share/jupyter/kernels"
_USER_KERNELS: Final = (".local/share/jupyter/kernels", "Library/Jupyter/kernels")
_KERNEL_BYTES: Final = 16 * 1024**2
"""Of all files of one kernelspec: its icons, and what else it brings."""
_KERNEL_FILES: Final = 1000
_SMALL_BYTES: Final = 1024**2
_MAX_NAMES: Final = 10_000
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
    """`folder` is the environment, `jupyter` a folder of ours for Jupyter's data path, with the kernelspecs."""

    folder: UntrustedTree
    jupyter: Path

    @property
    def python(self) -> Path:
        """Its interpreter, for the arguments of commands."""
        return self.folder.place / "bin" / "python"

    def make(self, image: FolderImage, work: UntrustedTree, home: UntrustedTree) -> None:
        """Writes it; blocks. `work` and `home` are the session's copies of the image's folders."""
        self._make_venv(image, work)
        kernels = self.jupyter / "kernels"
        kernels.mkdir(parents=True, mode=0o700)
        for tree, folder in (*((home, folder) for folder in _USER_KERNELS), (image.env, _KERNELS)):
            for name in _names(tree, folder):
                if tree.is_folder(f"{folder}/{name}"):
                    self._add_kernel(tree, f"{folder}/{name}", kernels / name.lower(), image)

    def _make_venv(self, image: FolderImage, work: UntrustedTree) -> None:
        env, is_conda = image.env, image.is_conda  # each time they are asked for, a file is read
        for folder in (".", "bin"):
            self.folder.make_folder(folder)
        if is_conda:
            self.folder.write("pyvenv.cfg", f"home = {env.place / 'bin'}\n".encode())
        else:
            self.folder.write("pyvenv.cfg", env.read("pyvenv.cfg", _SMALL_BYTES))
        ours, theirs = str(self.python).encode(), str(image.python).encode()
        for name in _names(env, "bin"):
            program = f"bin/{name}"
            kind = env.kind(program)
            if is_conda and _PYTHON.fullmatch(name):
                self.folder.make_link(program, str(env.place / program))
            elif kind == "link" and not is_conda:
                self.folder.make_link(program, env.link(program))
            elif kind == "file":
                self._add_script(env, program, ours, theirs)
        for packages in site_packages(env):
            folder = ""
            for part in packages.split("/"):
                folder = f"{folder}/{part}".lstrip("/")
                self.folder.make_folder(folder)
            hook = _HOOK.format(packages=str(env.place / packages), repo=str(image.repo.place), work=str(work.place))
            self.folder.write(f"{packages}/_ringbinder_image.py", hook.encode(), 0o644)
            self.folder.write(f"{packages}/_ringbinder_image.pth", b"import _ringbinder_image\n", 0o644)

    def _add_script(self, env: UntrustedTree, program: str, ours: bytes, theirs: bytes) -> None:
        with env.open(program) as file:
            head = file.read(_HEAD_BYTES)
            if not head.startswith(b"#!") or theirs not in head:
                return
            rest = file.read(_SMALL_BYTES)
            if file.read(1):
                return  # no console script is so long
        self.folder.write(program, head.replace(theirs, ours) + rest, 0o755)

    def _add_kernel(self, tree: UntrustedTree, spec: str, target: Path, image: FolderImage) -> None:
        try:
            kernel = parse_json(tree.read(f"{spec}/kernel.json", _SMALL_BYTES))
            program = kernel["argv"][0]
            # A bare "python" would become the python of the server, and an absolute one is the image's.
            if Path(program).name.startswith("python") and Path(program).parent in (Path(), image.env.place / "bin"):
                kernel["argv"][0] = str(self.python)
            content = json.dumps(kernel).encode()
        except (OSError, UntrustedError, MalformedError, LookupError, TypeError):
            return  # Jupyter would not take it either
        try:
            tree.copy_tree(spec, target, _KERNEL_BYTES, _KERNEL_FILES)
        except FileExistsError:
            return  # the first of a name is taken
        except (OSError, UntrustedError):
            remove_tree(target)
            return
        write_state(target / "kernel.json", content, sync=False)


def _names(tree: UntrustedTree, folder: str) -> list[str]:
    """The names in `folder`; none if it is no folder, or has too many."""
    try:
        return tree.names(folder, _MAX_NAMES)
    except (OSError, UntrustedError):
        return []
