"""Modules that handle folders which strangers can write reach into them through `UntrustedTree` alone.

ruff's banned-api (pyproject.toml) keeps functions off them; this keeps the methods of paths off, which ruff cannot see.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import ringbinder_embedded
import ringbinder_recipe
from ringbinder import folder_image

ROOMS: Final = (ringbinder_embedded, ringbinder_recipe)
FILES: Final = [
    Path(folder_image.__file__),
    *(file for room in ROOMS for file in sorted(Path(room.__path__[0]).glob("*.py"))),
]
METHODS: Final = frozenset(
    {
        "chmod", "copy", "exists", "expanduser", "glob", "group", "hardlink_to", "is_dir", "is_file", "is_mount",
        "is_symlink", "iterdir", "lchmod", "lstat", "mkdir", "move", "open", "owner", "read_bytes", "read_text",
        "readlink", "rename", "resolve", "rglob", "rmdir", "samefile", "stat", "symlink_to", "touch", "unlink",
        "walk", "write_bytes", "write_text",
    }
)  # fmt: skip
TREES: Final = frozenset(
    {"after", "before", "box", "env", "home", "repo", "runtime", "scratch", "session", "tree", "work"}
)
"""What trees are called: they have some methods of the same names."""
OWN_FOLDER: Final = "the folder above the box, which the sandbox does not show"
ALLOWED: Final = {
    "_server_config": {"_refusal": "runs in the notebook's server, and opens nothing"},
    "installer": {"Installer.own_file": OWN_FOLDER},
    "folder_image": {
        "FolderImage._has_python": "programs that were recorded before strangers' code ran",
        "FolderImage._take_lock": OWN_FOLDER,
        "FolderImage.clear": OWN_FOLDER,
        "FolderImage.exists": OWN_FOLDER,
        "FolderImage.in_use": OWN_FOLDER,
        "FolderImage.is_fresh_draft": OWN_FOLDER,
        "FolderImage.is_settled": OWN_FOLDER,
        "FolderImage.locked": OWN_FOLDER,
        "FolderImage.note_interpreter": "runs before strangers' code does",
        "FolderImage.publish": OWN_FOLDER,
        "FolderImage.settle": OWN_FOLDER,
        "FolderImage.start_over": OWN_FOLDER,
        "FolderImage.used_at": OWN_FOLDER,
        "_boot_id": "a file of the system",
        "_made": OWN_FOLDER,
        "_read_marker": OWN_FOLDER,
        "_sync_file_system": OWN_FOLDER,
        "remove_cleared": OWN_FOLDER,
    },
    "jupyter": {
        "SharedServer.": "the lock file that comes with Ringbinder",
        "SharedServer._packages": "the lock file that comes with Ringbinder",
        "write_settings": OWN_FOLDER,
    },
    "launcher": {"LocalLauncher.keep_work": OWN_FOLDER},
    "overlay": {"Overlay.make": OWN_FOLDER},
    "relay": {"Relay._open": "relative to a handle, and no link"},
    "requested": {"_version": "the operator's own settings of uv"},
    "sandbox": {"Sandbox.wrapper": "the operator's configuration files"},
    "sessions": {
        "Session.copy": "makes the box, before anything is in it",
        "Session.has_begun": OWN_FOLDER,
        "Session.kept_awake_at": OWN_FOLDER,
        "Session.tell_stop": OWN_FOLDER,
        "_checked": OWN_FOLDER,
        "_unknown": OWN_FOLDER,
        "all_sessions": OWN_FOLDER,
    },
    "shared": {
        "EnvironmentStore.remove_damaged": OWN_FOLDER,
        "EnvironmentStore.remove_unused": OWN_FOLDER,
        "EnvironmentStore.share": OWN_FOLDER,
        "EnvironmentStore.sweep": OWN_FOLDER,
        "_folders": OWN_FOLDER,
        "damage": "asks for sizes and times, by the handle of the environment",
    },
    "store": {
        "Store.sweep": OWN_FOLDER,
        "Store.whole": OWN_FOLDER,
    },
    "work": {
        "_Tar.__init__": "the file that is written for its person",
        "_complete": "the file that is written for its person",
        "_copy": "makes a folder of its own",
        "_write_archive": "a copy of its own",
        "find": OWN_FOLDER,
    },
}
ELSEWHERE: Final = {
    "_conda": "a program of its own; what it reads and writes are files of ours",
    "_solver": "a program of its own; what it reads and writes are files of ours",
    "memory": "control groups of the system",
    "uv": "the operator's own settings and Pythons",
    "wholeness": "the shared JupyterLab's environment, which no stranger can write",
}
"""Modules that handle no such folder."""


def test_methods_of_paths_are_kept_off_strangers_folders() -> None:
    found = {
        file.stem: set(_uses(ast.parse(file.read_text()).body, "")) for file in FILES if file.stem not in ELSEWHERE
    }

    assert found == {module: set(ALLOWED.get(module, ())) for module in found}


def _uses(body: list[ast.stmt], within: str) -> Iterator[str]:
    """Functions and methods in which a path is reached into."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _uses(node.body, f"{node.name}.")
        elif any(_reaches(inner) for inner in ast.walk(node)):
            yield (f"{within}{node.name}" if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else within)


def _reaches(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    method, receiver = node.func.attr, node.func.value
    if method == "replace":  # a text's takes two arguments, a path's one
        return len(node.args) == 1
    name = receiver.attr if isinstance(receiver, ast.Attribute) else getattr(receiver, "id", "")
    return method in METHODS and name not in TREES


def test_use_of_a_path_is_seen() -> None:
    code = (
        "def read(tree, path):\n    return tree.read_text('a', 5) + path.read_text()\n"
        "class A:\n    async def move(self):\n        self.place.replace(self.other)\n"
        "def fine(tree, text):\n    return tree.open(text.replace('a', 'b')), tree.place / 'a'\n"
    )

    assert list(_uses(ast.parse(code).body, "")) == ["read", "A.move"]
