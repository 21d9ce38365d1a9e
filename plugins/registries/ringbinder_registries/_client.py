"""One registry, over the protocol that all of them speak.

Source: the OCI distribution specification, and the token authentication of the CNCF distribution project.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from attrs import define, field, frozen
from ringbinder.caching import Cache, SingleFlight
from ringbinder.errors import ConfigError
from ringbinder.secret import Secret, redact
from ringbinder.services import Clock

from ._challenges import Challenge, challenges
from ._credentials import Credentials, host_of
from ._http import Answer, Requests

MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""All four: asked for fewer, a registry answers 404, or with a conversion that has another digest."""

_NO_HEADERS: Final[Mapping[str, str]] = {}
_ACCEPT: Final = {"Accept": ", ".join(MANIFEST_TYPES)}
_MANIFEST: Final = ("application/vnd.oci.", "application/vnd.docker.distribution.", "application/json")
_HEAD_REFUSED: Final = frozenset({400, 405, 501})
_CHALLENGE_SECONDS: Final = 3600.0
_TOKENS: Final = 1024
_TOKEN_SECONDS: Final = 60.0  # where a server does not say (the token specification's default)
_LONGEST_TOKEN: Final = 86_400
_USED_OF_TOKEN: Final = 0.8
_ANONYMOUS: Final = Challenge("")
_DEFAULT_SERVICE: Final = "container_registry"
_NO_ADDRESS: Final = "names a token server with no valid address"
_TOKEN_SERVERS: Final = {
    "docker.io": "auth.docker.io",
    "registry.gitlab.com": "gitlab.com",
    "registry.digitalocean.com": "api.digitalocean.com",
}
"""Registries whose token server is on another host than they are: a password for them is for that host too."""

FindCredentials = Callable[[bool], Awaitable[Credentials | None]]
Scope = tuple[str, ...]


@frozen
class Manifest:
    """What a registry says of an image."""

    digest: str
    headers: Mapping[str, str]
    """Of the response, with names in lower case."""


