"""Keeps links of strangers away from addresses that only machines inside the network should reach."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from attrs import field, frozen

from ..config.specs import shown
from ..errors import TransientError, UserError
from ..runtime.services import Http

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
# By the rule of browsers: what ends so is an IPv4 address in some notation, and no name.
_NUMBER_LAST: Final = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)")

# Not public, by IANA's registries of special-purpose addresses; not by `ipaddress`, which changes with Python.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/3",
        "168.63.129.16/32",  # what Azure's machines get their settings from; the other clouds' are in the blocks above
        "2001::/23", "2001:db8::/32", "3fff::/20",
    )
)  # fmt: skip
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# Network prefixes whose addresses stand for an IPv4 address: how many bits lie behind that.
_EMBEDDED: Final = {
    ipaddress.IPv6Network("::ffff:0:0/96"): 0,
    ipaddress.IPv6Network("64:ff9b::/96"): 0,
    ipaddress.IPv6Network("2002::/16"): 80,
}

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the internet's, also where it wraps an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        for network, bits in _EMBEDDED.items():
            if ip in network:
                return is_public(str(ipaddress.IPv4Address(int(ip) >> bits & 0xFFFFFFFF)))
        if ip not in _GLOBAL_UNICAST:
            return False
    return not any(ip in network for network in _SPECIAL)


async def _look_up(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@frozen
class Guard:
    """If `on`, refuses every host that is not on the internet, except the hosts in `trusted`.

    Where a proxy is configured (``https_proxy``), it makes the connections, and what it refuses is its business:
    then only addresses that are known here are judged.
    """

    on: bool
    """Whether anything is refused."""
    trusted: Collection[str] = frozenset()
    """Names of hosts, in lower case."""
    look_up: Lookup = field(default=_look_up, repr=False)
    """Finds the addresses of a name; for tests."""
    allows: Callable[[str], bool] = field(default=is_public, repr=False)
    """Judges an address; for tests."""

    async def git_config(self, url: str) -> str:
        """What makes git connect to `url` at an address that was judged, and nowhere else.

        It pins names with ``http.curloptResolve``, which holds for what git really connects to, and follows no
        redirect. Raises UserError (``address-not-allowed``, ``repo-not-found``) or TransientError.
        """
        parts = urlsplit(url)
        if not self.on or parts.scheme == "file":
            return ""
        host, port = (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        config = "[http]\n\tfollowRedirects = false\n"
        if self.trusts(url):
            return f'{config}[http "{parts.scheme}://{parts.netloc.lower()}"]\n\tfollowRedirects = initial\n'
        if not port or parts.scheme not in _DEFAULT_PORTS:
            raise _refusal(f"{shown(url)}: only http and https addresses may be launched here.")
        pinned = await self._judged(url, host, port)
        addresses = ",".join(f"[{address}]" if ":" in address else address for address in pinned)
        pin = f'\tcurloptResolve = "{host}:{port}:{addresses}"\n' if pinned and ":" not in host else ""
        return config + pin

    def trusts(self, url: str) -> bool:
        """Whether `url` is on a host that may be anywhere."""
        return not self.on or (urlsplit(url).hostname or "").lower() in self.trusted

    async def _judged(self, url: str, host: str, port: int) -> Sequence[str]:
        """The addresses of `host` that may be connected to; none if a proxy finds them."""
        if not _is_plain(host):
            raise _refusal(f'{shown(url)}: "{shown(host)}" is no plain host name.')
        try:
            found = await self.look_up(host, port)
        except (socket.gaierror, UnicodeError) as error:
            if _proxied(urlsplit(url).scheme, host):
                return ()
            if getattr(error, "errno", None) == socket.EAI_AGAIN:
                raise TransientError(f"The host {shown(host)} could not be looked up.") from None
            raise UserError("repo-not-found", f"There is no host {shown(host)}: check the address.") from None
        if not (good := [address for address in found if self.allows(address)]):
            raise _refusal(f"{shown(host)} is at a private address, and repositories there may not be launched here.")
        return good

    @asynccontextmanager
    async def http(self, shared: Http) -> AsyncIterator[Http]:
        """An HTTP client that connects nowhere else; `shared` if there is nothing to guard."""
        if not self.on:
            yield shared
            return
        import httpx

        from ..runtime.http import open_transport

        async with httpx.AsyncClient(
            transport=open_transport(self._socket), timeout=shared.timeout, headers=shared.headers
        ) as client:
            yield client

    def _socket(self, info: Any) -> socket.socket:
        """Called with the address that is about to be connected to."""
        family, kind, protocol, _, address = info
        if not self.allows(str(address[0])):
            raise PermissionError(errno.EACCES, f"{address[0]} is a private address")
        return socket.socket(family, kind, protocol)


def _refusal(message: str) -> UserError:
    return UserError("address-not-allowed", message)


def _is_plain(host: str) -> bool:
    """Whether `host` is a name, or an address in the usual notation: others may mean one thing here and one in git."""
    if ":" not in host and not _NUMBER_LAST.fullmatch(host):
        return _NAME.fullmatch(host) is not None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _proxied(scheme: str, host: str) -> bool:
    proxies = getproxies_environment()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host, proxies)
