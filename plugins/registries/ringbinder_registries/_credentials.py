"""Who we are to a registry: from the options, from docker's `config.json`, or from a credential helper.

Source: docker's configuration file (`auths`, `credHelpers`, `credsStore`) and its protocol for the programs
``docker-credential-*``: the registry's address on stdin, JSON on stdout.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import frozen
from ringbinder import ConfigError, Logger, Secret, TransientError, process
from ringbinder.image_reference import is_docker_hub
from ringbinder.untrusted import MalformedError, parse_json

HUB_KEY: Final = "https://index.docker.io/v1/"
"""The address under which docker keeps the credentials for Docker Hub."""

IDENTITY: Final = "<token>"
"""The user name that says, by docker's convention, that the password is an identity token."""

_HELPER: Final = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_HELPER_SECONDS: Final = 20.0
_NOT_FOUND: Final = "credentials not found"


@frozen
class Credentials:
    """`registry` is the address that a login names; `identity`: the password is an OAuth2 refresh token."""

    registry: str
    username: str
    password: Secret
    identity: bool = False

    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password.reveal()}".encode()).decode()

    def login(self) -> Secret:
        """As `Target.credentials` has it."""
        login = {"registry": self.registry, "username": self.username, "password": self.password.reveal()}
        return Secret(json.dumps(login))


def host_of(address: str) -> str:
    """Host and port of a URL or of a key of `auths`; ``docker.io`` for all of Docker Hub's names."""
    try:
        host = urlsplit(address if "://" in address else f"//{address}").netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
    return "docker.io" if is_docker_hub(host) else host


def login_name(address: str) -> str:
    """The registry's name for a docker login."""
    host = host_of(address)
    return HUB_KEY if host == "docker.io" else host


@frozen
class DockerConfig:
    """Docker's `config.json`, read again each time: after a renewal Ringbinder need not be restarted."""

    path: Path
    log: Logger

    async def find(self, address: str) -> Credentials | None:
        """The credentials for the registry at `address`; None if there are none.

        Raises ConfigError if the file or a credential helper cannot be used, TransientError if a helper
        takes too long.
        """
        content = await asyncio.to_thread(self._read)
        registry, host = login_name(address), host_of(address)
        for key, helper in self._mapping(content, "credHelpers").items():
            if host_of(key) == host:
                return await self._ask(helper, key, registry)
        if store := content.get("credsStore"):
            try:
                if found := await self._ask(store, registry, registry):
                    return found
            except ConfigError as error:
                # A store is for every registry, also for those that want no credentials.
                self.log.warning("docker's credential store cannot be asked", reason=str(error))
        auths = self._mapping(content, "auths")
        keys = [key for key in auths if host_of(key) == host]
        keys.sort(key=lambda key: key.rstrip("/") != address.rstrip("/"))
        for key in keys:
            if found := self._entry(key, auths[key], registry):
                return found
        return None

    def _read(self) -> Mapping[str, Any]:
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._wrong(f"it cannot be read: {error.strerror}") from None
        except ValueError:
            raise self._wrong("it is no JSON") from None
        if not isinstance(content, dict):
            raise self._wrong("it is no JSON object")
        return content

    def _mapping(self, content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        found = content.get(name) or {}
        if not isinstance(found, dict):
            raise self._wrong(f"`{name}` is no object")
        return found

    def _entry(self, key: str, entry: Any, registry: str) -> Credentials | None:
        """One value of `auths`; docker leaves an empty one where a store has the credentials."""
        if not isinstance(entry, dict):
            raise self._wrong(f"`auths`: the value of {key} is no object")
        fields = {name: entry.get(name) or "" for name in ("auth", "username", "password", "identitytoken")}
        if not all(isinstance(value, str) for value in fields.values()):
            raise self._wrong(f"`auths`: the values of {key} must be text")
        username, password = fields["username"], fields["password"]
        if fields["auth"]:
            try:
                decoded = base64.b64decode(fields["auth"], validate=True).decode()
            except ValueError:
                raise self._wrong(f"`auths`: `auth` of {key} is not base64") from None
            username, colon, password = decoded.partition(":")
            if not colon:
                raise self._wrong(f"`auths`: `auth` of {key} is not base64 of user:password")
        if fields["identitytoken"]:
            return Credentials(registry, IDENTITY, Secret(fields["identitytoken"]), identity=True)
        return Credentials(registry, username, Secret(password)) if password else None

    async def _ask(self, helper: Any, server: str, registry: str) -> Credentials | None:
        if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
            raise self._wrong("the name of a credential helper is one word")
        program = f"docker-credential-{helper}"
        try:
            # With all of our environment: a helper finds there what it needs to renew its credentials.
            done = await process.run(
                [program, "get"], env=os.environ, input=server, timeout=_HELPER_SECONDS, output_limit=1_000_000
            )
        except TimeoutError as error:
            raise TransientError(str(error)) from None
        except OSError as error:
            raise self._wrong(f"{program} cannot be started: {error.strerror}") from None
        if done.returncode:
            reason = (done.output.strip() or done.errors.strip()).splitlines()[:1]
            if reason and _NOT_FOUND in reason[0]:
                return None
            why = f": {reason[0][:200]}" if reason else ""
            raise self._wrong(f"{program} failed with exit code {done.returncode} for {server}{why}")
        try:
            answer = parse_json(done.output.encode())
            username, password = answer["Username"], answer["Secret"]
            return Credentials(registry, str(username), Secret(str(password)), identity=username == IDENTITY)
        except (MalformedError, KeyError, TypeError):
            raise self._wrong(f"{program} gave no credentials that can be understood for {server}") from None

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError([f"DockerRegistry.docker_config_path: {self.path}: {what}"])
