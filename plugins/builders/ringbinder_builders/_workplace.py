"""The folder of one build: its credentials, its settings, what it fetches; gone with the build, or at the next start.

A build's programs read credentials from files here that only this user can read, never by an argument or a
variable: those other processes can see. These files lie in a folder of a name that no one can guess: repo2docker puts
the repository beside it, and shows what a link such as ``apt.txt -> ../../docker/config.json`` leads to.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen
from ringbinder import ConfigError, Secret
from ringbinder.files import temporary_folder

from .repo2docker import docker_auths, git_configuration

_NOT_FOR_BUILDS: Final = frozenset({"currentContext", "credHelpers", "credsStore"})


@frozen
class Workplace:
    folder: Path
    private: str = field(factory=lambda: secrets.token_hex(16), init=False)
    """Name of the folder of what the repository must not find."""

    @property
    def content(self) -> Path:
        """Where a provider puts a repository's content."""
        return self._made("content")

    def environment(self) -> dict[str, str]:
        """The variables by which a build's programs keep to this folder."""
        return {
            "HOME": str(self._made(f"{self.private}/home")),
            "TMPDIR": str(self._made("tmp")),
            "DOCKER_CONFIG": str(self._made(f"{self.private}/docker")),
            "GIT_TERMINAL_PROMPT": "0",
        }

    def keep_git_credentials(self, url: str, credentials: Secret) -> None:
        """Git asks here when the host of `url` wants to know who it is; other hosts get nothing."""
        secret = self._private("git-credentials", credentials.reveal())
        self._private("home/.gitconfig", git_configuration(url, shlex.quote(str(secret))))

    def keep_docker_config(self, settings: Mapping[str, Any], login: Secret | None) -> None:
        """Docker's client has `settings`, and `login` (as `Target` has it) for images that a build begins with."""
        settings = {name: value for name, value in settings.items() if name not in _NOT_FOR_BUILDS}
        if login:
            settings["auths"] = {**settings.get("auths", {}), **docker_auths(login)}
        self._private("docker/config.json", json.dumps(settings))

    def _made(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _private(self, name: str, text: str) -> Path:
        path = self.folder / self.private / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
        return path


@asynccontextmanager
async def workplace(parent: Path) -> AsyncIterator[Workplace]:
    """A new folder in `parent` that only this user can look into, removed in the end."""
    async with temporary_folder(parent) as folder:
        yield Workplace(folder)


def docker_settings(path: Path, *, logins: bool) -> dict[str, Any]:
    """Docker's `config.json` at `path`, with its `logins` or without, and where the plugins beside it are.

    A missing file has no settings. Raises ConfigError.
    """
    try:
        settings = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError([f"LocalRepo2dockerBuild.docker_config_path: {path}: {error}"]) from None
    if not isinstance(settings, dict):
        raise ConfigError([f"LocalRepo2dockerBuild.docker_config_path: {path} holds no JSON object"])
    if not logins:
        settings.pop("auths", None)
    plugins = path.parent / "cli-plugins"
    if plugins.is_dir():
        settings["cliPluginsExtraDirs"] = [*settings.get("cliPluginsExtraDirs", ()), str(plugins)]
    return settings
