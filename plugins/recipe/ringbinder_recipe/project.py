"""A pyproject.toml without a build system: what it depends on, and what it asks of uv."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen
from ringbinder import Declined, UserError
from ringbinder.untrusted import excerpt

_FILE: Final = "pyproject.toml"
_WITHOUT_EFFECT: Final = frozenset(
    {
        "build-backend", "build-constraint-dependencies", "cache-dir", "cache-keys", "check-url", "compile-bytecode",
        "concurrent-builds", "concurrent-downloads", "concurrent-installs", "config-settings",
        "config-settings-package", "conflicts", "constraint-dependencies", "default-groups", "dependency-groups",
        "dev-dependencies", "environments", "exclude-newer", "extra-build-dependencies", "extra-build-variables",
        "extra-index-url", "fork-strategy", "index", "index-url", "link-mode", "managed", "no-build",
        "no-build-isolation", "no-build-isolation-package", "no-build-package", "no-cache", "no-progress",
        "override-dependencies", "package", "pip", "prerelease", "preview", "publish-url", "pypy-install-mirror",
        "python-downloads", "python-install-mirror", "python-preference", "reinstall", "reinstall-package",
        "required-environments", "required-version", "resolution", "trusted-publishing", "upgrade", "upgrade-package",
        "workspace",
    }
)  # fmt: skip
"""Settings that are read here, or that change nothing of which wheels are taken; any other one is another builder's."""
_STRATEGIES: Final = {
    "prerelease": ("disallow", "allow", "if-necessary", "explicit", "if-necessary-or-explicit"),
    "resolution": ("highest", "lowest", "lowest-direct"),
}
_MOMENT: Final = re.compile(r"[0-9A-Z][0-9A-Za-z:.+ -]{0,39}")


@frozen
class ProjectDependencies:
    """As lines of requirements files, and as arguments for uv."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def dependencies(content: Mapping[str, Any]) -> ProjectDependencies | Declined:
    """Return what the pyproject.toml with this `content` names. Raises `UserError` (``bad-file``)."""
    project = _table(content, "project")
    if "dependencies" in _texts(project, "dynamic"):
        return Declined(f"dependencies of {_FILE} that code makes")
    uv = _table(_table(content, "tool"), "uv")
    pip = _table(uv, "pip")
    if other := sorted(uv.keys() - _WITHOUT_EFFECT) or sorted(f"pip.{key}" for key in pip):
        return Declined(f"tool.uv.{excerpt(other[0])} in {_FILE}")
    indexes = list[str]()
    for index in _tables(uv, "index"):
        if index.get("explicit") or not isinstance(index.get("url"), str):
            return Declined(f"an index for single packages in {_FILE}")
        indexes.append(f"{'--index-url' if index.get('default') else '--extra-index-url'} {index['url']}")
    if isinstance(address := uv.get("index-url"), str):
        indexes.append(f"--index-url {address}")
    indexes += [f"--extra-index-url {address}" for address in _texts(uv, "extra-index-url")]
    arguments = list[str]()
    for key, values in _STRATEGIES.items():
        if (value := uv.get(key)) is not None:
            if value not in values:
                raise UserError("bad-file", f"{_FILE}: tool.uv.{key} is '{excerpt(value)}'; expected one of {values}.")
            arguments += [f"--{key}", value]
    if (newest := uv.get("exclude-newer")) is not None:
        if not isinstance(newest, str) or not _MOMENT.fullmatch(newest):
            raise UserError("bad-file", f"{_FILE}: tool.uv.exclude-newer is '{excerpt(newest)}'; expected a date.")
        arguments += ["--exclude-newer", newest]
    return ProjectDependencies(
        (*indexes, *_texts(project, "dependencies")),
        tuple(_texts(uv, "constraint-dependencies")),
        tuple(_texts(uv, "override-dependencies")),
        tuple(arguments),
    )


def _table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise _bad(key, "a table")
    return value


def _tables(content: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _bad(key, "an array of tables")
    yield from value


def _texts(content: Mapping[str, Any], key: str) -> list[str]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item.isprintable() for item in value):
        raise _bad(key, "an array of texts of one line")
    return value


def _bad(key: str, expected: str) -> UserError:
    return UserError("bad-file", f"{_FILE}: '{key}' should be {expected}.")
