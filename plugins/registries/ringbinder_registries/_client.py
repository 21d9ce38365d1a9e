"""One registry, over the protocol that all of them speak.

Source: the OCI distribution specification, and the token authentication of the CNCF distribution project.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

from attrs import define, field, frozen
from ringbinder import Clock, ConfigError, CredentialsError, DigestMismatch, Secret, redact
from ringbinder.concurrency import Cache, SingleFlight
from ringbinder.untrusted import MalformedError, parse_json

from ._challenges import Challenge, challenges
from ._credentials import Credentials, host_of
from ._http import LONGEST_BODY, Answer, Requests

MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""All four: asked for fewer, a registry answers 404, or with a conversion that has another digest."""

ACCEPT: Final = {"Accept": ", ".join(MANIFEST_TYPES)}
_NO_HEADERS: Final[Mapping[str, str]] = {}
_MANIFEST: Final = ("application/vnd.oci.", "application/vnd.docker.distribution.", "application/json")
_HEAD_REFUSED: Final = frozenset({400, 405, 501})
_REDIRECTED: Final = frozenset({307, 308})
_MOST_REDIRECTS: Final = 5
_PORTS: Final = {"http": 80, "https": 443}
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

_GITLAB: Final = "/jwt/auth"
_MAKERS: Final = {_GITLAB: "GitLab", "/v2/auth": "Quay"}
"""Token servers, by the path of their address, that make a repository when a right to push to it is asked for.

Source: `ensure_container_repository!` of GitLab, `_authorize_or_downscope_request` of Quay.
"""
_REFUSED: Final = frozenset({401, 403})
_Standing = Literal["anonymous", "unknown", "known"]
_REMEDIES: Final[Mapping[_Standing, tuple[str, str]]] = {
    "anonymous": ("DockerRegistry.username", "set DockerRegistry.username and password, or use `docker login`"),
    "unknown": ("DockerRegistry.password", "check DockerRegistry.username and password"),
    "known": (
        "DockerRegistry.url",
        "the password is right: give this user the right to, or change BinderHub.image_prefix",
    ),
}
"""The option that an error is about, and what to do."""
_MAKES_NONE: Final = (
    "it makes no repository when one is pushed to, as Amazon's ECR: make it, or choose the registry helper"
)
_OPTION: Final = ". If this registry answers so for an image that is not there, set DockerRegistry.not_found_401: true"

FindCredentials = Callable[[bool], Awaitable[Credentials | None]]
Scope = tuple[str, ...]
A = TypeVar("A", bound=Answer)
Send = Callable[[str, Mapping[str, str]], Awaitable[A]]
"""Makes one request: to an address, with headers to which ours were added."""


@frozen
class ManifestHead:
    """What a registry says of an image."""

    digest: str
    headers: Mapping[str, str]
    """Of the response, with names in lower case."""


