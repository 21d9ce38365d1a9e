"""How uv is called: its environment, and which Python it is asked for."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from attrs import frozen
from ringbinder import Paths, UserError, process

_LIST_SECONDS = 60
_LOGIN: Final = re.compile("UV_INDEX_(.+)_(USERNAME|PASSWORD)")
_NAMED_INDEXES: Final = frozenset({"UV_DEFAULT_INDEX", "UV_INDEX"})
"""Variables with words such as ``corp=https://packages.example/simple``."""
_NOT_IN_VARIABLES: Final = re.compile("[^A-Z0-9]")


@frozen
class Uv:
    """The uv of the PyPI package, with a cache of Ringbinder's own."""

    cache: Path
    pythons: Path
    """Where the Pythons that uv fetches are kept: as precious as the images that use them."""
    passed: tuple[str, ...] = ()
    """Names of further variables of ours that uv may see."""

    @classmethod
    def of(cls, paths: Paths, cache: str = "", passed: Sequence[str] = (), *, apart: bool = False) -> Uv:
        """Return one with the folders of `paths`, `apart` from those that code outside of a sandbox can change."""
        suffix = "-sandbox" if apart else ""
        folder = Path(cache) if cache else paths.cache / f"uv{suffix}"
        return cls(folder, paths.state / f"python{suffix}", tuple(passed))

    def command(self, *arguments: str | Path) -> list[str]:
        import uv

        return [uv.find_uv_bin(), *(str(argument) for argument in arguments)]

    def env(self, home: Path) -> dict[str, str]:
        """What uv sees. The operator's own uv settings (index, its credentials, ...) are among it.

        What uv runs to build a source distribution sees the same.
        """
        return _bound(self._env(home))[0]

    def without_address(self) -> list[str]:
        """Names of indexes, as in variables, for which the operator has a login that uv does not see."""
        return _bound(self._env(Path()))[1]

    def _env(self, home: Path) -> dict[str, str]:
        ours = {
            name: value
            for name, value in os.environ.items()
            if (name.startswith("UV_") and name not in _DECIDED_HERE) or name in self.passed
        }
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        if (config / "uv" / "uv.toml").is_file():
            ours["XDG_CONFIG_HOME"] = str(config)
        return process.minimal_env() | {"UV_PYTHON_INSTALL_DIR": str(self.pythons)} | ours | {
            "HOME": str(home),
            "UV_CACHE_DIR": str(self.cache),
            "UV_NO_PROGRESS": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }  # fmt: skip

    def python_for(self, version: str, specifier: str) -> str:
        """What to give to ``uv venv --python``: our own interpreter wherever it fits.

        `version` is runtime.txt's and wins; a `specifier` that excludes it is a `UserError` (``bad-file``).
        """
        from packaging.specifiers import SpecifierSet
        from packaging.version import Version

        ours = platform.python_version()
        allowed = SpecifierSet(specifier)
        if not version:
            return specifier if ours not in allowed else self._our_interpreter()
        if len(Version(version).release) == 3 and version not in allowed:
            raise UserError(
                "bad-file",
                f"runtime.txt asks for Python {version}, pyproject.toml for {specifier}: they exclude each other.",
            )
        return self._our_interpreter() if f"{ours}.".startswith(f"{version}.") else version

    @staticmethod
    def _our_interpreter() -> str:
        # The one below a virtual environment: an image must not depend on where Ringbinder is installed.
        base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return str(base) if base.exists() else sys.executable

    async def pythons_there(self, home: Path) -> list[str]:
        """Versions of the Pythons that uv finds on this machine, newest first."""
        found = await process.run(
            self.command("python", "list", "--only-installed", "--output-format", "json"),
            env=self.env(home), timeout=_LIST_SECONDS,
        )  # fmt: skip
        try:
            versions = {tuple(map(int, entry["version"].split("."))) for entry in json.loads(found.output)}
        except (ValueError, KeyError, TypeError):
            return []
        return [".".join(map(str, version)) for version in sorted(versions, reverse=True)]


def configuration_files(env: Mapping[str, str]) -> list[Path]:
    """Return where uv, which sees the variables `env`, looks for the operator's configuration."""
    if named := env.get("UV_CONFIG_FILE"):
        return [Path(named)]
    folders = [folder for folder in (env.get("XDG_CONFIG_HOME"), "/etc/xdg") if folder]
    return [*(Path(folder, "uv", "uv.toml") for folder in folders), Path("/etc/uv/uv.toml")]


def _bound(env: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return `env` with the logins of named indexes in their addresses, and the names without an address.

    uv sends what UV_INDEX_CORP_PASSWORD has to any address that a repository, or a package that it needs, calls
    "corp"; what an address has, it sends to the host of that address alone.
    """
    logins: dict[str, dict[str, str]] = {}
    for name, value in env.items():
        if match := _LOGIN.fullmatch(name):
            logins.setdefault(match[1], {})[match[2]] = quote(value, safe="")
    bound = {name: value for name, value in env.items() if not _LOGIN.fullmatch(name)}
    addressed: set[str] = set()
    for variable in _NAMED_INDEXES & bound.keys():
        words = bound[variable].split()
        for number, word in enumerate(words):
            name, _, address = word.partition("=")
            index, parts = _NOT_IN_VARIABLES.sub("_", name.upper()), urlsplit(address)
            if index in logins and parts.netloc:
                addressed.add(index)
                login = logins[index].get("USERNAME", "")
                if password := logins[index].get("PASSWORD"):
                    login += f":{password}"
                place = f"{login}@{parts.netloc.rpartition('@')[2]}"
                words[number] = f"{name}={parts._replace(netloc=place).geturl()}"
        bound[variable] = " ".join(words)
    return bound, sorted(logins.keys() - addressed)


# Left to the operator these would move or break the environments that are made.
_DECIDED_HERE = frozenset(
    {
        "UV_CACHE_DIR", "UV_NO_CACHE", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_WORKING_DIR",
        "UV_WORKING_DIRECTORY", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES",
        "UV_TARGET", "UV_PREFIX", "UV_VENV_SEED",
        "UV_VENV_CLEAR", "UV_ENV_FILE", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_REQUIREMENT", "UV_DRY_RUN",
        "UV_INTERNAL__PARENT_INTERPRETER", "UV_RUN_RECURSION_DEPTH", "UV_NO_PROGRESS",
    }
)  # fmt: skip
