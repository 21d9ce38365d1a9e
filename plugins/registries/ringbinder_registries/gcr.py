"""Registry `gcr`: Google's Container Registry and Artifact Registry."""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import evolve, frozen
from ringbinder import ConfigError, Context, Secret, TransientError, option
from ringbinder.image_reference import is_google

from ._credentials import Credentials, host_of, login_name
from ._options import DockerRegistryOptions, base_url
from .oci import OciRegistry

_METADATA: Final = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
_NO_CREDENTIALS: Final = (
    "Google's registry needs credentials: give registry.password the JSON key of a service account, or run "
    "where Google's metadata server answers"
)


@frozen
class GoogleOptions(DockerRegistryOptions):
    """Sections `DockerRegistry` and `GoogleArtifactRegistry`."""

    metadata_url: str = option(
        _METADATA, help="Where the machine's service account gets its tokens; asked if there are no other credentials."
    )


class GcrRegistry(OciRegistry[GoogleOptions]):
    """One service account is good for all of Google's registry hosts; images are searched for at their own."""

    Config = GoogleOptions
    sections: ClassVar[tuple[str, ...]] = ("DockerRegistry", "GoogleArtifactRegistry")

    def __init__(self, config: GoogleOptions, context: Context) -> None:
        if "/computeMetadata/" in config.token_url:
            # What BinderHub's class of this name understands by `token_url`.
            config = evolve(config, metadata_url=config.token_url, token_url="")
        super().__init__(config, context)

    def default_username(self, password: str) -> str:
        """By the form of the password: a key, an access token, or a key in base64.

        Source: Google's documentation of authentication to Artifact Registry.
        """
        if password.lstrip().startswith("{"):
            return "_json_key"
        return "oauth2accesstoken" if password.startswith("ya29.") else "_json_key_base64"

    def same(self, address: str, other: str) -> bool:
        return (is_google(host_of(address)) and is_google(host_of(other))) or super().same(address, other)

    def address(self, domain: str) -> str:
        named = super().address(domain)
        return base_url(domain) if is_google(domain) and is_google(host_of(named)) else named

    async def credentials(self, registry: str) -> Credentials | None:
        found = await super().credentials(registry)
        if found is None and is_google(host_of(registry)):
            return Credentials(login_name(registry), "oauth2accesstoken", await self._machine_token())
        return found

    async def _machine_token(self) -> Secret:
        """The token of this machine's service account, good for an hour or less.

        Source: Google's documentation of the metadata server.
        """
        of = "Google's metadata server"
        try:
            answer = await self.requests("GET", self.config.metadata_url, {"Metadata-Flavor": "Google"}, of=of)
        except TransientError as error:
            raise TransientError(f"{error}. {_NO_CREDENTIALS}") from None
        token = answer.json().get("access_token")
        if answer.status != 200 or not isinstance(token, str):
            message = f"{of} answers with HTTP status {answer.status}"
            raise ConfigError([f"GoogleArtifactRegistry.metadata_url: {message}. {_NO_CREDENTIALS}"])
        return Secret(token)
