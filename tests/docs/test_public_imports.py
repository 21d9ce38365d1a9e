"""What the plugins that ship here use of core is public and documented."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from runpy import run_path

import pytest
from ringbinder.plugins.hookspecs import Hooks

from .pages import ROOT

SURFACE = run_path(str(ROOT / "docs" / "surface.py"))
MODULES: Sequence[str] = SURFACE["MODULES"]
PLUGINS = sorted([*(ROOT / "plugins").rglob("*.py"), *(ROOT / "core" / "ringbinder_fake").rglob("*.py")])
EXAMPLES = sorted((ROOT / "examples" / "plugins").glob("*/ringbinder_*/**/*.py"))
NAMES: dict[str, set[str]] = {module: set(SURFACE["names_of"](import_module(module))) for module in MODULES}


def private_uses(source: str) -> Iterator[str]:
    """What of core a plugin's module uses that is not public."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=aliases) if module.partition(".")[0] == "ringbinder":
                for alias in aliases:
                    if alias.name not in NAMES.get(module, ()) and f"{module}.{alias.name}" not in NAMES:
                        yield f"{module}.{alias.name}"
            case ast.Attribute(
                ast.Name("context") | ast.Attribute(attr="context"), "services" | "application" as attribute
            ):
                yield f"Context.{attribute}"
            case ast.Import(names=aliases):
                yield from (a.name for a in aliases if a.name.partition(".")[0] == "ringbinder" and a.name not in NAMES)


@pytest.mark.parametrize("file", [*PLUGINS, *EXAMPLES], ids=lambda file: str(file.relative_to(ROOT)))
def test_plugins_use_public_names_only(file: Path) -> None:
    assert list(private_uses(file.read_text())) == []


def test_private_imports_are_found() -> None:
    source = """
from ringbinder.runtime import log
from ringbinder import process, nothing
import ringbinder.app
print(self.context.services.public, context.public)
"""
    found = ["ringbinder.runtime.log", "ringbinder.nothing", "ringbinder.app", "Context.services"]
    assert list(private_uses(source)) == found


def test_public_modules_are_in_contract_and_page() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    contract = next(part for part in contracts if part["name"].startswith("plugins import only"))
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    assert contract["ignore_imports"] == [f"** -> {module}" for module in MODULES[1:]]
    assert re.findall(r"^## `(\S+)`\n\n<!-- generated: api-", page, re.MULTILINE) == list(MODULES)
    assert re.findall(r"^\| \[`([\w.]+)`\]", page, re.MULTILINE) == list(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_public_names_have_a_docstring(module: str) -> None:
    """Constants and names of types are in their module's."""
    made = import_module(module)

    def documented(name: str) -> bool:
        value = getattr(made, name)
        own = inspect.isclass(value) or inspect.isfunction(value)
        return bool(value.__doc__) if own else f"`{name}`" in (made.__doc__ or "")

    assert [name for name in sorted(NAMES[module]) if not documented(name)] == []


@pytest.mark.parametrize("module", SURFACE["PUBLIC"])
def test_public_fields_have_a_docstring(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    assert import_module("api_pages").undocumented(module) == []


@pytest.mark.parametrize("module", MODULES)
def test_public_methods_have_a_docstring(module: str) -> None:
    """Or are named in that of their class; hooks have a page of their own."""
    classes = [getattr(import_module(module), name) for name in NAMES[module]]
    parts = {
        part for found in classes if inspect.isclass(found) for part in found.__mro__ if "ringbinder." in str(part)
    }
    silent = [
        f"{part.__name__}.{name}"
        for part in parts
        for name, member in vars(part).items()
        if (inspect.isfunction(member) or isinstance(member, property | classmethod))
        and not (name.startswith("_") or hasattr(Hooks, name) or member.__doc__ or f"`{name}`" in (part.__doc__ or ""))
    ]
    assert silent == []
