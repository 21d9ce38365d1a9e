"""Registry `oci`, also called `custom`: any registry that speaks the OCI distribution protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final, TypeVar

from ringbinder import (
    BlobOutcome,
    BlobRegistry,
    ConfigError,
    Content,
    Context,
    Descriptor,
    Finding,
    Health,
    Image,
    ImageKind,
    Log,
    Manifest,
    Plan,
    Target,
    TransientError,
)
from ringbinder.concurrency import Cache, Retry, SingleFlight
from ringbinder.image_reference import Reference, split_domain

from . import _doctor
from ._client import RegistryClient
from ._credentials import Credentials, DockerConfig, host_of, login_name
from ._http import Requests
from ._options import HUB, DockerRegistryOptions, base_url, default_docker_config
from ._push import Engine
from ._repository import Repository

_REMEMBERED: Final = 10_000
_CREDENTIALS_SECONDS: Final = 60.0
_LONGEST_BUILD: Final = 86_400.0
_HEALTH_SECONDS: Final = 8.0

Options = TypeVar("Options", bound=DockerRegistryOptions)


class OciRegistry(BlobRegistry[Options]):
    """Images are searched for at the option `url`, else at the host in their name.

    A subclass with another source of credentials overrides `credentials`.
    """

    Config = DockerRegistryOptions
    sections: ClassVar[tuple[str, ...]] = ("DockerRegistry",)
    holds: ClassVar[ImageKind] = "oci"

    quota_probe: ClassVar[tuple[str, str] | None] = None
    """Repository and tag that `doctor` looks at, which costs nothing, to see what is left of a quota."""

    def __init__(self, config: Options, context: Context) -> None:
        super().__init__(config, context)
        now = context.clock.monotonic
        self._docker_config = DockerConfig(config.docker_config_path or default_docker_config(), context.log)
        self._clients: dict[str, RegistryClient] = {}
        self._others: dict[str, RegistryClient] = {}
        self._found: Cache[str, Image] = Cache(_REMEMBERED, now)
        self._building: Cache[str, bool] = Cache(_REMEMBERED, now)
        self._credentials: Cache[str, tuple[Credentials | None]] = Cache(_REMEMBERED, now)
        self._looks: SingleFlight[str, Image | None] = SingleFlight()
        self._asks: SingleFlight[str, Credentials | None] = SingleFlight()

    @cached_property
    def requests(self) -> Requests:
        """How this plugin asks over HTTP."""
        config, context = self.config, self.context
        retry = Retry(config.retry_delay, tries=config.retries + 1, clock=context.clock)
        return Requests(context.http, retry, config.request_timeout)

    async def credentials(self, registry: str) -> Credentials | None:
        """Who we are to the registry at the address `registry`; None: no one.

        Raises ConfigError if that cannot be read, TransientError if who knows it does not answer.
        """
        config = self.config
        ours = (config.auth_config_url, config.url or self._home())
        if config.password and any(self.same(address, registry) for address in ours):
            username = config.username or self.default_username(config.password.reveal())
            return Credentials(login_name(registry), username, config.password)
        return await self._docker_config.find(registry)

    def default_username(self, password: str) -> str:
        """The user name for a password alone; registries that have tokens take any.

        BinderHub's chart has ``<token>``, which docker takes for the mark of an identity token.
        """
        return "token"

    def same(self, address: str, other: str) -> bool:
        """Whether both are one registry, so that credentials for the one are good for the other."""
        return host_of(address) == host_of(other)

    def address(self, domain: str) -> str:
        """Where an image is searched for whose name begins with the host `domain`, empty for Docker Hub."""
        return base_url(self.config.url or domain or HUB)

    async def check(self, plan: Plan, fresh: bool) -> Image | None:
        """Raises TransientError if the registry does not answer, ConfigError if it does not let us look."""
        name = plan.image
        if not fresh and (known := self._found.get(name)):
            return known
        if not fresh:
            self._building.drop(name)
        try:
            # A fresh look must not join one that began before the push was done.
            image = await (self._in_time(name) if fresh else self._looks(name, lambda: self._in_time(name)))
        except TransientError as error:
            if not self.config.build_if_unreachable or self._building.get(name):
                raise
            self.context.log.warning("building, since the registry did not answer", reason=str(error))
            return None
        if image is None:
            self._found.drop(name)
        else:
            self._found.put(name, image, self.config.remember_found)
        return image

    async def target(self, plan: Plan) -> Target:
        """With credentials that are got for this one build."""
        domain = self._reference(plan.image).domain or HUB
        credentials = await self.credentials(domain)
        if credentials is None:
            credentials = await self.credentials(self._key(self.address(domain)))
        self.expect(plan.image)
        return Target(self.holds, plan.image, credentials=credentials.login() if credentials else None)

    def expect(self, name: str) -> None:
        """The image `name` is going to be built: that it is not there is then no reason to build it."""
        self._building.put(name, True, _LONGEST_BUILD)

    async def push(self, image: Image, target: Target, log: Log) -> Image:
        engine = Engine(self.context.name, self.config.docker_host, self.context.clock)
        return await engine.push(image, target.credentials, log)

    async def find_blob(self, repository: str, digest: str) -> Descriptor | None:
        return await self.repository(repository).find(digest)

    async def put_blob(self, repository: str, blob: Descriptor, content: Content, mount_from: str) -> BlobOutcome:
        await self.prepare(repository)
        target, source = self.repository(repository), self.repository(mount_from) if mount_from else None
        mountable = source is not None and source.client.url == target.client.url
        return await target.put(blob, content, source if mountable else None)

    async def read_blob(self, repository: str, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        return self.repository(repository).read(blob, offset)

    async def read_manifest(self, repository: str, reference: str) -> Manifest | None:
        return await self.repository(repository).manifest(reference)

    async def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> Descriptor:
        await self.prepare(repository)
        return await self.repository(repository).put_manifest(reference, manifest)

    async def list_tags(self, repository: str) -> Sequence[str]:
        return await self.repository(repository).tags()

    async def delete_manifest(self, repository: str, reference: str) -> bool | None:
        return await self.repository(repository).delete_manifest(reference)

    async def delete_blob(self, repository: str, digest: str) -> bool | None:
        return await self.repository(repository).delete_blob(digest)

    async def prepare(self, name: str) -> None:
        """Makes the repository `name` where pushing to it does not."""

    def repository(self, name: str) -> Repository:
        """The repository that is called `name` in the names of images.

        One of another registry than that of this installation, as base images are in, is asked there, with the
        credentials that docker's `config.json` has for its host.
        """
        reference = self._reference(name)
        client = self.client_for(reference)
        return Repository(client, repository(reference, client.url))

    def client_for(self, reference: Reference) -> RegistryClient:
        """Who is asked for blobs and manifests of `reference`."""
        if self.ours(reference.domain):
            return self._client(self.address(reference.domain))
        address = base_url(reference.domain or HUB)
        if (client := self._others.get(address)) is None:
            client = self._others[address] = RegistryClient(
                address,
                self.requests,
                self.context.clock,
                lambda renew: self._remembered(address, renew),
                missing_is_refused=True if host_of(address) == HUB else None,
            )
        return client

    def ours(self, domain: str) -> bool:
        """Whether images of this installation are in the registry that `domain` names (empty: Docker Hub)."""
        return domain == split_domain(self.config.image_prefix)[0] or self.same(domain or HUB, self._home())

    async def health(self) -> Health:
        """Under the name that the line has in BinderHub's `/health`."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self._client(self._home()).ping()
        except (TransientError, ConfigError, TimeoutError) as error:
            why = str(error) or f"no answer within {_HEALTH_SECONDS:g} seconds"
            return Health("Docker registry", ok=False, detail={"message": why})
        return Health("Docker registry", ok=True)

    async def doctor(self) -> Sequence[Finding]:
        home = self._home()
        return await _doctor.examine(
            self._client(home),
            await self.credentials(self._key(home)),
            _doctor.trial_repository(self.config.image_prefix, home),
            self.quota_probe,
        )

    async def _in_time(self, name: str) -> Image | None:
        limit = self.config.timeout
        try:
            async with asyncio.timeout(limit or None):
                return await self.look(name)
        except TimeoutError:
            message = f"{self.title(name)} did not answer within {limit:g} seconds"
            raise TransientError(message) from None

    def title(self, name: str) -> str:
        """What messages call the other side that knows the image `name`."""
        return self._client(self.address(self._reference(name).domain)).title

    async def look(self, name: str) -> Image | None:
        """Asks whether the image `name` is there. Raises as `check`."""
        reference = self._reference(name)
        client = self._client(self.address(reference.domain))
        manifest = await client.manifest(
            repository(reference, client.url), reference.digest or reference.tag or "latest"
        )
        return Image(name, self.holds, digest=manifest.digest, pushed=True) if manifest else None

    def _reference(self, name: str) -> Reference:
        try:
            return Reference.parse(name)
        except ValueError as error:
            message = f"it makes the image name {name}, which no registry takes: {error}"
            raise ConfigError([f"BinderHub.image_prefix: {message}"]) from None

    def _home(self) -> str:
        """Address of the registry that images of this installation are in."""
        return self.address(split_domain(self.config.image_prefix.lower())[0])

    def _key(self, address: str) -> str:
        """Under what the credentials for the registry at `address` are kept."""
        return self.config.auth_config_url or address

    def _client(self, address: str) -> RegistryClient:
        if (client := self._clients.get(address)) is None:
            missing = self.config.not_found_401
            client = self._clients[address] = RegistryClient(
                address,
                self.requests,
                self.context.clock,
                lambda renew: self._remembered(self._key(address), renew),
                self.config.token_url,
                True if missing is None and host_of(address) == HUB else missing,
            )
        return client

    async def _remembered(
        self, key: str, renew: bool, ask: Callable[[], Coroutine[Any, Any, Credentials | None]] | None = None
    ) -> Credentials | None:
        """`credentials`, or what `ask` gives, once a minute, since a helper is a program to be started."""
        if not renew and (known := self._credentials.get(key)):
            return known[0]
        found = await self._asks(key, ask or (lambda: self.credentials(key)))
        self._credentials.put(key, (found,), _CREDENTIALS_SECONDS)
        return found


def repository(reference: Reference, address: str) -> str:
    """Name of the repository at that registry; Docker Hub's own images have a folder that names leave out."""
    if host_of(address) == HUB and "/" not in reference.path:
        return f"library/{reference.path}"
    return reference.path
