"""The options of the registries: BinderHub's of section `DockerRegistry`, and ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
from attrs import frozen, validators
from ringbinder import Duration, Secret, option
from ringbinder.image_reference import Reference

from ._credentials import host_of

HUB: Final = "docker.io"
"""The host that the names of Docker Hub's images imply."""

_HUB_URL: Final = "https://registry-1.docker.io"


def base_url(address: str) -> str:
    """Where the registry at `address` is asked: scheme, host and perhaps a path, without ``/v1`` or ``/v2``.

    Docker Hub's address for logins means its registry. Without a scheme it is https, on this machine http.
    """
    if not address:
        return ""
    if "://" not in address:
        address = f"{'http' if _loopback(host_of(address)) else 'https'}://{address}"
    host = urlsplit(address).netloc.lower()
    if host in ("index.docker.io", "docker.io", "www.docker.io", "hub.docker.com"):
        return _HUB_URL
    address = address.rstrip("/")
    return address.removesuffix("/v1").removesuffix("/v2")


def _loopback(host: str) -> bool:
    """By docker's rule, which asks these without https."""
    name = host if host.endswith("]") else host.partition(":")[0]
    return name in ("localhost", "[::1]") or host.startswith(("127.", "[::1]:"))


def _address(_: Any, option: attrs.Attribute[str], text: str) -> None:
    parts = urlsplit(text if "://" in text or not text else f"//{text}")
    if "@" in parts.netloc:
        message = "must hold no user name and password; use the options username and password"
        raise ValueError(f"'{option.name}' {message}")
    if parts.scheme not in ("", "http", "https"):
        raise ValueError(f"'{option.name}' must begin with https:// or http://")


def _prefix(_: Any, option: attrs.Attribute[str], text: str) -> None:
    try:
        Reference.parse(f"{text}x".replace("_", "-").lower())
    except ValueError as error:
        raise ValueError(f"'{option.name}' must be the beginning of an image's name: {error}") from None


def default_docker_config() -> Path:
    """Where docker's own client has its configuration."""
    # Not Path.home(), which fails for a user that the machine does not know, as containers have them.
    folder = os.environ.get("DOCKER_CONFIG") or f"{os.environ.get('HOME', '')}/.docker"
    return Path(folder) / "config.json"


@frozen
class DockerRegistryOptions:
    """Section `DockerRegistry`."""

    url: str = option(
        "",
        validator=_address,
        help="Address of the registry; default: `registry.url` of the Helm values, else the host in "
        "`BinderHub.image_prefix`.",
    )
    auth_config_url: str = option(
        "", validator=_address, help="The key of docker's `config.json` with the credentials; default: `url`."
    )
    token_url: str = option(
        "", validator=_address, help="Address of the token server; default: what the registry names."
    )
    username: str = option("", help="User name; default: from docker's `config.json`.")
    password: Secret = option(
        factory=lambda: Secret(""), help="Password or access token; default: from docker's `config.json`."
    )
    docker_config_path: Path | None = option(
        None, help="Docker's `config.json`; default: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`."
    )
    not_found_401: bool | None = option(
        None,
        help="A refusal (401, 403) means that an image is not there, if the password is accepted; default: a "
        "401 that asks for a token does.",
    )
    image_prefix: str = option(
        "",
        also="BinderHub.image_prefix",
        validator=_prefix,
        help="`BinderHub.image_prefix`: says which registry is meant where `url` is not set.",
    )
    remember_found: Duration = option(60.0, help="How long an image that was found is not looked for again.")
    build_if_unreachable: bool = option(False, help="Build when the registry does not answer, instead of failing.")
    retries: int = option(
        2, validator=validators.ge(0), help="How often a request is repeated that got no answer, a 429 or a 5xx."
    )
    retry_delay: Duration = option(0.5, help="Wait before the first repetition; doubled with each.")
    request_timeout: Duration = option(10.0, help="Time limit of one request.")
    timeout: Duration = option(40.0, help="Time limit of looking for an image, with all repetitions.")
    docker_host: str = option(
        "",
        also="LocalRepo2dockerBuild.docker_host",
        env="DOCKER_HOST",
        help="Address of the container engine that `push` takes images from; default: where docker finds it.",
    )
