"""Records what plugin authors rely on in `surface.txt`: names, hooks and arguments. See the promise.

python docs/surface.py            rewrites the record
python docs/surface.py --check    says what differs, and what has come or gone that CHANGELOG.md does not name; exit
                                  code 1 if anything
"""

from __future__ import annotations

import difflib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ringbinder import testing
from ringbinder.plugins import deprecation as promise
from ringbinder.plugins import discovery as selection
from ringbinder.plugins import hookspecs

RECORD = Path(__file__).parent / "surface.txt"
MODULES = (
    "ringbinder", "ringbinder.causes", "ringbinder.concurrency", "ringbinder.files", "ringbinder.folder_image",
    "ringbinder.git", "ringbinder.http", "ringbinder.image_reference", "ringbinder.process", "ringbinder.specs",
    "ringbinder.untrusted",
)  # fmt: skip
"""What plugins may import, beside `ringbinder.testing` for their tests. pyproject.toml holds ours to it."""

_TESTING = (f"ringbinder.testing.{found.name}" for found in pkgutil.iter_modules(testing.__path__))
PUBLIC = (*MODULES, "ringbinder.testing", *(name for name in _TESTING if not name.endswith("__main__")))


def surface() -> str:
    """One line for each name, argument and attribute, in order."""
    lines = {f"PLUGIN_API {promise.PLUGIN_API}"}
    lines |= {f"group {group}" for group in selection.GROUPS.values()}
    for name, hook in vars(hookspecs.Hooks).items():
        if not name.startswith("_"):
            lines.add(f"hook {name}")
            lines |= {f"hook {name}({argument})" for argument in list(inspect.signature(hook).parameters)[1:]}
    for module in PUBLIC:
        lines.update(_of_module(import_module(module)))
    return "\n".join(sorted(lines)) + "\n"


def _of_module(module: ModuleType) -> Iterator[str]:
    for name in names_of(module):
        yield f"{module.__name__}.{name}"
        yield from (f"{module.__name__}.{name}{part}" for part in _parts(getattr(module, name)))


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module: those of `__all__`, or its own without a leading underscore."""
    if (names := getattr(module, "__all__", None)) is not None:
        return list(names)
    return [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", module.__name__) == module.__name__
        and not name.startswith("_")
        and not inspect.ismodule(value)
    ]


def _parts(value: Any) -> Iterator[str]:
    """Arguments of a function; attributes and methods of a class, with their arguments."""
    if inspect.isclass(value):
        attributes = {name for part in value.__mro__ if _ours(part) for name in vars(part)}
        attributes |= set(getattr(value, "__annotations__", {}))
        for name in attributes:
            if not name.startswith("_"):
                yield f".{name}"
                method = inspect.getattr_static(value, name, None)
                if inspect.isfunction(method):
                    yield from (f".{name}{argument}" for argument in _arguments(method))
    elif inspect.isfunction(value):
        yield from _arguments(value)


def _ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "ringbinder"


def _arguments(function: Any) -> Iterator[str]:
    yield from (f"({name})" for name in inspect.signature(function).parameters if name not in ("self", "cls"))


def unexplained(root: Path) -> list[str]:
    """Changed lines of the record in the repository `root` of which the changelog does not say the name.

    Of what has gone, its own name, or that of the function or class that has gone with it; of what has come, the name
    of the hook, function or class that it belongs to.
    Changed since the last release; before there is one, since the record was changed last.
    """
    before = _git(root, "show", f"{_earlier(root)}:docs/surface.txt").splitlines()
    now = (root / "docs" / "surface.txt").read_text().splitlines()
    changelog = (root / "CHANGELOG.md").read_text()
    gone = [line for line in before if line not in now and not _explained(line, before, now, changelog)]
    come = [line for line in now if line not in before and _owner(line, now) not in changelog]
    return gone + come


def _explained(line: str, before: list[str], now: list[str], changelog: str) -> bool:
    """Whether the changelog names what has gone, or what it was part of and has gone as well."""
    if line.split()[-1] in changelog:
        return True
    whole = line.partition("(")[0] if "(" in line else line.rpartition(".")[0]
    return whole in before and whole not in now and _explained(whole, before, now, changelog)


def _owner(line: str, record: list[str]) -> str:
    """The name of the hook, function or class that a line of the record is about."""
    whole = line.partition("(")[0]
    while (part := whole.rpartition("."))[0] in record:
        whole = part[0]
    return whole.split()[-1].rpartition(".")[2]


def _earlier(root: Path) -> str:
    """The revision whose record is compared."""
    if released := _git(root, "tag", "--list", "v*", "--sort=-v:refname").split():
        return released[0]
    if _git(root, "diff", "--name-only", "HEAD", "--", "docs/surface.txt"):
        return "HEAD"
    changed = _git(root, "log", "-2", "--format=%H", "--", "docs/surface.txt").split()
    return changed[-1] if changed else "HEAD"


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def main() -> int:
    now = surface()
    if "--check" not in sys.argv:
        RECORD.write_text(now)
        return 0
    before = RECORD.read_text()
    sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), now.splitlines(True), "recorded", "now", n=0))
    silent = unexplained(RECORD.parents[1])
    sys.stdout.writelines(f"changed, and not named in CHANGELOG.md: {line}\n" for line in silent)
    return int(now != before or bool(silent))


if __name__ == "__main__":
    raise SystemExit(main())
