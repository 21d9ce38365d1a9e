"""Where packages may come from: what the operator has named, with credentials that no other host gets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from attrs import field, frozen
from ringbinder import ConfigError
from ringbinder.concurrency import error_summary
from ringbinder_recipe.conda import without_credentials
from ringbinder_recipe.uv import configuration_files

PYPI: Final = "https://pypi.org/simple"
_PYPI_NAMES: Final = re.compile(r"https?://(?:www\.)?pypi\.(?:python\.)?org/simple")
_PYPI_FILES: Final = "https://files.pythonhosted.org"
_VARIABLES: Final = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
_IN_UV_TOML: Final = ("index-url", "extra-index-url")
_OF_THIS_MACHINE: Final = re.compile(
    r"UV_(?:CACHE_DIR|PYTHON_INSTALL_DIR|NO_PROGRESS|CONCURRENT_.*|.*(?:TOKEN|PASSWORD|USERNAME))"
)
_USERINFO: Final = re.compile(r"//[^/\s\"']*@")
_PORTS: Final = {"http": 80, "https": 443}


@frozen
class Sources:
    """Indexes and channels of the operator's, as `sources` reads them."""

    indexes: Mapping[str, str] = field(repr=False)
    """Those that repositories may name, without credentials, and how uv is to reach each."""
    channels: tuple[str, ...] = field(repr=False)
    """Names and addresses of conda channels, the first most wanted."""
    alias: str = field(repr=False)
    """Address below which a channel's name is searched for."""
    digest: str
    """Of everything here, and of uv's settings, that can change which packages are taken; no credential is in it."""
    named: frozenset[str]
    """Origins that the operator has named: the server may reach them wherever they are."""
    logins: Mapping[str, str] = field(repr=False)
    """Values of `Authorization` by origin."""
    prefixes: Mapping[str, str] = field(repr=False)
    """Addresses with which addresses of packages begin, and what stands in their place for a download."""
    public: frozenset[str] = frozenset()
    """Origins of package indexes that all may read."""

    def index(self, address: str) -> str | None:
        """Return how uv is to reach the index `address`, empty for the operator's own; None: it is not allowed."""
        plain = _plain(address)
        return "" if _PYPI_NAMES.fullmatch(plain) else self.indexes.get(plain)

    def allows(self, address: str) -> bool:
        """Whether a repository may name the file at `address`: its host is one of the operator's."""
        return origin(address) in self.named

    def is_shared(self, address: str) -> bool:
        """Whether the file at `address` of an index is one that all may read."""
        return self.is_open(address) and (not self.logins or origin(address) in self.public)

    def is_open(self, address: str) -> bool:
        """Whether `address` is reached without a login or token of the operator's."""
        return origin(address) not in self.logins and not address.startswith(tuple(self.prefixes))

    def request(self, address: str) -> tuple[str, dict[str, str]]:
        """Return the address to download from, and the headers of this one request."""
        login = self.logins.get(origin(address))
        for plain, real in self.prefixes.items():
            if address.startswith(plain):
                address = real + address.removeprefix(plain)
        return address, {"Authorization": login} if login else {}


def sources(
    uv_env: Mapping[str, str], indexes: Iterable[str] = (), channels: Iterable[str] = (), alias: str = ""
) -> Sources:
    """Return the sources of `uv_env`, which uv sees, and of the builder's options. Blocks.

    Raises `ConfigError` if uv's own configuration is no such file.
    """
    configs = dict(_uv_configs(uv_env))
    own = list(_indexes_in_variables(uv_env))
    for file, config in configs.items():
        try:
            own += _indexes_in(config)
        except (tomllib.TOMLDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                [f"{file}, which uv is configured with, cannot be read: {error_summary(error)}"]
            ) from None
    allowed = [*own, *indexes]
    conda = [alias, *channels]
    settings = {name: _redacted(value) for name, value in uv_env.items() if name.startswith("UV_")}
    settings = {name: value for name, value in settings.items() if not _OF_THIS_MACHINE.fullmatch(name)}
    facts = [
        settings,
        list(map(_redacted, configs.values())),
        [_plain(address) for address in allowed],
        list(map(without_credentials, conda)),
    ]
    logins = {origin(address): login for address in (*allowed, *conda) if (login := _login(address))}
    named = {origin(address) for address in (PYPI, _PYPI_FILES, *allowed, *conda)} - {""}
    return Sources(
        {_plain(address): address for address in allowed},
        tuple(channels),
        alias,
        hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        frozenset(named),
        logins,
        _prefixes(alias, conda),
        frozenset(origin(address) for address in (PYPI, _PYPI_FILES, *allowed)) - logins.keys(),
    )


def origin(address: str) -> str:
    """Return scheme, host and port of `address`; empty if it has none, or none that can be downloaded from."""
    try:
        parts = urlsplit(address)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if port and parts.hostname else ""


def _prefixes(alias: str, conda: Iterable[str]) -> dict[str, str]:
    """By the address that packages of a channel are known by: the channel's own, with its token."""
    real = [address if "://" in address else f"{alias.rstrip('/')}/{address}" for address in conda if address]
    pairs = ((without_credentials(address), _without_login(address)) for address in real)
    return {f"{plain.rstrip('/')}/": f"{address.rstrip('/')}/" for plain, address in pairs if plain != address}


def _indexes_in_variables(env: Mapping[str, str]) -> Iterator[str]:
    for variable in _VARIABLES:
        for word in env.get(variable, "").split():
            yield word.partition("=")[2] if re.match(r"[\w.-]+=\w+://", word) else word


def _indexes_in(config: str) -> Iterator[str]:
    content: dict[str, Any] = tomllib.loads(config)
    for table in (content, content.get("pip", {})):
        for index in table.get("index", []):
            yield index["url"]
        for key in _IN_UV_TOML:
            value = table.get(key, [])
            yield from [value] if isinstance(value, str) else value


def _uv_configs(env: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """The operator's configuration files of uv that are there, and their content."""
    for file in configuration_files(env):
        with contextlib.suppress(FileNotFoundError):
            yield file, file.read_text()


def _login(address: str) -> str:
    parts = urlsplit(address)
    if parts.username is None:
        return ""
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def _without_login(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _plain(address: str) -> str:
    return _without_login(address).partition("#")[0].rstrip("/")


def _redacted(text: str) -> str:
    return _USERINFO.sub("//", text)