@define(eq=False)
class RegistryClient:
    """Asks the registry at `url`; remembers how it wants to be asked, and tokens while they last.

    `find_credentials` is called whenever credentials are needed, with True where those that it gave before
    were refused. `token_url` overrides the token server that the registry names. `missing_is_refused`: what
    is not there is refused; None: where the password is accepted, a 401 that asks for a token means that.
    """

    url: str
    send: Requests
    clock: Clock
    find_credentials: FindCredentials
    token_url: str = ""
    missing_is_refused: bool | None = None
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

    async def manifest(self, name: str, reference: str) -> ManifestHead | None:
        """The manifest of `reference` (a tag or a digest) in the repository `name`; None if it is not there.

        Raises ConfigError if the registry does not let us look, TransientError if it does not answer.
        """
        path = f"manifests/{reference}"
        answer = None
        if not self._refuses_head:
            answer = await self.look("HEAD", name, path, ACCEPT, also=_HEAD_REFUSED)
        if self._refuses_head or (answer and answer.status in _HEAD_REFUSED):
            answer = await self.look("GET", name, path, ACCEPT)
            self._refuses_head = True
        if answer is None:
            return None
        kind = answer.headers.get("content-type", "")
        digest = answer.headers.get("docker-content-digest", "")
        if not digest and not kind.startswith(_MANIFEST):
            message = f"answers with {kind or 'something'} where a manifest is asked for, so it is no registry"
            raise self.wrong("DockerRegistry.url", message)
        return ManifestHead(digest, answer.headers)

    async def look(
        self,
        method: str,
        name: str,
        path: str,
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        also: Collection[int] = (),
        most: int = LONGEST_BODY,
    ) -> Answer | None:
        """The answer about `path` of the repository `name`, with status 200 or one of `also`; None if it is not there.

        Raises as `manifest` does.
        """
        scope = pull(name)
        try:
            answer = await self.ask(method, f"{name}/{path}", scope, headers, most=most)
        except _NoRightError:
            if self.missing_is_refused:
                return None
            raise
        if answer.status == 200 or answer.status in also:
            return answer
        await self.require_missing(answer, name)
        return None

    async def require_missing(self, answer: Answer, name: str) -> None:
        """Raises ConfigError unless `answer` means that what was looked for in the repository `name` is not there."""
        if answer.status != 404:
            standing = await self._standing(answer, pull(name))
            if not self._says_missing(answer, standing):
                raise self._refusal(answer, f"look for images in {name}", standing, _OPTION)

    async def ping(self) -> Challenge:
        """How the registry says at ``/v2/`` that it wants to be asked; no scheme if it does not say.

        Raises ConfigError if there is no registry, TransientError if it does not answer.
        """
        answer = await self.send("GET", f"{self.url}/v2/", {}, of=self.title)
        if answer.status not in (200, 401, 403):
            message = f"is no registry: {self.url}/v2/ answers with HTTP status {answer.status}"
            raise self.wrong("DockerRegistry.url", message)
        offer = _best(challenges(answer.challenges), self.token_url) or _ANONYMOUS
        self._challenges.put("", offer, _CHALLENGE_SECONDS)
        return offer

    async def try_push(self, name: str) -> str:
        """Finds out whether we may push to the repository `name`, and leaves nothing there.

        Returns what it found, as a sentence about the registry. Raises as `manifest` does.
        """
        scope, wish = push(name), f"push to {name}"
        offer = self._challenges.get("") or await self._flights("ping", self.ping)
        if maker := _MAKERS.get(self._token_path(offer)):
            return (
                f"was not asked whether we may {wish}: {maker} makes a repository where one is asked for a "
                "right to push, and keeps it"
            )
        lets_us = f"lets us {wish}"
        authorization = await self._authorization(offer, scope)
        if authorization and (actions := _token_actions(authorization)) is not None:
            # Docker Hub makes a repository at the first upload.
            if "push" in actions:
                return f"{lets_us}, as its token says"
            raise self.wrong("DockerRegistry.url", f"does not let us {wish}; {_REMEDIES['known'][1]}")
        answer = await self.ask("POST", f"{name}/blobs/uploads/", scope)
        if answer.status != 202:
            raise await self.refusal(answer, wish, scope)
        url = _joined(f"{self.url}/", answer.headers.get("location", ""))
        if _origin(url) == _origin(self.url):
            cancelled = await self.ask("DELETE", "", scope, url=url)
            if cancelled.status in (200, 202, 204):
                return f"{lets_us} (an upload, cancelled)"
        return f"{lets_us} (an upload, which it does not let us cancel, and lets expire)"

    async def ask(
        self,
        method: str,
        path: str,
        scope: Scope,
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        url: str | None = None,
        content: bytes | None = None,
        most: int = LONGEST_BODY,
        more_seconds: float = 0.0,
        once: bool = False,
    ) -> Answer:
        """A request to ``/v2/<path>``, or to `url`, which a response has named; see `authorized` and `Requests`."""

        def send(target: str, headers: Mapping[str, str]) -> Awaitable[Answer]:
            return self.send(
                method, target, headers,
                of=self.title, content=content, most=most, more_seconds=more_seconds, once=once,
            )  # fmt: skip

        return await self.authorized(send, url or f"{self.url}/v2/{path}", scope, headers)

    async def authorized(self, send: Send[A], url: str, scope: Scope, headers: Mapping[str, str] = _NO_HEADERS) -> A:
        """What `send` gives with our credentials. They are for this registry: at any other host it has none.

        A 401 that comes back holds even with a token that was fetched again. Redirects that `send` has not followed
        are (307 and 308, which keep method and body). Raises what `send` raises.
        """
        answer = await self._authorized(send, url, scope, headers)
        for _ in range(_MOST_REDIRECTS):
            if answer.status not in _REDIRECTED:
                break
            answer = await self._authorized(send, self.location(answer), scope, headers)
        return answer

    async def _authorized(self, send: Send[A], url: str, scope: Scope, headers: Mapping[str, str]) -> A:
        if _origin(url) != _origin(self.url):
            return await send(url, headers)
        offer = self._challenges.get("") or await self._flights("ping", self.ping)
        authorization = await self._authorization(offer, scope)
        answer = await send(url, _with(headers, authorization))
        if answer.status == 401:
            again = await self._authorize_again(answer, scope, authorization)
            if again is not None:
                answer = await send(url, _with(headers, again))
        return answer

    def location(self, answer: Answer) -> str:
        """Where a response sends us. Raises ConfigError if that is no address, or one that gives up https."""
        named = answer.headers.get("location", "")
        url = _joined(answer.url, named) if named else ""
        if urlsplit(url).scheme not in ("http", "https"):
            raise self.wrong("DockerRegistry.url", "names no valid address in a response where one belongs (Location)")
        if urlsplit(self.url).scheme == "https" and urlsplit(url).scheme != "https":
            message = (
                f"names an address without https, at {host_of(url)}, and nothing is sent there; a proxy before a "
                "registry is to send it X-Forwarded-Proto"
            )
            raise self.wrong("DockerRegistry.url", message)
        return url

    def require_stored(self, answer: Answer, digest: str) -> None:
        """Raises DigestMismatch if the registry says that it has stored something else than was sent."""
        stored = answer.headers.get("docker-content-digest", digest)
        if stored != digest:
            raise DigestMismatch(f"{self.title} has stored {stored[:80]} where {digest} was sent")

    async def refusal(self, answer: Answer, wish: str, scope: Scope) -> ConfigError:
        """The error where the registry refuses `wish`, after it was found out who we are to it."""
        return self._refusal(answer, wish, await self._standing(answer, scope))

    def _refusal(self, answer: Answer, wish: str, standing: _Standing, option: str = "") -> ConfigError:
        """The error where the registry refuses `wish`."""
        message = f"does not let us {wish}: HTTP status {answer.status}{_in_words(answer)}"
        if answer.status in _REFUSED:
            at, remedy = _REMEDIES[standing]
            advice = f"{remedy}{option if standing != 'unknown' else ''}"
            return CredentialsError(at, f"the registry {host_of(self.url)} {message}; {advice}")
        return self.wrong("DockerRegistry.url", f"{message}; {_MAKES_NONE}" if answer.status == 404 else message)

    def wrong(self, option: str, what: str) -> ConfigError:
        """An error that is to be fixed at `option`."""
        return ConfigError([f"{option}: the registry {host_of(self.url)} {what}"])

    async def _standing(self, answer: Answer, scope: Scope) -> _Standing:
        """Who we are to a registry that has refused something: asked at ``/v2/``, which is there for everybody."""
        if any(offer["error"] == "invalid_token" for offer in challenges(answer.challenges)):
            return "unknown"
        if answer.status not in _REFUSED or await self.find_credentials(False) is None:
            return "anonymous"
        return "known" if (await self.ask("GET", "", scope)).status == 200 else "unknown"

    def _says_missing(self, answer: Answer, standing: _Standing) -> bool:
        """Whether a refusal means that nothing is there."""
        if answer.status not in _REFUSED or standing == "unknown":
            return False
        offer = _best(challenges(answer.challenges), self.token_url) or _ANONYMOUS
        with_token = answer.status == 401 and (offer.scheme == "bearer" or bool(self.token_url))
        if self.missing_is_refused is None:
            # GitLab answers 404 for an image that is not there, and 401 for a project.
            return standing == "known" and with_token and self._token_path(offer) != _GITLAB
        return self.missing_is_refused and (standing == "known" or answer.status == 403 or with_token)

    def _token_path(self, offer: Challenge) -> str:
        """The path of the token server's address; empty if there is none."""
        return urlsplit(_joined(self.url, offer["realm"])).path if offer["realm"] else ""

    async def _authorize_again(self, answer: Answer, scope: Scope, before: str | None) -> str | None:
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
            message = f"names a token server without https, {host_of(realm)}; no password is sent there"
            raise self.wrong("DockerRegistry.token_url", message)
        if credentials is not None and not self._may_have_password(realm):
            message = (
                f"names a token server on another host, {host_of(realm)}; no password is sent there. If that is "
                f"right, set this to {redact(realm.partition('?')[0])}"
            )
            raise self.wrong("DockerRegistry.token_url", message)
        asked_at = self.clock.monotonic()
        answer = await self._ask_for_token(realm, service, scope, credentials)
        server = f"the token server {host_of(realm)}"
        if answer.status in (401, 403):
            raise await self._not_accepted(answer, realm, service, credentials)
        content = answer.json()
        token = content.get("token") or content.get("access_token")
        if answer.status != 200 or not isinstance(token, str):
            message = f"gives no token: {server} answers with HTTP status {answer.status}{_in_words(answer)}"
            raise self.wrong("DockerRegistry.token_url", message)
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

    async def _ask_for_token(self, realm: str, service: str, scope: Scope, credentials: Credentials | None) -> Answer:
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

    async def _not_accepted(
        self, answer: Answer, realm: str, service: str, credentials: Credentials | None
    ) -> ConfigError:
        """The error for a token that was refused: a 403 may be the password or the right."""
        server, why = f"the token server {host_of(realm)}", f"HTTP status {answer.status}{_in_words(answer)}"
        if credentials is None:
            message = f"wants a user name and a password: {server} gives no token without them{_in_words(answer)}"
            return self.wrong("DockerRegistry.username", message)
        if answer.status == 403 and (await self._ask_for_token(realm, service, (), credentials)).status == 200:
            message = (
                f"accepts the password of {credentials.username}, but {server} gives no token for what is asked "
                f"({why}); {_REMEDIES['known'][1]}{_OPTION}"
            )
            return _NoRightError(self.wrong("DockerRegistry.url", message).problems)
        message = f"does not accept the password of {credentials.username}: {server} answers with {why}"
        return self.wrong("DockerRegistry.password", message)


