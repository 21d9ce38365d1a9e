"""Links to addresses that only this machine, its network or its cloud should reach, in every notation."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder.git.guard import Guard, is_public
from ringbinder.plugins.context import Context
from ringbinder.testing import make_context
from ringbinder.testing.apiserver import ApiServer

CLOUDS = {
    "AWS, Google, Azure, DigitalOcean": "169.254.169.254",
    "AWS containers": "169.254.170.2",
    "AWS over IPv6": "fd00:ec2::254",
    "Alibaba": "100.100.100.200",
    "Oracle": "192.0.0.192",
    "Azure's wire server": "168.63.129.16",
    "Google over IPv6": "fd20:ce::254",
}
# IANA's registries of special-purpose addresses, and what RFC 3879 and RFC 4291 have retired.
SPECIAL = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
    "::/128", "::1/128", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001::/32",
    "2001:2::/48", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    "4000::/3", "8000::/1",
]  # fmt: skip
WRAPPED = {"::ffff:0:0": 0, "64:ff9b::": 0, "2002::": 80}


@pytest.mark.parametrize("address", CLOUDS.values(), ids=CLOUDS)
def test_metadata_service_of_a_cloud_is_private(address: str) -> None:
    assert not is_public(address)
    if "." in address:
        assert not is_public(f"::ffff:{address}")
        assert not is_public(f"64:ff9b::{address}")


@given(st.sampled_from(SPECIAL).flatmap(lambda network: st.ip_addresses(network=network)))
def test_special_purpose_address_is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert not is_public(str(address))


@given(st.ip_addresses(v=4), st.sampled_from(list(WRAPPED)), st.integers(0, 2**80 - 1))
def test_wrapped_address_is_as_public_as_its_inside(address: ipaddress.IPv4Address, prefix: str, rest: int) -> None:
    bits = WRAPPED[prefix]
    number = int(ipaddress.IPv6Address(prefix)) | int(address) << bits | (rest if bits else 0)

    assert is_public(str(ipaddress.IPv6Address(number))) == is_public(str(address))


@given(st.ip_addresses())
def test_public_address_is_public_for_python_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Nothing that the standard library refuses is let through; wrapping, it does not look into."""
    wraps = isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped or address.sixtofour or address in ipaddress.IPv6Network("64:ff9b::/96")
    )
    if is_public(str(address)) and not wraps:
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "134744072", "0x8.8.8.8", "8.8.2056",
     "010.8.8.8", "1.2.3.4.5", "256.1.1.1", "8.8.8.0x", "127.0.0.1%2f", "a..b.", "localhost%00", "[::ffff:a9fe:a9fe]",
     "[64:ff9b::169.254.169.254]", "[fe80::1%25eth0]", "１２７.0.0.1", "127。0。0。1"],
)  # fmt: skip
async def test_other_notation_of_an_address_is_refused(host: str) -> None:
    with pytest.raises(UserError) as caught:
        await Guard(on=True).git_config(f"http://{host}/r")
    assert caught.value.code == "address-not-allowed"


async def test_name_with_one_private_address_is_bound_to_the_others() -> None:
    async def look_up(host: str, port: int) -> Sequence[str]:
        return ["169.254.169.254", "8.8.8.8", "fec0::1"]

    config = await Guard(on=True, look_up=look_up).git_config("http://rebound.example.test/r")

    assert 'curloptResolve = "rebound.example.test:80:8.8.8.8"' in config
    assert "followRedirects = false" in config


@pytest.mark.parametrize("name", ["no_proxy", "ftp_proxy", "https_proxy"])
async def test_http_without_a_proxy_of_its_own_is_guarded(
    context: Context, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Variables about other addresses than the one that is asked do not switch the guard off."""
    for one in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy"):
        monkeypatch.delenv(one, raising=False)
        monkeypatch.delenv(one.upper(), raising=False)
    monkeypatch.setenv(name, "http://192.0.2.1:1")
    async with ApiServer.running() as front, Guard(on=True).http(context.http) as client:
        with pytest.raises(httpx.TransportError, match="private address"):
            await client.get(f"{front.address}/")
        assert not front.requests


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "git")
    yield made
    await made.services.close()
