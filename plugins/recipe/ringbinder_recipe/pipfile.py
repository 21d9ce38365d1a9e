"""Pipfile.lock and Pipfile as lines of a requirements file, development packages included, as in repo2docker."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen
from ringbinder import UserError
from ringbinder.untrusted import LOCK_BYTES, MAX_LOCK_VALUES, UntrustedTree, excerpt, parse_json, parse_toml

from .files import document

_PYPI: Final = re.compile(r"https?://pypi\.(?:python\.)?org/simple/?")
_VERSION: Final = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4})?")
_VCS: Final = ("git", "hg", "svn", "bzr")


@frozen
class Pipfile:
    lines: tuple[str, ...]
    """Of a requirements file."""
    locked: bool
    """They name everything, dependencies of dependencies too."""
    python: str = ""
    """Version that it asks for (``3.11``), or empty."""


def read(tree: UntrustedTree, file: str) -> Pipfile:
    """Return what the Pipfile.lock or Pipfile `file` of `tree` asks for. Blocks; raises `UserError` (``bad-file``)."""
    if locked := file.endswith(".lock"):
        content = document(tree, file, parse_json, LOCK_BYTES, values=MAX_LOCK_VALUES)
    else:
        content = document(tree, file, parse_toml)
    try:
        about = content["_meta"] if locked else content
        groups = ("default", "develop") if locked else ("packages", "dev-packages")
        lines = list(_sources(about.get("sources" if locked else "source", [])))
        for group in groups:
            lines += [_requirement(name, wish) for name, wish in content.get(group, {}).items()]
        wanted = about.get("requires", {})
        version = wanted.get("python_full_version") or wanted.get("python_version") or ""
        match = _VERSION.match(version)
    except (KeyError, TypeError, AttributeError) as error:
        kind = "Pipfile.lock" if locked else "Pipfile"
        raise UserError("bad-file", f"{file} has not the form of a {kind} ({excerpt(str(error))}).") from None
    if any(not line.isprintable() for line in lines):
        raise UserError("bad-file", f"{file}: a package's entry goes over several lines.")
    python = match[0] if match and "." in match[0] else ""
    return Pipfile(tuple(dict.fromkeys(lines)), locked, python)


def _sources(sources: list[Mapping[str, Any]]) -> Iterator[str]:
    """Package indexes; PyPI is left to the operator's own settings if it is the only one."""
    urls = [str(source["url"]) for source in sources]
    if all(_PYPI.fullmatch(url) for url in urls):
        return
    yield f"--index-url {urls[0]}"
    for url in urls[1:]:
        yield f"--extra-index-url {url}"


def _requirement(name: str, wish: str | Mapping[str, Any]) -> str:
    if isinstance(wish, str):
        wish = {"version": wish}
    extras = f"[{','.join(wish['extras'])}]" if wish.get("extras") else ""
    markers = "".join(f" ; {wish[key]}" for key in ("markers",) if wish.get(key))
    for system in _VCS:
        if url := wish.get(system):
            ref = f"@{wish['ref']}" if wish.get("ref") else ""
            folder = f"#subdirectory={wish['subdirectory']}" if wish.get("subdirectory") else ""
            return f"{name}{extras} @ {system}+{url}{ref}{folder}{markers}"
    if url := wish.get("file"):
        return f"{name}{extras} @ {url}{markers}"
    if path := wish.get("path"):
        editable = "-e " if wish.get("editable") else ""
        return f"{editable}{path if '/' in path else f'./{path}'}{extras}{markers}"
    version = wish.get("version", "")
    hashes = "".join(f" --hash={digest}" for digest in wish.get("hashes", ()))
    return f"{name}{extras}{'' if version == '*' else version}{markers}{hashes}"