@define(eq=False)
class RegistryClient:
    """Asks the registry at `url`; remembers how it wants to be asked, and tokens while they last.

    `find_credentials` is called whenever credentials are needed, with True where those that it gave before
    were refused. `token_url` overrides the token server that the registry names. `missing_is_401`: the
    registry answers 401 also for what is not there.
    """

    url: str
    send: Requests
    clock: Clock
    find_credentials: FindCredentials
    token_url: str = ""
    missing_is_401: bool = False
    _challenges: Cache[str, Challenge] = field(init=False)
    _tokens: Cache[tuple[Scope, Credentials | None], Secret] = field(init=False)
    _flights: SingleFlight[Any, Any] = field(init=False, factory=SingleFlight)
    _refuses_head: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._challenges = Cache(1, self.clock.monotonic)
        self._tokens = Cache(_TOKENS, self.clock.monotonic)

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"The registry {host_of(self.url)}"

    async def manifest(self, name: str, reference: str) -> Manifest | None:
        """The manifest of `reference` (a tag or a digest) in the repository `name`; None if it is not there.

        Raises ConfigError if the registry does not let us look, TransientError if it does not answer.
        """
        path, scope = f"{name}/manifests/{reference}", (f"repository:{name}:pull",)
        answer = None
        if not self._refuses_head:
            answer = await self.ask("HEAD", path, scope, _ACCEPT)
        if answer is None or answer.status in _HEAD_REFUSED:
            answer = await self.ask("GET", path, scope, _ACCEPT)
            self._refuses_head = self._refuses_head or answer.status in (200, 404)
        if answer.status == 404 or (answer.status == 401 and self._says_missing(answer)):
            return None
        if answer.status != 200:
            raise self.refusal(answer, f"look for images in {name}")
        kind = answer.headers.get("content-type", "")
        digest = answer.headers.get("docker-content-digest", "")
        if not digest and not kind.startswith(_MANIFEST):
            told = f"answers with {kind or 'something'} where a manifest is asked for, so it is no registry"
            raise self.wrong("DockerRegistry.url", told)
        return Manifest(digest, answer.headers)

    async def ping(self) -> Challenge:
        """How the registry says at ``/v2/`` that it wants to be asked; no scheme if it does not say.

        Raises ConfigError if there is no registry, TransientError if it does not answer.
        """
        answer = await self.send("GET", f"{self.url}/v2/", {}, of=self.title)
        if answer.status not in (200, 401, 403):
            told = f"is no registry: {self.url}/v2/ answers with HTTP status {answer.status}"
            raise self.wrong("DockerRegistry.url", told)
        offer = _best(challenges(answer.challenges), self.token_url) or _ANONYMOUS
        self._challenges.put("", offer, _CHALLENGE_SECONDS)
        return offer

    async def try_upload(self, name: str) -> None:
        """Starts an upload to the repository `name`, and cancels it. Raises as `manifest` does."""
        scope = (f"repository:{name}:pull,push",)
        answer = await self.ask("POST", f"{name}/blobs/uploads/", scope)
        if answer.status != 202:
            raise self.refusal(answer, f"push to {name}")
        if location := answer.headers.get("location"):
            url = _joined(f"{self.url}/", location)
            if _origin(url) == _origin(self.url):
                # A registry that cannot cancel lets it expire.
                await self.ask("DELETE", "", scope, url=url)

    async def ask(
        self,
        method: str,
        path: str,
        scope: Scope,
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        url: str | None = None,
    ) -> Answer:
        """A request with our credentials to ``/v2/<path>``, or to `url`, which a response has named.

        A 401 that comes back holds even with a token that was fetched anew.
        """
        target = url or f"{self.url}/v2/{path}"
        offer = self._challenges.get("") or await self._flights("ping", self.ping)
        authorization = await self._authorization(offer, scope)
        answer = await self._send(method, target, headers, authorization)
        if answer.status == 401:
            again = await self._authorize_anew(answer, scope, authorization)
            if again is not None:
                answer = await self._send(method, target, headers, again)
        return answer

    def refusal(self, answer: Answer, wish: str) -> ConfigError:
        """What to tell when the registry does not let us do what we wish."""
        told = f"does not let us {wish}: HTTP status {answer.status}{_said(answer)}"
        if answer.status == 401:
            told += "; check DockerRegistry.username and password, and that this user has the right to"
        elif answer.status == 403:
            told += "; give the user the right to"
        return self.wrong("DockerRegistry.url", told)

    def wrong(self, option: str, what: str) -> ConfigError:
        """An error that is to be mended at `option`."""
        return ConfigError([f"{option}: the registry {host_of(self.url)} {what}"])

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], authorization: str | None
    ) -> Answer:
        if authorization:
            headers = {**headers, "Authorization": authorization}
        return await self.send(method, url, headers, of=self.title)

    def _says_missing(self, answer: Answer) -> bool:
        """Whether a 401 may mean that nothing is there.

        That a password or a token is no good, a registry says otherwise.
        """
        offers = challenges(answer.challenges)
        with_token = bool(self.token_url) or any(offer.scheme == "bearer" for offer in offers)
        invalid = any(offer["error"] == "invalid_token" for offer in offers)
        return self.missing_is_401 and with_token and not invalid

    async def _authorize_anew(self, answer: Answer, scope: Scope, before: str | None) -> str | None:
        """What to try after a 401; None if there is nothing that was not tried."""
        offer = _best(challenges(answer.challenges), self.token_url)
        if offer is None:
            return None
        if offer.scheme == "bearer" and offer["scope"]:
            scope = tuple(offer["scope"].split())
        authorization = await self._authorization(offer, scope, used=before)
        return authorization if authorization != before else None

    async def _authorization(self, offer: Challenge, scope: Scope, used: str | None = None) -> str | None:
        """The header's value. `used` was refused: a token is not taken from the cache if it is that one."""
        credentials = await self.find_credentials(used is not None)
        if not self.token_url and offer.scheme != "bearer":
            return credentials.basic() if credentials else None
        token = self._tokens.get((scope, credentials))
        if token is None or used == f"Bearer {token.reveal()}":
            realm = _joined(self.url, self.token_url or offer["realm"])
            if not realm:
                raise self.wrong("DockerRegistry.token_url", _NO_ADDRESS)
            token = await self._flights(
                (scope, credentials), lambda: self._token(realm, offer["service"], scope, credentials)
            )
        return f"Bearer {token.reveal()}"

    async def _token(self, realm: str, service: str, scope: Scope, credentials: Credentials | None) -> Secret:
        if urlsplit(self.url).scheme == "https" and urlsplit(realm).scheme != "https":
            told = f"names a token server without https, {host_of(realm)}; no password is sent there"
            raise self.wrong("DockerRegistry.token_url", told)
        if credentials is not None and not self._may_have_password(realm):
            told = (
                f"names a token server on another host, {host_of(realm)}; no password is sent there. If that is "
                f"right, set this to {_without_query(realm)}"
            )
            raise self.wrong("DockerRegistry.token_url", told)
        asked_at = self.clock.monotonic()
        answer = await self._ask_for_token(realm, service, scope, credentials)
        server = f"the token server {host_of(realm)}"
        if answer.status in (401, 403):
            raise self._not_accepted(answer, server, credentials)
        content = answer.json()
        token = content.get("token") or content.get("access_token")
        if answer.status != 200 or not isinstance(token, str):
            told = f"gives no token: {server} answers with HTTP status {answer.status}{_said(answer)}"
            raise self.wrong("DockerRegistry.token_url", told)
        lasts = content.get("expires_in")
        seconds = _TOKEN_SECONDS
        if isinstance(lasts, int | float) and lasts > 0:
            seconds = float(min(lasts, _LONGEST_TOKEN))
        secret = Secret(token)
        left = asked_at + seconds * _USED_OF_TOKEN - self.clock.monotonic()
        self._tokens.put((scope, credentials), secret, left)
        return secret

    def _may_have_password(self, realm: str) -> bool:
        """Whether the token server is the registry's own, or the one that the configuration names."""
        if self.token_url:
            return True
        named, own = urlsplit(realm).hostname, urlsplit(self.url).hostname
        return named is not None and named in (own, _TOKEN_SERVERS.get(host_of(self.url)))

    async def _ask_for_token(
        self, realm: str, service: str, scope: Scope, credentials: Credentials | None
    ) -> Answer:
        import httpx

        of = f"The token server {host_of(realm)} of {host_of(self.url)}"
        try:
            url = httpx.URL(realm)
        except httpx.InvalidURL:
            raise self.wrong("DockerRegistry.token_url", _NO_ADDRESS) from None
        # One `service` and no more: strict servers refuse two.
        service = url.params.get("service") or service or _DEFAULT_SERVICE
        if credentials is not None and credentials.identity:
            form = {"grant_type": "refresh_token", "refresh_token": credentials.password.reveal()}
            form |= {"service": service, "scope": " ".join(scope), "client_id": "ringbinder"}
            return await self.send("POST", str(url), {}, form, of=of)
        url = url.copy_set_param("service", service)
        for one in scope:
            url = url.copy_add_param("scope", one)
        headers = {"Authorization": credentials.basic()} if credentials else {}
        return await self.send("GET", str(url), headers, of=of)

    def _not_accepted(self, answer: Answer, server: str, credentials: Credentials | None) -> ConfigError:
        if credentials is None:
            told = f"wants a user name and a password: {server} gives no token without them{_said(answer)}"
            return self.wrong("DockerRegistry.username", told)
        told = f"does not accept the password of {credentials.username}: {server} answers with HTTP status"
        return self.wrong("DockerRegistry.password", f"{told} {answer.status}{_said(answer)}")


def _joined(base: str, url: str) -> str:
    """`url` as seen from `base`; empty if it is no address."""
    try:
        joined = urljoin(base, url)
        _ = urlsplit(joined).port
    except ValueError:
        return ""
    return joined


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _without_query(url: str) -> str:
    return redact(url.partition("?")[0])


def _said(answer: Answer) -> str:
    return f" ({answer.told})" if answer.told else ""


def _best(offers: Sequence[Challenge], token_url: str) -> Challenge | None:
    """The offer that we can take up: a token before a password."""
    for offer in offers:
        if offer.scheme == "bearer" and (offer["realm"] or token_url):
            return offer
    return next((offer for offer in offers if offer.scheme == "basic"), None)
