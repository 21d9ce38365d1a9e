"""Pushing an image that a container engine on this machine holds, over the engine's API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, evolve, field, frozen
from ringbinder import Clock, ConfigError, CredentialsError, Image, Log, PluginError, Secret, TransientError, redact
from ringbinder.image_reference import Reference

from ._credentials import IDENTITY, host_of

_BETWEEN: Final = 0.5
_NO_ENGINE: Final = 900  # aiodocker's, where no one listens
_REFUSED: Final = (
    "denied", "unauthorized", "authentication required", "no basic auth credentials", "forbidden",
)  # fmt: skip
_MISSING: Final = "does not exist locally"


@define
class Progress:
    """How far each layer is, reported to `log` at most every half a second.

    Source: the engine's stream of push messages, and the `progress` of repo2docker's `pushing` events.
    """

    log: Log
    clock: Clock
    layers: dict[str, Any] = field(factory=dict)
    digest: str = ""
    _reported: dict[str, Any] = field(factory=dict)
    _at: float = float("-inf")

    def receive(self, message: Mapping[str, Any]) -> None:
        """Takes one message of the stream."""
        aux = message.get("aux")
        if isinstance(aux, Mapping) and isinstance(aux.get("Digest"), str):
            self.digest = aux["Digest"]
        layer, status = message.get("id"), message.get("status")
        if not isinstance(layer, str) or not isinstance(status, str):
            return
        detail = message.get("progressDetail") or {}
        if isinstance(current := detail.get("current"), int):
            total = detail.get("total")
            # The engine's figure for a layer's size is an estimate, and often too small.
            whole = max(total, current) if isinstance(total, int) else current
            self.layers[layer] = {"current": current, "total": whole}
        else:
            self.layers[layer] = status
        if self.clock.monotonic() - self._at >= _BETWEEN:
            self.tell()

    def tell(self) -> None:
        """Tells the log where things stand, if that has changed."""
        if self.layers != self._reported:
            self._at = self.clock.monotonic()
            self._reported = dict(self.layers)
            self.log.progress(dict(self.layers))


@frozen
class Engine:
    """The engine at `address` (``unix:///...``, ``tcp://...``); empty: where docker's own client finds it."""

    plugin: str
    address: str
    clock: Clock

    async def push(self, image: Image, credentials: Secret | None, log: Log) -> Image:
        """Pushes `image` under its name; `credentials` as in `Target`.

        Raises TransientError if engine or registry do not answer, ConfigError if they refuse, PluginError if
        the engine does not have the image.
        """
        try:
            import aiodocker
            import aiohttp
        except ImportError:
            problem = "pushing from a container engine needs aiodocker: pip install 'ringbinder[docker]'"
            raise PluginError(self.plugin, problem, "push") from None

        progress = Progress(log, self.clock)
        reference = Reference.parse(image.name)
        # The same image to the engine; aiodocker takes no credentials for a name of one part.
        name = reference.name if "/" in reference.name else f"docker.io/library/{reference.name}"
        where = self.address or "its usual place"
        try:
            async with aiodocker.Docker(self.address or None) as docker:
                stream = docker.images.push(name, tag=reference.tag, auth=_auth(reference, credentials), stream=True)
                async for message in stream:
                    progress.receive(message)
        except aiodocker.exceptions.DockerStreamError as error:
            raise self._failure(reference, error.message) from None
        except aiodocker.exceptions.DockerError as error:
            if error.status == 404:
                problem = f"the container engine at {where} has no image {reference}"
                raise PluginError(self.plugin, problem, "push") from None
            if error.status == _NO_ENGINE:
                raise _no_answer(where, error.message) from None
            raise self._failure(reference, error.message) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _no_answer(where, error) from None
        progress.tell()
        log.line(f"Successfully pushed {reference}\n", "pushing")
        return evolve(image, pushed=True, digest=progress.digest or image.digest)

    def _failure(self, reference: Reference, message: str) -> ConfigError | TransientError | PluginError:
        reason = redact(str(message).strip())
        if _MISSING in reason:
            return PluginError(self.plugin, f"the container engine has no image {reference}: {reason}", "push")
        host = reference.domain or "docker.io"
        if any(word in reason.lower() for word in _REFUSED):
            problem = f"the registry {host} does not let us push {reference.name}: {reason}"
            return CredentialsError("DockerRegistry.username", f"{problem}; give the user the right to")
        return TransientError(f"Pushing {reference} to {host} failed: {reason}")


def _no_answer(where: str, why: object) -> TransientError:
    return TransientError(f"The container engine at {where} did not answer: {redact(str(why))}")


def _auth(reference: Reference, credentials: Secret | None) -> dict[str, str] | None:
    """What the engine is to log in with; nothing if the credentials are for another registry."""
    if credentials is None:
        return None
    login = json.loads(credentials.reveal())
    if host_of(login["registry"]) != host_of(reference.domain or "docker.io"):
        return None
    if login["username"] == IDENTITY:
        return {"identitytoken": login["password"], "serveraddress": login["registry"]}
    return {"username": login["username"], "password": login["password"], "serveraddress": login["registry"]}
