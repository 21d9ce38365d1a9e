"""The container engine that repo2docker builds with, asked over its API."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from ringbinder import PluginError, TransientError, redact

_SECONDS: Final = 60.0
_NO_ANSWER: Final = 900  # aiodocker's, where no one listens
_CONFLICT: Final = 409
_MISSING: Final = 404


def default_sockets() -> list[Path]:
    """Where an engine's socket usually is; the registries' push looks there too."""
    places = ["/run/docker.sock", "/var/run/docker.sock"]
    if home := os.environ.get("HOME"):
        places.append(f"{home}/.docker/run/docker.sock")
    return [Path(place) for place in places]


def address(configured: str) -> str:
    """The engine's address: the `configured` one, else that of the first usual socket that is there."""
    if configured:
        return configured
    sockets = default_sockets()
    found = next((socket for socket in sockets if socket.exists()), sockets[0])
    return f"unix://{found}"


@frozen
class BuiltImage:
    """An image of the engine's, in the words of its API."""

    id: str
    size: int
    """Bytes, those that it shares with others included."""
    created: float
    """Unix seconds."""
    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}


@frozen
class DockerEngine:
    """The engine at `address`. Every call raises TransientError if it does not answer, and says what to do."""

    plugin: str
    address: str

    async def info(self) -> Mapping[str, Any]:
        """What the engine says of itself; source: docker's API, `GET /info`."""
        async with self._client() as client:
            return dict(await client.system.info())

    async def find(self, name: str) -> BuiltImage | None:
        """The image of that name."""
        async with self._client() as client:
            if (found := await self._unless_missing(client.images.inspect(name))) is None:
                return None
        return BuiltImage(str(found["Id"]), int(found["Size"]), 0.0, tuple(found.get("RepoTags") or ()))

    async def images(self) -> Sequence[BuiltImage]:
        """All images but those that only others are made of."""
        async with self._client() as client:
            listed = await client.images.list()
        return [
            BuiltImage(
                image["Id"], image["Size"], float(image["Created"]),
                tuple(name for name in image.get("RepoTags") or () if name != "<none>:<none>"),
                image.get("Labels") or {},
            )
            for image in listed
        ]  # fmt: skip

    async def used(self) -> frozenset[str]:
        """Ids of the images of all containers, also of those that have ended."""
        async with self._client() as client:
            containers = await client.containers.list(all=True)
        return frozenset(str(container._container["ImageID"]) for container in containers)

    async def bytes_of_images(self) -> int:
        """What all images take together, what they share counted once."""
        async with self._client() as client:
            response = await client._query_json("system/df")
        return int(response["LayersSize"])

    async def remove(self, image: BuiltImage) -> bool:
        """Removes it under all its names; False if the engine keeps it, since something uses it."""
        import aiodocker

        async with self._client() as client:
            for name in image.names or (image.id,):
                try:
                    await self._unless_missing(client.images.delete(name))
                except aiodocker.DockerError as error:
                    if error.status != _CONFLICT:
                        raise
                    return False
        return True

    async def drop_build_cache(self) -> int:
        """Removes what builds have left for later ones; returns the bytes that it took."""
        async with self._client() as client:
            response = await client._query_json("build/prune", "POST", params={"all": "true"})
        return int((response or {}).get("SpaceReclaimed") or 0)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        try:
            import aiodocker
            import aiohttp
        except ImportError:
            message = "the builder `docker` needs aiodocker: pip install 'ringbinder[docker]'"
            raise PluginError(self.plugin, message) from None
        try:
            limit = aiohttp.ClientTimeout(total=_SECONDS)
            async with aiodocker.Docker(self.address, timeout=limit) as client:
                yield client
        except aiodocker.DockerError as error:
            if error.status == _CONFLICT:
                raise
            if error.status == _NO_ANSWER:
                raise self._silent(error.message) from None
            raise TransientError(f"The container engine at {self.address}: {redact(error.message)}") from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise self._silent(error) from None

    def _silent(self, error: object) -> TransientError:
        return TransientError(
            f"The container engine at {self.address} does not answer ({redact(str(error)) or 'no answer'}): "
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        """What the operator should do, as far as it is known here."""
        path = Path(self.address.removeprefix("unix://"))
        if not self.address.startswith("unix://"):
            return "check LocalRepo2dockerBuild.docker_host, and that the engine listens there"
        if not path.exists():
            return (
                "there is no such socket; start the engine (`systemctl start docker`), or say where its socket "
                "is with LocalRepo2dockerBuild.docker_host"
            )
        if not os.access(path, os.R_OK | os.W_OK):
            return "this user may not use the socket; add it to the group that owns it (`usermod -aG docker USER`)"
        return "the socket is there, but no one listens; start the engine again (`systemctl restart docker`)"

    @staticmethod
    async def _unless_missing(answer: Any) -> Any:
        import aiodocker

        try:
            return await answer
        except aiodocker.DockerError as error:
            if error.status != _MISSING:
                raise
            return None
