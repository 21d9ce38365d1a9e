"""Links of strangers do not reach machines inside the network: judged is the address that is really used."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realparts.providers import made
from ringbinder.errors import UserError
from ringbinder.git.command import Access, GitCommand
from ringbinder.git.guard import Guard, is_public
from ringbinder.git.remote import Remote
from ringbinder.model import GitSource, LaunchRequest
from ringbinder.plugins.context import Context
from ringbinder.runtime.retry import Retry
from ringbinder.testing import RecordingLog
from ringbinder.testing.apiserver import ApiServer
from ringbinder.testing.gitserver import GitServer
from ringbinder_providers.git import GitOptions, GitProvider
from ringbinder_providers.github import GitHubOptions, GitHubProvider

if TYPE_CHECKING:
    from realparts.turned import TurnedClock

NAMES = {"git.example.test": "127.0.0.1", "inside.example.test": "10.1.2.3"}
"""What the names of these tests mean. 127.0.0.1 counts as public here: servers of the tests are there."""


async def look_up(host: str, port: int) -> Sequence[str]:
    return ["10.9.9.9", NAMES.get(host, host)]


GUARD = Guard(on=True, look_up=look_up, allows=lambda address: address == "127.0.0.1")


@pytest.fixture
def remote(clock: TurnedClock, tmp_path: Path) -> Remote:
    return Remote(GitCommand("git", Retry(0.01, tries=1, clock=clock), GUARD, tmp_path / "scratch"), 60.0, 60.0)


def named(server: GitServer, name: str, host: str = "git.example.test") -> str:
    return f"http://{host}:{urlsplit(server.address).port}/{name}"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
     "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::",
     "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1",
     "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::1", "::127.0.0.1"],
)  # fmt: skip
def test_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "140.82.112.3", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"],
)
def test_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_wrapping_changes_nothing(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    wrapped = [0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80]
    for value in wrapped:
        assert is_public(str(ipaddress.IPv6Address(value))) == is_public(str(address))


@pytest.mark.real("git")
async def test_git_connects_to_the_address_that_was_judged(server: GitServer, remote: Remote, tmp_path: Path) -> None:
    """No name server knows the names, so what git does with them comes from the guard."""
    inner = server.repository("inner").commit({"i": "inner"})
    outer = server.repository("outer")
    outer.submodule("sub", named(server, "inner"), inner)
    sha = outer.commit({"o": "outer"})
    url = named(server, "outer")
    assert (await remote.resolve(url, "main", Access())).commit == sha
    into = tmp_path / "into"
    into.mkdir()
    await remote.fetch(GitSource(url, sha), into, RecordingLog(), Access())
    assert (into / "sub/i").read_text() == "inner"


@pytest.mark.real("git")
@pytest.mark.parametrize("ref", ["main", "0" * 40])
async def test_a_private_address_is_refused_before_it_is_asked(server: GitServer, remote: Remote, ref: str) -> None:
    for url in (
        named(server, "r", "inside.example.test"), "http://10.1.2.3/r", "http://[::1]/r", "ssh://git@git.example.test/r",
        "git://git.example.test/r", "http://0x7f.1/r", "http://git.example.test./r", "http://ünï.example.test/r",
    ):  # fmt: skip
        with pytest.raises(UserError) as caught:
            await remote.resolve(url, ref, Access())
        assert caught.value.code == "address-not-allowed", url
    assert not server.requests


@pytest.mark.real("git")
async def test_a_redirect_is_not_followed(server: GitServer, remote: Remote, clock: TurnedClock) -> None:
    sha = server.repository("r").commit({"x": "1"})
    async with ApiServer.running() as front:
        front.fail(302, Location=f"{server.address}/r/info/refs?service=git-upload-pack")
        with pytest.raises(UserError, match="leads to another address"):
            await remote.resolve(f"{front.address}/r", "main", Access())
        assert not server.requests
        trusting = Guard(on=True, trusted=frozenset({"127.0.0.1"}))
        trusted = Remote(GitCommand("git", Retry(0.01, tries=1, clock=clock), trusting, remote.git.scratch), 60.0, 60.0)
        assert (await trusted.resolve(f"{front.address}/r", "main", Access())).commit == sha


@pytest.mark.real("git")
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://inside.example.test/r", "address-not-allowed"),
        ("git@inside.example.test:r", "submodule-not-found"),
        ("ext::sh -c id", "submodule-not-found"),
    ],
)
async def test_a_submodule_inside_is_refused(
    server: GitServer, remote: Remote, tmp_path: Path, url: str, code: str
) -> None:
    middle = server.repository("middle")
    middle.submodule("sub", url, "1" * 40)
    pinned = middle.commit({"m": "middle"})
    outer = server.repository("outer")
    outer.submodule("middle", named(server, "middle"), pinned)
    sha = outer.commit({"o": "outer"})
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(UserError, match="submodule") as caught:
        await remote.fetch(GitSource(named(server, "outer"), sha), into, RecordingLog(), Access())
    assert caught.value.code == code


_SHADOWED = """\
[submodule "used"]
\tpath = sub
\turl = {inside}
[submodule "a/../b"]
\tpath = sub
\turl = {judged}
"""


@pytest.mark.real("git")
async def test_submodule_with_an_invalid_second_name_is_judged(
    server: GitServer, remote: Remote, tmp_path: Path
) -> None:
    """git passes over the second one, whose name it does not take, and asks for the first."""
    inner = server.repository("inner").commit({"i": "inner"})
    outer = server.repository("outer")
    outer.submodule("sub", named(server, "inner"), inner)
    inside, judged = named(server, "inner", "localhost"), named(server, "inner")
    sha = outer.commit({".gitmodules": _SHADOWED.format(inside=inside, judged=judged)})
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(UserError, match="submodule") as caught:
        await remote.fetch(GitSource(named(server, "outer"), sha), into, RecordingLog(), Access())
    assert caught.value.code == "address-not-allowed"
    assert not (into / "sub/i").exists()


@pytest.mark.real("git")
async def test_on_for_a_server_that_others_reach(server: GitServer, context: Context) -> None:
    sha = server.repository("u/r").commit({"x": "1"})
    context.services.public = True

    async def resolve(options: GitOptions) -> str:
        spec = f"{quote(server.url('u/r'), safe='')}/main"
        repo = await made(GitProvider, options, context).resolve(LaunchRequest("git", spec))
        assert repo is not None
        return repo.ref

    with pytest.raises(UserError, match="private address"):
        await resolve(GitOptions())
    assert await resolve(GitOptions(trusted_hosts=frozenset({"127.0.0.1"}))) == sha
    assert await resolve(GitOptions(refuse_private_addresses=False)) == sha
    # A host that the operator has configured may be anywhere.
    hub = GitHubOptions(clone_base_url=server.address, api_base_path="http://127.0.0.1:1", retries=0)
    repo = await made(GitHubProvider, hub, context).resolve(LaunchRequest("gh", "u/r/main"))
    assert repo is not None
    assert repo.ref == sha
    levels = [found.level for found in await made(GitProvider, GitOptions(), context).doctor()]
    assert levels == ["ok"]
    careless = made(GitProvider, GitOptions(refuse_private_addresses=False), context)
    assert "private addresses" in (await careless.doctor())[-1].message


async def test_a_git_that_cannot_be_bound(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "bin/git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\necho git version 2.36.9\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(git.parent), prepend=":")
    for refuse, expected in ((True, ["ok", "error"]), (False, ["ok"])):
        provider = made(GitProvider, GitOptions(refuse_private_addresses=refuse), context)
        assert [found.level for found in await provider.doctor()] == expected


async def test_the_http_client(context: Context) -> None:
    class Front(ApiServer):
        def content(self, path: str, request: object) -> object:
            return {}

    async with Front.running() as front:
        port = urlsplit(front.address).port
        async with Guard(on=True).http(context.http) as client:
            for host in ("127.0.0.1", "localhost", "[::1]"):
                with pytest.raises(httpx.TransportError, match="private address"):
                    await client.get(f"http://{host}:{port}/")
        assert not front.requests
        async with GUARD.http(context.http) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 200
        async with Guard(on=False).http(context.http) as client:
            assert client is context.http


async def test_a_proxy_finds_the_addresses(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    unknown = Guard(on=True)
    assert "curloptResolve" not in await unknown.git_config("https://no-such-host.invalid/r")
    with pytest.raises(UserError, match="private address"):
        await unknown.git_config("https://10.0.0.1/r")
