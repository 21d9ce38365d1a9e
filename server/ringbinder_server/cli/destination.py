"""Where `ringbinder build --to` puts its image: in a registry, or as an OCI image layout in a folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, Self

from attrs import evolve, frozen
from ringbinder.config.binderhub import registry_hosts
from ringbinder.config.loading import Config
from ringbinder.image_reference import Reference, is_docker_hub, is_google
from ringbinder.runtime.paths import Paths

_LAYOUT: Final = "oci:"
_HUB: Final = "docker.io"
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_WORD: Final = re.compile(r"[a-z0-9]+")
_OF_A_REGISTRY: Final = ("auth_config_url", "token_url", "username", "password")
"""Options of section `DockerRegistry` that are of no use, or not to be sent, elsewhere."""


@frozen
class Destination:
    """An image in a registry, or with `folder` in the image layout there."""

    reference: Reference
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """``REGISTRY/NAME[:TAG]`` or, as other programs have it, ``oci:FOLDER[:TAG]``. Raises ValueError."""
        if text.startswith(_LAYOUT):
            return cls._layout(text.removeprefix(_LAYOUT))
        if "://" in text:
            raise ValueError("an image's name has no http:// or https:// before it: write REGISTRY/NAME")
        reference = Reference.parse(text)
        if reference.digest:
            raise ValueError("the digest of an image is known when it is built: leave it out")
        if not reference.domain and "/" not in reference.path:
            raise ValueError("no registry is named: write REGISTRY/NAME, ACCOUNT/NAME for Docker Hub, or oci:FOLDER")
        return cls(evolve(reference, tag=reference.tag or "latest"))

    @classmethod
    def _layout(cls, text: str) -> Self:
        path, colon, tag = text.rpartition(":")
        if not colon or not _TAG.fullmatch(tag):  # as in C:/folder, a name of folders may have a colon
            path, tag = text, "latest"
        if not path:
            raise ValueError("no folder is named: write oci:FOLDER")
        folder = Path(path).expanduser().absolute()
        # A repository of its own name, so that messages about the image name the folder.
        name = "-".join(_WORD.findall(folder.name.lower()))[:100].strip("-") or "image"
        return cls(Reference("", f"oci/{name}", tag), folder)

    def __str__(self) -> str:
        return f"{_LAYOUT}{self.folder}:{self.reference.tag}" if self.folder else str(self.reference)

    @property
    def image(self) -> str:
        """What the image is called by registry and builder."""
        return str(self.reference)

    def sets(self, config: Config) -> tuple[str, ...]:
        """What is to be set in `config`, in the form of ``--set``, so that its builds go there.

        What it says of a registry holds for that registry alone.
        """
        launcher = config.sections.tree.sections.get("Ringbinder", {}).get("launcher")
        sets = ["Ringbinder.builder=layers"]
        if launcher == "local":  # it runs folders, and nothing is launched
            sets.append("Ringbinder.launcher=jupyterhub")
        return (*sets, *(self._into_folder(config) if self.folder else self._into_registry(config)))

    def _into_registry(self, config: Config) -> list[str]:
        domain = self.reference.domain or _HUB
        own = config.binderhub.image_prefix
        same = _one(domain) in {_one(host) for host in _hosts(config)}
        if same and config.sections.tree.sections.get("Ringbinder", {}).get("registry") != "local":
            return [] if own else [self._prefix]
        registry = "dockerhub" if is_docker_hub(domain) else "gcr" if is_google(domain) else "oci"
        sets = [f"Ringbinder.registry={registry}", self._prefix]
        if not same and ("DockerRegistry" in config.sections.tree.sections or config.registry_credentials):
            sets += [f"DockerRegistry.url={domain}", *(f"DockerRegistry.{option}=" for option in _OF_A_REGISTRY)]
        return sets

    def _into_folder(self, config: Config) -> list[str]:
        sections, credentials = config.sections.tree.sections, config.registry_credentials
        repositories = json.dumps({self.reference.path: str(self.folder)})
        sets = ["Ringbinder.registry=oci-layout", "BinderHub.image_prefix="]
        sets.append(f"OciLayoutRegistry.repositories={repositories}")
        if not sections.get("OciLayoutRegistry", {}).get("folder"):
            settings = config.settings
            cache = Paths.of(settings.state_folder, settings.cache_folder).cache / "oci-layouts"
            sets.append(f"OciLayoutRegistry.folder={json.dumps(str(cache))}")
        url = sections.get("DockerRegistry", {}).get("url") or (credentials and credentials.url)
        if not url and (hosts := _hosts(config)):  # else a password would be taken for that of Docker Hub
            sets.append(f"DockerRegistry.url={hosts[0]}")
        return sets

    @property
    def _prefix(self) -> str:
        return f"BinderHub.image_prefix={self.reference.name}-"


def _hosts(config: Config) -> list[str]:
    """The registry that a configuration is about, under all the names that it has there."""
    tree, credentials = config.sections.tree, config.registry_credentials
    hosts = list(registry_hosts(tree.sections, credentials.url if credentials else "").values())
    if not hosts and (credentials or "DockerRegistry" in tree.sections):
        return [_HUB]
    return hosts


def _one(host: str) -> str:
    return _HUB if is_docker_hub(host) else host.lower()
