"""Finds words that are not used here, in names, docstrings and messages, and in names of tests: see CONTRIBUTING.

python docs/words.py [FILE...]    by default core, plugins and server, and names of tests; exit code 1 if any is found
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_TREES: Final = ("core", "plugins", "server")
_NAME: Final = re.compile(
    r"(?:^|_)(told|say|hear|heard|bear|bears|anew|mend|mends|mended|whoever|nobody|whatever)(?:_|$)"
)
_LONGEST_TEST: Final = 60
_TEXT: Final = re.compile(
    r"\b(told|hears?|heard|bears?|anew|mend(?:s|ed|ing)?|whoever|nobody|whatever|of late|at hand|this very"
    r"|(?:is|are) looked for)\b",
    re.IGNORECASE,
)


def problems(file: Path) -> Iterator[str]:
    """Gives `line: what` for each word in `file`."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for name in _names(node):
            if found := _NAME.search(name):
                yield f"{line}: name {name}: {found[1]}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := _TEXT.search(node.value)):
            at = line + node.value[: found.start()].count("\n")
            yield f"{at}: text: {found[1]}"


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.arg(arg=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
            yield name
        case ast.Name(id=name, ctx=ast.Store()):
            yield name


def test_problems(file: Path) -> Iterator[str]:
    """Gives `line: what` for the name of each test in `file` that has such a word, or is too long."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            if found := _NAME.search(node.name):
                yield f"{node.lineno}: name {node.name}: {found[1]}"
            if len(node.name) > _LONGEST_TEST:
                yield f"{node.lineno}: name {node.name}: more than {_LONGEST_TEST} characters"


def main() -> int:
    files = [Path(name) for name in sys.argv[1:]] or [
        file for tree in _TREES for file in sorted((ROOT / tree).rglob("*.py")) if ".venv" not in file.parts
    ]
    count = 0
    for file in files:
        for problem in problems(file):
            count += 1
            print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{problem}")  # noqa: T201
    for file in sorted((ROOT / "tests").rglob("*.py")) if not sys.argv[1:] else ():
        for problem in test_problems(file):
            count += 1
            print(f"{file.relative_to(ROOT)}:{problem}")  # noqa: T201
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
