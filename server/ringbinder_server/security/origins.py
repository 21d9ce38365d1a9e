"""Who may ask: a web page that somebody visits must not start code on the machine where this server runs."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from attrs import frozen
from ringbinder.config.loading import Config
from ringbinder.runtime.import_string import is_named

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:@/\\?#\s]+)(?P<port>:[0-9]*)?", re.ASCII)
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


def split_host(header: str) -> tuple[str, str]:
    """Host name in lower case, and ``:port`` if there is one; both empty if a Host header is not a host."""
    match = _HOST.fullmatch(header.lower())
    return (match["name"].rstrip("."), match["port"] or "") if match else ("", "")


@frozen
class Asker:
    """What a request tells of who sent it; browsers fill these in, and a page cannot change them."""

    scheme: str
    host: str
    """The Host header, with the port if there is one."""
    origin: str = ""
    site: str = ""
    """The Sec-Fetch-Site header."""
    by_cookie: bool = False
    """Known by what a browser sends along, no matter which page made it ask."""
    by_script: bool = False
    """Has X-Xsrftoken: only a script of this origin can send that unasked."""

    @property
    def host_name(self) -> str:
        """Host name in lower case without port; empty if the header is not a host."""
        return split_host(self.host)[0]

    @property
    def by_address(self) -> bool:
        """Whether it used an IP address: no name of a stranger's leads there."""
        try:
            ip_address(self.host_name.strip("[]"))
        except ValueError:
            return False
        return True


@frozen
class Guard:
    """Judges by Host, Origin and Sec-Fetch-Site. `hosts` and `origins` may hold ``*``."""

    hosts: frozenset[str]
    """Names by which this server may be addressed; under another, DNS may have been turned against us."""
    origins: frozenset[str]
    """Foreign origins whose pages may start builds."""
    own: str = ""
    """Public origin of this server, if it is configured."""

    @classmethod
    def of(cls, config: Config, bound: str) -> Guard:
        """The guard that `config` asks for; `bound` is the address that the server listens on."""
        known = config.binderhub.badge_base_url
        public = urlsplit("" if is_named(known) else known)
        names = {bound, f"[{bound}]" if ":" in bound else bound, *config.settings.allowed_hosts}
        if config.binderhub.auth_enabled:  # a hub's services have its address
            names.add(Asker("", urlsplit(config.binderhub.hub_url).netloc).host_name)
        if public.netloc:
            names.add(Asker(public.scheme, public.netloc).host_name)
        hosts = _LOOPBACK | {name.lower().rstrip(".") for name in names if name}
        origins = frozenset(_plain(origin) for origin in config.binderhub.allowed_origins)
        return cls(hosts, origins, _plain(f"{public.scheme}://{public.netloc}") if public.netloc else "")

    def unknown_host(self, asker: Asker) -> str:
        """Why `asker` gets nothing by the host name that it used, and what to configure; empty if it may ask."""
        if "*" in self.hosts or asker.host_name in self.hosts:
            return ""
        return (
            f"This server is not known by the host name {asker.host!r}, by which it was addressed. "
            f"The operator can allow the name in the option Ringbinder.allowed_hosts."
        )

    def refusal(self, asker: Asker) -> str:
        """Why `asker` may not start anything, and what to configure; empty if it may."""
        if unknown := self.unknown_host(asker):
            return unknown
        if asker.by_cookie:
            return "" if self.is_own_page(asker) else _NOT_BY_COOKIE
        if "*" in self.origins:
            return ""
        if asker.origin:
            if self.is_own(asker) or _plain(asker.origin) in self.origins:
                return ""
            if asker.origin == "null":
                return _NOT_BY_HIDDEN_ORIGIN
            return (
                f"Pages of the origin {asker.origin!r} may not start builds here. "
                f"The operator of this server can allow it in the option BinderHub.cors_allow_origin."
            )
        if asker.site in ("cross-site", "same-site"):
            return (
                f"Another site's page may not start builds here (Sec-Fetch-Site: {asker.site}). "
                f"The operator of this server can allow that site in the option BinderHub.cors_allow_origin."
            )
        return ""

    def is_own_page(self, asker: Asker) -> bool:
        """Whether a page of this server, or no one's page, asks; browsers before 2023, and by http, do not say."""
        if asker.origin:
            return self.is_own(asker)
        return asker.site in ("same-origin", "none") if asker.site else asker.by_script

    def is_own(self, asker: Asker) -> bool:
        """Whether a page of this server asks. An opaque origin (``null``) is foreign."""
        return _plain(asker.origin) in {_plain(f"{asker.scheme}://{asker.host}"), self.own or None}

    def cors(self, origin: str) -> dict[str, str]:
        """The response headers that let a page of `origin` read the answer, if it is allowed to."""
        if "*" in self.origins:
            return {"Access-Control-Allow-Origin": "*", **_PREFLIGHT}
        readers = self.origins | {self.own} - {""}
        if not readers:
            return {}
        if _plain(origin) in readers:
            return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **_PREFLIGHT}
        return {"Vary": "Origin"}


_NOT_BY_HIDDEN_ORIGIN = (
    "The browser hides the origin of the page that asks (Origin: null), as it does when another site's request is "
    "redirected from one server to another. Such pages may start builds here only if BinderHub.cors_allow_origin is "
    "`*`; or let them ask this server itself instead of a redirector."
)

_NOT_BY_COOKIE = (
    "Who has logged in starts things from the pages of this server only. Other pages, and programs, send a user's "
    "token in the header `Authorization`, as `Bearer TOKEN`."
)

_PREFLIGHT = {
    "Access-Control-Allow-Headers": (
        "cache-control, authorization, x-xsrftoken, last-event-id, content-type, idempotency-key"
    ),
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE, OPTIONS",
    "Access-Control-Expose-Headers": (
        "x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, retry-after, location, x-request-id"
    ),
    "Access-Control-Max-Age": "600",
}


def _plain(origin: str) -> str:
    origin = origin.lower().rstrip("/")
    return origin.removesuffix(_DEFAULT_PORT.get(origin.partition(":")[0], ":"))
