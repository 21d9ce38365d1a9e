"""pixi.toml: the default environment of a workspace, as conda packages and lines of a requirements file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ringbinder import UserError
from ringbinder.untrusted import UntrustedTree, excerpt, parse_toml

from .condafile import CondaPackages
from .files import document


def read(tree: UntrustedTree, file: str, platform: str) -> CondaPackages:
    """Return what the pixi.toml `file` of `tree` asks for on the conda platform `platform` (``linux-64``). Blocks.

    Features, environments other than the default one, tasks and activation are not read. Raises `UserError`:
    ``bad-file``, or ``unsupported-file`` if the workspace is not for this platform.
    """
    content = document(tree, file, parse_toml)
    try:
        workspace = content.get("workspace", content.get("project", {}))
        platforms = workspace.get("platforms", [])
        channels = tuple(_channel(channel) for channel in workspace.get("channels", []))
        tables = [content, *(content.get("target", {}).get(name, {}) for name in _targets(platform))]
        specs: dict[str, str] = {}
        pip: dict[str, str] = {}
        for table in tables:
            specs |= {name: _spec(name, wish) for name, wish in table.get("dependencies", {}).items()}
            pip |= {name: _line(name, wish) for name, wish in table.get("pypi-dependencies", {}).items()}
        fits = not platforms or platform in platforms
        if not all(line.isprintable() for line in (*specs.values(), *pip.values(), *channels)):
            raise ValueError("an entry goes over several lines")  # noqa: TRY301 - as the others
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError("bad-file", f"{file} has not the form of a pixi.toml ({excerpt(str(error))}).") from None
    if not fits:
        named = excerpt(", ".join(map(str, platforms)))
        raise UserError("unsupported-file", f"{file} is for {named}; this machine is {platform}.")
    return CondaPackages(channels, tuple(specs.values()), tuple(pip.values()))


def _targets(platform: str) -> Iterator[str]:
    """From the general to the particular: a later one overrides."""
    family = platform.partition("-")[0]
    if family in ("linux", "osx"):
        yield "unix"
    yield {"osx": "osx", "win": "win"}.get(family, family)
    yield platform


def _channel(channel: str | Mapping[str, Any]) -> str:
    return channel if isinstance(channel, str) else str(channel["channel"])


def _spec(name: str, wish: str | Mapping[str, Any]) -> str:
    if isinstance(wish, str):
        return f"{name} {wish}"
    if unknown := wish.keys() - {"version", "build", "channel"}:
        raise ValueError(f"{name}: this builder does not know {', '.join(sorted(unknown))}")
    channel = f"{wish['channel']}::" if wish.get("channel") else ""
    return f"{channel}{name} {wish.get('version', '*')} {wish.get('build', '')}".strip()


def _line(name: str, wish: str | Mapping[str, Any]) -> str:
    if isinstance(wish, str):
        wish = {"version": wish}
    extras = f"[{','.join(wish['extras'])}]" if wish.get("extras") else ""
    if path := wish.get("path"):
        path = path if "/" in path else f"./{path}"
        return f"{'-e ' if wish.get('editable') else ''}{path}{extras}"
    if url := wish.get("git"):
        ref = next((f"@{wish[key]}" for key in ("rev", "tag", "branch") if wish.get(key)), "")
        return f"{name}{extras} @ git+{url}{ref}"
    if url := wish.get("url"):
        return f"{name}{extras} @ {url}"
    version = str(wish["version"])
    return f"{name}{extras}{'' if version == '*' else version}"