class _NoRightError(ConfigError):
    """The token server knows us, and refuses a token for a repository."""


def _joined(base: str, url: str) -> str:
    """`url` as seen from `base`; empty if it is no address."""
    try:
        joined = urljoin(base, url)
        _ = urlsplit(joined).port
    except ValueError:
        return ""
    return joined


def _token_actions(authorization: str) -> Collection[str] | None:
    """What a token lets us do, where it is a JSON Web Token that names that; None where it is not.

    Source: "Token Authentication Implementation" of the CNCF distribution project.
    """
    scheme, _, token = authorization.partition(" ")
    payload = token.split(".")[1:2]
    if scheme != "Bearer" or not payload:
        return None
    try:
        claims = parse_json(base64.urlsafe_b64decode(f"{payload[0]}=="))
        return [action for access in claims["access"] for action in access["actions"]]
    except (MalformedError, ValueError, KeyError, TypeError):
        return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    try:
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # a port that is none: the request says so
        return parts.scheme, parts.netloc, None


def _with(headers: Mapping[str, str], authorization: str | None) -> Mapping[str, str]:
    return {**headers, "Authorization": authorization} if authorization else headers


def pull(name: str) -> Scope:
    """The right to look at the repository `name`."""
    return (f"repository:{name}:pull",)


def push(name: str) -> Scope:
    """The right to write into the repository `name`."""
    return (f"repository:{name}:pull,push",)


def _in_words(answer: Answer) -> str:
    return f" ({answer.message})" if answer.message else ""


def _best(offers: Sequence[Challenge], token_url: str) -> Challenge | None:
    """The offer that we can take up: a token before a password."""
    for offer in offers:
        if offer.scheme == "bearer" and (offer["realm"] or token_url):
            return offer
    return next((offer for offer in offers if offer.scheme == "basic"), None)
