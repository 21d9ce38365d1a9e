"""Registry `dockerhub`: Docker Hub, under whichever of its names."""

from __future__ import annotations

from ._options import HUB, DockerRegistryOptions, base_url
from .oci import OciRegistry


class DockerHubRegistry(OciRegistry[DockerRegistryOptions]):
    """Docker Hub answers 401 for what is not there; that a password is wrong, its token server says."""

    quota_probe = ("ratelimitpreview/test", "latest")

    def address(self, domain: str) -> str:
        return base_url(self.config.url or HUB)
