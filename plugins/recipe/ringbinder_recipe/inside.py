"""What the files of a repository name on this machine must lie in the repository, links included.

uv reads such paths itself, and its messages quote what it cannot read. So every file that it will open is looked at
before: requirements files and those they include, project files, and the paths that these and lock files name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from attrs import define, field
from ringbinder import UserError
from ringbinder.untrusted import (
    LOCK_BYTES,
    MAX_LOCK_VALUES,
    MAX_VALUES,
    RECIPE_BYTES,
    MalformedError,
    TooLargeError,
    UntrustedError,
    UntrustedTree,
    excerpt,
    parse_toml,
)

from . import files

_MAX_FILES: Final = 150
"""Files that are included, projects and members of a workspace; each may be named by the one before it."""
_READ_BY_UV: Final = (
    "pyproject.toml", "uv.toml", "uv.lock", "setup.py", "setup.cfg", ".python-version", ".python-versions",
)  # fmt: skip
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)\}")
_AFTER_A_REQUIREMENT: Final = re.compile(r"\s(?:;|--hash)")
_SCHEME: Final = re.compile(r"(?:[a-z]+\+)?([A-Za-z][A-Za-z0-9.-]+):")
_EXTRAS: Final = re.compile(r"\[[^\[\]]*\]$")
_SOURCE_KEYS: Final = frozenset({"path", "editable", "directory", "virtual", "git", "url", "registry"})


@define
class Inside:
    """Looks at what uv will read of the repository `tree`. All methods block, and raise `UserError` (``bad-file``)."""

    tree: UntrustedTree
    passed: frozenset[str] = frozenset()
    """Names of the environment variables that requirements may name, since the operator passes them."""
    _files: set[str] = field(factory=set, init=False)

    def project(self, folder: str = "") -> None:
        """Looks at the project files of `folder`, if it has any, and at the folders that they name."""
        if not self.is_new(f"{folder}/"):
            return
        prefix = f"{folder}/" if folder else ""
        for file in (f"{prefix}{name}" for name in _READ_BY_UV):
            kind = files.kind(self.tree, file)
            if kind not in ("file", "other"):
                continue
            if file.endswith("uv.lock"):
                self._sources(self._parsed(file, LOCK_BYTES, MAX_LOCK_VALUES), file, folder)
            elif file.endswith(".toml"):
                self._names(self._parsed(file), file, folder)
            elif kind == "other":
                files.content(self.tree, file)  # a pipe or a device

    def _parsed(self, file: str, limit: int = RECIPE_BYTES, values: int = MAX_VALUES) -> dict[str, Any]:
        try:
            return parse_toml(files.content(self.tree, file, limit), values=values)
        except TooLargeError as error:
            raise UserError("bad-file", f"{file} {error}.") from None
        except MalformedError:
            return {}  # uv cannot read it either

    def _names(self, content: Mapping[str, Any], file: str, folder: str) -> None:
        """Looks at every text of a pyproject.toml or uv.toml that may be a requirement, a path or an address."""
        project = _table(content, "project")
        readme, license_ = _table(project, "readme").get("file"), _table(project, "license").get("file")
        for path in _texts([project.get("readme"), readme, license_]):
            self._path(path, file, folder)
        uv = _table(content, "tool", "uv") if file.endswith("pyproject.toml") else content
        lists = [project.get("dependencies"), _table(content, "build-system").get("requires")]
        lists += [*_table(project, "optional-dependencies").values(), *_table(content, "dependency-groups").values()]
        lists += [value for key, value in uv.items() if key.endswith("dependencies")]
        for line in _texts(lists):
            self.requirement(line, file, folder)
        for member in _texts([_table(uv, "workspace").get("members")]):
            self._members(member, file, folder)
        self._sources({"sources": uv.get("sources"), "index": uv.get("index")}, file, folder)
        for table in (uv, _table(uv, "pip")):
            for key in ("index-url", "extra-index-url", "find-links"):
                for address in _texts([table.get(key)]):
                    self.target(address, file, folder)

    def _sources(self, content: object, file: str, folder: str) -> None:
        """Looks at the paths and addresses in `content`, by their keys, however deep they are."""
        waiting = [content]
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting += value
            elif isinstance(value, Mapping):
                waiting += value.values()
                for key in _SOURCE_KEYS & value.keys():
                    if isinstance(where := value[key], str):
                        self.target(where, file, folder, project=key != "registry")
                if isinstance(below := value.get("subdirectory"), str):
                    _require_below(below, file)

    def _members(self, pattern: str, file: str, folder: str) -> None:
        components = pattern.split("/")
        literal = next((n for n, part in enumerate(components) if set(part) & set("*?[")), len(components))
        begin = "/".join(components[:literal]) or ("/" if pattern.startswith("/") else ".")
        start = self._path(begin, file, folder)
        if ".." in components[literal:]:
            raise _outside(file, pattern)
        if literal == len(components):
            self.project(start)
        elif self.tree.is_folder(start):
            for name in self._names_in(start):
                inner = f"{start}/{name}"
                if files.kind(self.tree, inner) == "folder" and files.kind(self.tree, f"{inner}/pyproject.toml"):
                    self.project(self.tree.resolve(inner))

    def _names_in(self, folder: str) -> list[str]:
        try:
            return self.tree.names(folder, limit=10 * _MAX_FILES)
        except (UntrustedError, OSError) as error:
            raise files.unreadable(folder, error) from None

    def requirement(self, text: str, file: str, cwd: str, *, editable: bool = False) -> None:
        text = _AFTER_A_REQUIREMENT.split(text, maxsplit=1)[0]
        name, at, target = text.partition("@")
        if at and not set(name) & set("/:"):
            self.target(target.strip(), file, cwd)
        elif editable or "/" in text or "\\" in text or text.startswith("."):
            self.target(text.strip(), file, cwd)

    def target(self, text: str, file: str, folder: str, *, project: bool = True) -> str:
        """Return the path in the repository that `text`, a path or an address, stands for; empty: it is elsewhere."""
        for name in _VARIABLE.findall(text):
            if name != "PROJECT_ROOT" and name not in self.passed:
                raise UserError(
                    "bad-file", f"{file} names the environment variable {excerpt(name)}, which is not passed."
                )
        text, _, fragment = text.replace("${PROJECT_ROOT}", str(self.tree.place / folder)).partition("#")
        for part in fragment.split("&"):
            if part.startswith("subdirectory="):
                _require_below(unquote(part.removeprefix("subdirectory=")), file)
        scheme = _SCHEME.match(text)
        if scheme and scheme[1].lower() != "file":
            return ""
        if scheme:
            text = unquote(urlsplit(text[scheme.start(1) :]).path)
            text = f"/{text.lstrip('/')}" if text.startswith("/") else text
        path = self._path(_EXTRAS.sub("", text.strip()), file, folder)
        if project and self.tree.is_folder(path):
            self.project(path)
        return path

    def _path(self, text: str, file: str, folder: str) -> str:
        path = Path(text)
        if path.is_absolute():
            # As `${PROJECT_ROOT}` makes it; whether it stays there shows when it is resolved.
            if not path.is_relative_to(self.tree.place):
                raise _outside(file, text)
            text, folder = str(path.relative_to(self.tree.place)), ""
        try:
            return self.tree.resolve(f"{folder}/{text}" if folder else text)
        except (UntrustedError, OSError, ValueError):
            raise _outside(file, text) from None

    def is_new(self, file: str) -> bool:
        if file in self._files:
            return False
        self._files.add(file)
        if len(self._files) > _MAX_FILES:
            raise UserError(
                "bad-file", f"More than {_MAX_FILES} files say what is installed, {excerpt(file)} among them."
            )
        return True


def _table(content: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        inner = content.get(key)
        content = inner if isinstance(inner, Mapping) else {}
    return content


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (text for text in value if isinstance(text, str))


def _require_below(path: str, file: str) -> None:
    if path.startswith("/") or ".." in path.split("/"):
        raise _outside(file, path)


def _outside(file: str, path: str) -> UserError:
    return UserError(
        "bad-file",
        f"{file} names '{excerpt(path)}', which is not in the repository. What is installed from this machine must lie "
        "in the repository; links may not leave it.",
    )
