"""environment.yml, as conda and micromamba read it: channels, conda packages, and a part for pip."""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import evolve, frozen
from ringbinder import UserError
from ringbinder.untrusted import UntrustedTree, excerpt, parse_yaml

from .files import document

# What conda means by the channel "defaults".
_DEFAULTS: Final = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_NAME: Final = re.compile(r"^(?:[^\s:\[]*::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)")
_PYTHON_2: Final = re.compile(r"[\s=~<]+2(?:[.*,\s]|$)")


@frozen
class CondaPackages:
    """What to install into a conda environment."""

    channels: tuple[str, ...] = ()
    """Names, URLs or paths, the most wanted first; empty: what is configured."""
    specs: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    """Lines of a requirements file."""

    def with_python(self) -> CondaPackages:
        """With a spec for Python, which notebooks need even if the file does not name it."""
        named = {match[1].lower() for spec in self.specs if (match := _NAME.match(spec))}
        return self if "python" in named else evolve(self, specs=("python", *self.specs))


def read(tree: UntrustedTree, file: str) -> CondaPackages:
    """Return what the environment.yml `file` of `tree` asks for. Blocks.

    ``name``, ``prefix`` and ``variables`` say nothing about what to install. Raises `UserError`: ``bad-file``,
    or ``unsupported-file`` for Python 2.
    """
    content = document(tree, file, parse_yaml)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise _bad(file, "should have keys such as 'channels:' and 'dependencies:'")
    specs: list[str] = []
    pip: list[str] = []
    for item in _list(content, "dependencies", file):
        if isinstance(item, dict) and list(item) == ["pip"]:
            pip += [_text(line, "pip", file) for line in _list(item, "pip", file)]
        else:
            specs.append(_text(item, "dependencies", file))
    for spec in specs:
        match = _NAME.match(spec)
        if match is None:
            raise _bad(file, f"'{excerpt(spec)}' under 'dependencies' does not begin with the name of a package")
        if match[1].lower() == "python" and _PYTHON_2.match(spec[match.end() :]):
            raise UserError(
                "unsupported-file", f"{file} asks for {excerpt(spec)}: this builder makes Python 3 environments."
            )
    channels = (_text(channel, "channels", file) for channel in _list(content, "channels", file))
    return CondaPackages(expanded(channels), tuple(specs), tuple(pip))


def expanded(channels: Any) -> tuple[str, ...]:
    """`channels` with ``defaults`` spelled out and without ``nodefaults``, which is not one."""
    found: list[str] = []
    for channel in channels:
        if channel != "nodefaults":
            found += _DEFAULTS if channel == "defaults" else [channel]
    return tuple(dict.fromkeys(found))


def _list(content: dict[Any, Any], key: str, file: str) -> list[Any]:
    value = content.get(key)
    # An empty mapping lists nothing, as for conda and repo2docker; of one with entries conda takes the names and
    # drops the versions, and mamba refuses it.
    if value is None or value == {}:
        return []
    if not isinstance(value, list):
        raise _bad(file, f"'{key}' should be a list")
    return value


def _text(value: Any, key: str, file: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _bad(file, f"'{excerpt(value)}' under '{key}' should be one line of text")
    return value.strip()


def _bad(file: str, what: str) -> UserError:
    return UserError("bad-file", f"{file}: {what}.")
