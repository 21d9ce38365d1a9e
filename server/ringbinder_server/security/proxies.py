"""Who a request really comes from, where a proxy stands before this server."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from hypercorn.typing import HTTPScope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """What the configuration's networks mean; they were validated there."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def within(address: str, among: Iterable[Network]) -> bool:
    """Whether `address` is an address in one of the networks."""
    return (parsed := _address(address)) is not None and any(parsed in network for network in among)


def believe(scope: HTTPScope, trusted: Sequence[Network]) -> None:
    """Puts the client's address and scheme into `scope` as reported by a proxy, if that is one of `trusted`.

    The address is the last one of X-Forwarded-For that is no trusted proxy's (what stands before it, anybody
    can have written), else X-Real-Ip. The scheme is X-Scheme, else the last one of X-Forwarded-Proto.
    """
    client = scope["client"]
    if not trusted or not client or not within(client[0], trusted):
        return
    headers: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        name, text = name.lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    if message := _client(headers, trusted):
        scope["client"] = (message, client[1])
    schemes = headers.get(b"x-scheme") or headers.get(b"x-forwarded-proto", "")
    scheme = schemes.rpartition(",")[2].strip().lower()
    if scheme in ("http", "https"):
        scope["scheme"] = scheme


def _client(headers: dict[bytes, str], trusted: Sequence[Network]) -> str:
    message = ""
    for part in reversed(headers.get(b"x-forwarded-for", "").split(",")):
        if (address := _address(part.strip())) is None:
            break  # nothing beyond it can be believed either
        message = str(address)
        if not within(message, trusted):
            return message
    alone = _address(headers.get(b"x-real-ip", "").strip())
    return message or (str(alone) if alone else "")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # with a port, as some proxies write it
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
