"""An operator's own templates, judged at the start: what is broken, and what no page shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen
from jinja2 import Environment, FileSystemLoader, TemplateSyntaxError, nodes
from ringbinder.errors import ConfigError

_OPTION: Final = "BinderHub.template_path"


@frozen
class _Template:
    """A template that was parsed. `parent` is empty where it extends none, or one that is known only later."""

    place: str
    parent: str
    blocks: frozenset[str]
    outer: Mapping[str, int]
    """The line of each block that is in no other: where it extends a template, that must have the block."""


def judge(environment: Environment, own: Path, packaged: Path) -> list[str]:
    """The blocks of templates in the folder `own`, and of ours over them, that no page shows.

    Raises ConfigError if `own` is not there, or if a template in it is broken or extends one that is not there.
    """
    if not own.is_dir():
        raise ConfigError([f"{_OPTION}: there is no folder {own}"])
    problems: list[str] = []
    parsed: dict[str, _Template] = {}
    mine, ours = ([n for n in FileSystemLoader(f).list_templates() if n.endswith(".html")] for f in (own, packaged))
    for name in dict.fromkeys([*mine, *ours, *(f"templates/{name}" for name in ours)]):
        try:
            parsed[name] = _parsed(environment, name, own / name if name in mine else Path(name))
        except TemplateSyntaxError as error:
            problems.append(f"{_OPTION}: {own / name}, line {error.lineno}: {error.message}")
        except UnicodeDecodeError:
            problems.append(f"{_OPTION}: {own / name} is not UTF-8 text")
    if problems:
        raise ConfigError(problems)
    unseen: list[str] = []
    for name, template in parsed.items():
        ancestors: list[str] = []
        parent = template.parent
        while parent in parsed and parent not in (name, *ancestors):
            ancestors.append(parent)
            parent = parsed[parent].parent
        if parent and name in mine:
            why = "which is itself; its packaged one is" if parent == name else "which is not there; known:"
            known = f"templates/{name}" if parent == name else ", ".join(f"templates/{one}" for one in ours)
            problems.append(f"{_OPTION}: {template.place} extends {parent}, {why} {known}")
        elif ancestors and {name, *ancestors} & {*mine}:
            there = frozenset[str]().union(*(parsed[one].blocks for one in ancestors))
            unseen += [
                f"{template.place}, line {line}: none of the templates that it extends ({', '.join(ancestors)}) has "
                f"the block {block}; they have {', '.join(sorted(there))}"
                for block, line in template.outer.items()
                if block not in there
            ]
    if problems:
        raise ConfigError(problems)
    return unseen


def _parsed(environment: Environment, name: str, place: Path) -> _Template:
    if environment.loader is None:
        raise RuntimeError("no loader")
    environment.get_template(name)
    tree = environment.parse(environment.loader.get_source(environment, name)[0])
    extends = tree.find(nodes.Extends)
    parent = extends.template.value if extends and isinstance(extends.template, nodes.Const) else ""
    blocks = list(tree.find_all(nodes.Block))
    inner = {one.name for block in blocks for one in block.find_all(nodes.Block)}
    outer = {block.name: block.lineno for block in blocks if block.name not in inner}
    return _Template(str(place), str(parent), frozenset(block.name for block in blocks), outer)
