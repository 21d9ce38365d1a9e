"""What all routes share: the running application, who may ask, and whether the server is about to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import define, field, frozen
from quart import g, request
from ringbinder.app import Ringbinder
from ringbinder.config.settings import BinderHubSettings
from ringbinder.errors import UserError
from ringbinder.launches.links import path_to_open
from ringbinder.launches.sessions import Session
from ringbinder.model import Client, LaunchRequest, Link, User
from ringbinder.runtime.import_string import is_named, load_named
from werkzeug.datastructures import Headers

from .security.access_token import is_own_machine
from .security.bans import Bans
from .security.build_tokens import BuildTokens
from .security.origins import Asker, Guard

_LONGEST_HEADER: Final = 512
"""Characters of a header that a launch keeps, or that an error shows: more than any name of a host has."""


@define(eq=False)
class Site:
    """One per application of Quart."""

    binder: Ringbinder
    guard: Guard
    hold: float = 60.0
    """Seconds that a stream stays open after `ready`: clients that reconnect by themselves close it first."""
    closing: asyncio.Event = field(factory=asyncio.Event, init=False)
    """Set when the server is about to stop: streams that have nothing to tell end."""
    is_own_machine: bool = field(init=False)
    """See the function `is_own_machine`."""
    access_key: str = field(init=False, default="")
    """The name under which pages keep the key of this server in ``localStorage``; empty: no token is demanded."""
    bans: Bans = field(init=False)
    tokens: BuildTokens = field(init=False)
    _badge_maker: Callable[[Any], Any] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.is_own_machine = is_own_machine(self.binder)
        self.bans = Bans.of(self.settings)
        self.tokens = BuildTokens.of(self.settings)
        if is_named(self.settings.badge_base_url):
            self._badge_maker = load_named("BinderHub.badge_base_url", self.settings.badge_base_url)

    @property
    def settings(self) -> BinderHubSettings:
        return self.binder.config.binderhub

    @property
    def public_address(self) -> str:
        """Address of this server for links, ending in a slash: the configured or the addressed one."""
        return self.badge_address or f"{request.scheme}://{request.host[:_LONGEST_HEADER]}{self.settings.base_url}"

    @property
    def badge_address(self) -> str:
        """``BinderHub.badge_base_url`` for the current request; empty if it is not set, or if its function fails."""
        if self._badge_maker is None:
            return self.settings.badge_base_url
        try:
            made = self._badge_maker(_Handler(_Request()))
        except Exception:
            self.binder.log.exception("BinderHub.badge_base_url: its function failed")
            return ""
        return f"{str(made).rstrip('/')}/" if made else ""

    @property
    def by_https(self) -> bool:
        """Whether browsers reach this server by https only."""
        return request.scheme == "https" or self.badge_address.startswith("https:")

    @property
    def user(self) -> User | None:
        """Who sent the current request, where people log in."""
        found: User | None = g.get("user")
        return found

    def is_for(self, session: Session) -> bool:
        """Whether the current request may know of `session`: no one sees another one's launches."""
        owner, user = session.request.user, self.user
        return not self.settings.auth_enabled or (owner is not None and user is not None and owner.key == user.key)

    def asker(self) -> Asker:
        """What the current request tells of who sent it."""
        headers = request.headers
        return Asker(
            scheme=request.scheme,
            host=headers.get("Host", "")[:_LONGEST_HEADER],
            origin=headers.get("Origin", "")[:_LONGEST_HEADER],
            site=headers.get("Sec-Fetch-Site", "")[:_LONGEST_HEADER],
            by_cookie=self.user is not None and "Authorization" not in headers,
            by_script="X-Xsrftoken" in headers,
        )

    def refusal(self) -> str:
        """Why the sender of the current request may not start anything; empty if they may."""
        refusal = (
            self.bans.of_address(client_ip())
            or self.guard.refusal(self.asker())
            or self.bans.of_builder(request.headers.get("User-Agent", ""))
        )
        if refusal:
            self.binder.log.warning("a build was refused", reason=refusal)
        return refusal

    def link(self, text: str) -> Link:
        """What a pasted address means. Raises UserError, also for a folder by a relative path or the home's.

        What that means here, on this machine, does not concern clients on the web.
        """
        if text.strip()[:1] in {".", "~"}:
            raise UserError("local-not-allowed", "Folders of this machine can be launched from the command line only.")
        return self.binder.link(text)

    def wish(
        self, provider: str, spec: str, urlpath: str = "", *, build_only: bool = False, build_token: bool = False
    ) -> LaunchRequest:
        """The current request as a wish for a launch; `urlpath` is what the link asks to open."""
        asker = self.asker()
        client = Client(
            ip=client_ip(),
            user_agent=request.headers.get("User-Agent", "")[:_LONGEST_HEADER],
            origin=asker.origin or asker.site,
            host=self.settings.normalized_origin or asker.host_name,
        )
        return LaunchRequest(
            provider,
            spec.rstrip("/"),
            urlpath,
            user=self.user,
            client=client,
            build_only=build_only,
            build_token=build_token,
            launch_host=self.public_address,
        )

    def build_token(self, provider: str, spec: str) -> str:
        """A token for the current page, whose link has `spec` as it was sent."""
        return self.tokens.make(provider, spec, self._origin())

    def has_good_token(self, token: str, provider: str, spec: str) -> bool:
        """Whether the current request may use `token` for this link."""
        return self.tokens.is_good(token, provider, spec, self._origin())

    def _origin(self) -> str:
        """The host of the page that asks, as BinderHub puts it into its tokens."""
        origin = request.headers.get("Origin", "")
        if not origin:
            return request.headers.get("Host", "")
        try:
            return urlsplit(origin).netloc
        except ValueError:  # no origin of a browser's: a program may send anything
            return ""


@frozen
class _Request:
    """Of the current request, what functions of BinderHub's configuration look at, by tornado's names."""

    host: str = field(factory=lambda: request.host)
    protocol: str = field(factory=lambda: request.scheme)
    remote_ip: str = field(factory=lambda: client_ip())
    headers: Headers = field(factory=lambda: request.headers)


@frozen
class _Handler:
    """What a function `badge_base_url` is called with: BinderHub's is called with tornado's handler."""

    request: _Request


def urlpath_asked() -> str:
    """What the query of the current request says to open; nothing if that is no path in a server."""
    with suppress(UserError):
        return path_to_open(request.query_string.decode("ascii", "replace"))
    return ""


def client_ip() -> str:
    """Address of the client of the current request."""
    client = scope()["client"]
    return client[0] if client else ""


def scope() -> dict[str, Any]:
    """The ASGI scope of the current request."""
    found: dict[str, Any] = request.scope  # type: ignore[assignment]
    return found
