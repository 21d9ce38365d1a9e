"""Registry `helper`: registries that want a repository made, or a password each time, by way of a small service.

Source: BinderHub's class `ExternalRegistryHelper` and the service binderhub-container-registry-helper, which know
Amazon's ECR and Oracle's OCIR. An image is named to the service without its host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from attrs import frozen
from ringbinder import (
    ConfigError,
    Context,
    CredentialsError,
    Finding,
    Health,
    Image,
    Plan,
    Secret,
    Target,
    TransientError,
    option,
)
from ringbinder.concurrency import Cache
from ringbinder.image_reference import Reference

from ._client import RegistryClient
from ._credentials import Credentials
from ._http import Answer
from ._options import DockerRegistryOptions
from .oci import OciRegistry

_OF: Final = "The registry helper"
_TRIAL: Final = "ringbinder-doctor"
_REMEMBERED: Final = 10_000


@frozen
class HelperOptions(DockerRegistryOptions):
    """Sections `DockerRegistry` and `ExternalRegistryHelper`."""

    service_url: str = option("http://binderhub-container-registry-helper:8080", help="Address of the registry helper.")
    auth_token: Secret = option(
        factory=lambda: Secret(""),
        env="BINDERHUB_CONTAINER_REGISTRY_HELPER_AUTH_TOKEN",
        help="What the registry helper knows us by.",
    )


class HelperRegistry(OciRegistry[HelperOptions]):
    """The helper looks for images, makes repositories, and gives a password for each build."""

    Config = HelperOptions
    sections: ClassVar[tuple[str, ...]] = ("DockerRegistry", "ExternalRegistryHelper")

    def __init__(self, config: HelperOptions, context: Context) -> None:
        super().__init__(config, context)
        self._prepared: Cache[str, bool] = Cache(_REMEMBERED, context.clock.monotonic)
        self._clients_by_path: dict[str, RegistryClient] = {}

    async def target(self, plan: Plan) -> Target:
        """Makes the repository if it is not there."""
        reference = self._reference(plan.image)
        await self._make(reference.path)
        credentials = await self._login(reference)
        self.expect(plan.image)
        return Target(self.holds, plan.image, credentials=credentials.login() if credentials else None)

    async def prepare(self, name: str) -> None:
        reference = self._reference(name)
        if self.ours(reference.domain) and not self._prepared.get(reference.path):
            await self._make(reference.path)
            self._prepared.put(reference.path, True, self.config.remember_found)

    def ours(self, domain: str) -> bool:
        return not self.config.image_prefix or super().ours(domain)

    def client_for(self, reference: Reference) -> RegistryClient:
        """With a password of the helper's, which it gives for one repository."""
        if not self.ours(reference.domain):
            return super().client_for(reference)
        if (client := self._clients_by_path.get(reference.path)) is None:
            client = self._clients_by_path[reference.path] = RegistryClient(
                self.address(reference.domain),
                self.requests,
                self.context.clock,
                lambda renew: self._remembered(reference.name, renew, lambda: self._login(reference)),
                self.config.token_url,
                self.config.not_found_401,
            )
        return client

    async def delete_repository(self, repository: str) -> bool | None:
        """Only without tags: the helper for Oracle's registry would remove one with images in it."""
        reference = self._reference(repository)
        if not self.ours(reference.domain):
            return None
        if await self.list_tags(repository):
            return False
        self._prepared.drop(reference.path)
        return await self._ask("DELETE", f"repo/{reference.path}") is not None

    async def _make(self, path: str) -> None:
        if (await self._ask("GET", f"repo/{path}")) is None:
            await self._ask("POST", f"repo/{path}")

    async def _login(self, reference: Reference) -> Credentials | None:
        return self._credentials_of(await self._ask("POST", f"token/{reference.path}:{reference.tag or 'latest'}"))

    def title(self, name: str) -> str:
        return _OF

    async def look(self, name: str) -> Image | None:
        reference = self._reference(name)
        if (await self._ask("GET", f"repo/{reference.path}")) is None:
            return None
        found = await self._ask("GET", f"image/{reference.path}:{reference.tag or 'latest'}")
        return None if found is None else Image(name, self.holds, pushed=True)

    async def health(self) -> Health:
        try:
            await self._ask("GET", f"repo/{_TRIAL}")
        except (TransientError, ConfigError) as error:
            return Health("Docker registry", ok=False, detail={"message": str(error)})
        return Health("Docker registry", ok=True)

    async def doctor(self) -> Sequence[Finding]:
        address = self.config.service_url
        try:
            await self._ask("GET", f"repo/{_TRIAL}")
        except (TransientError, ConfigError) as error:
            fix = "check ExternalRegistryHelper.service_url and auth_token, and that the helper runs"
            return [Finding("error", str(error), fix)]
        return [Finding("ok", f"{_OF} at {address} is reachable and accepts us; whether we may push, it knows")]

    async def _ask(self, method: str, path: str) -> Any:
        """What the helper says; None for a 404."""
        headers = {"Authorization": f"Bearer {self.config.auth_token.reveal()}"}
        url = f"{self.config.service_url.rstrip('/')}/{path}"
        answer = await self.requests(method, url, headers, {} if method == "POST" else None, of=_OF)
        if answer.status == 404:
            return None
        if answer.status not in (200, 201):
            raise _refusal(answer)
        return answer.json()

    def _credentials_of(self, login: Any) -> Credentials | None:
        """The helper answers 404 where a registry wants no password of its own making."""
        if login is None:
            return None
        values = [login.get(name) for name in ("registry", "username", "password")]
        if not all(isinstance(value, str) and value for value in values):
            message = f"{_OF} gives no credentials that can be understood"
            raise ConfigError([f"ExternalRegistryHelper.service_url: {message}"])
        registry, username, password = values
        return Credentials(registry, username, Secret(password))


def _refusal(answer: Answer) -> ConfigError:
    message = f"{_OF} answers with HTTP status {answer.status}" + (f" ({answer.message})" if answer.message else "")
    if answer.status in (401, 403):
        return CredentialsError("ExternalRegistryHelper.auth_token", message)
    return ConfigError([f"ExternalRegistryHelper.service_url: {message}"])
