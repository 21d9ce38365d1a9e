"""Downloads of package files: whole and verified or not at all, with each host's own credentials, nowhere private."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attrs import evolve
from realparts.package_index import IndexedFile, PackageIndex
from ringbinder import BuildError, Context, TransientError
from ringbinder.git import Guard
from ringbinder.testing import FakeClock, make_context
from ringbinder_layers.downloads import Downloads
from ringbinder_layers.model import Package
from ringbinder_layers.sources import Sources, sources

LIMIT = 10_000


def package(index: PackageIndex, file: IndexedFile) -> Package:
    """As a lock has it."""
    name = file.name.partition("-")[0]
    url = f"{index.root}/files/{name}/{file.name}"
    return Package("wheel", name, "1.0", url, f"sha256:{file.digest}", len(file.content))


def of(index: PackageIndex, *more: str, login: bool = False) -> Sources:
    return sources({"UV_INDEX": " ".join([index.with_login() if login else index.url, *more])})


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    context = make_context(tmp_path / "process", "layers", clock=FakeClock(jumps=True))
    yield context
    await context.services.close()


async def fetched(
    context: Context, known: Sources, wanted: Package, folder: Path, limit: int = LIMIT, stall_seconds: float = 30.0
) -> bytes:
    downloads = Downloads(context, known, stall_seconds)
    async with downloads.lifespan():
        await downloads.fetch(wanted, folder / "file", limit)
    return (folder / "file").read_bytes()


async def test_download_has_the_bytes(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    file = index.add("one", "1.0")
    assert await fetched(context, of(index), package(index, file), tmp_path) == file.content


@pytest.mark.parametrize("content", [b"another file", b""])
async def test_download_of_another_file_is_refused(
    index: PackageIndex, context: Context, tmp_path: Path, content: bytes
) -> None:
    """The index lies about a hash, or what is there was replaced."""
    file = index.add("one", "1.0")
    wanted = package(index, file)
    file.content = content
    with pytest.raises(BuildError, match=r"one 1\.0 of 127\.0\.0\.1 is not the file") as caught:
        await fetched(context, of(index), wanted, tmp_path)
    assert caught.value.code == "hash-mismatch"
    assert len(index.requests) == 1


async def test_download_of_another_size_is_refused(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    file = index.add("one", "1.0")
    with pytest.raises(BuildError, match="is not the file"):
        await fetched(context, of(index), evolve(package(index, file), size=7), tmp_path)


async def test_download_ends_at_the_limit(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    file = index.add("one", "1.0")
    wanted = package(index, file)
    for known in (wanted, evolve(wanted, size=None)):
        with pytest.raises(BuildError, match="more than the 100 bytes") as caught:
            await fetched(context, of(index), known, tmp_path, limit=100)
        assert caught.value.code == "build-limit"


async def test_download_that_stalls_is_tried_again(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    file = index.add("one", "1.0")
    index.stalls = {file.name}
    with pytest.raises(TransientError, match=r"one 1\.0 could not be downloaded from 127\.0\.0\.1"):
        await fetched(context, of(index), package(index, file), tmp_path, stall_seconds=1.0)
    assert len(index.requests) > 1


async def test_download_waits_for_a_host_that_is_down(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    file = index.add("one", "1.0")
    index.down = True
    with pytest.raises(TransientError, match="answers 503"):
        await fetched(context, of(index), package(index, file), tmp_path)
    index.down = False
    assert await fetched(context, of(index), package(index, file), tmp_path) == file.content


async def test_download_of_what_is_gone_names_it(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    file = index.add("one", "1.0")
    wanted = package(index, file)
    del index.files["one"]
    with pytest.raises(BuildError, match=r"one 1\.0 cannot be downloaded: 127\.0\.0\.1 answers 404"):
        await fetched(context, of(index), wanted, tmp_path)


async def test_download_sends_a_login_to_its_host_only(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    """A redirect to another named host goes there without it."""
    own = PackageIndex(login="user:s3cret")
    file = own.add("one", "1.0")
    index.add("one", "1.0")
    with own.serving():
        known = of(own, index.url, login=True)
        assert await fetched(context, known, package(own, file), tmp_path) == file.content
        file.redirect = f"{index.root}/files/one/{file.name}"
        assert await fetched(context, known, package(own, file), tmp_path) == file.content
    assert all(login for _, login in own.requests)
    assert [login for _, login in index.requests] == [None]


@pytest.mark.parametrize(
    "address", ["http://127.0.0.2:{port}/x", "http://localhost:{port}/x", "http://other.example/x"]
)
async def test_redirect_to_a_host_not_named_needs_encryption(
    index: PackageIndex, context: Context, tmp_path: Path, address: str
) -> None:
    file = index.add("one", "1.0")
    file.redirect = address.format(port=index.root.rpartition(":")[2])
    with pytest.raises(BuildError, match="leads to another host without encryption"):
        await fetched(context, of(index), package(index, file), tmp_path)
    assert len(index.requests) == 1


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
async def test_redirect_to_a_private_address_is_refused(
    index: PackageIndex, context: Context, tmp_path: Path, host: str
) -> None:
    file = index.add("one", "1.0")
    file.redirect = f"https://{host}:{index.root.rpartition(':')[2]}/x"
    with pytest.raises(TransientError, match=r"could not be downloaded from 127\.0\.0\.1"):
        await fetched(context, of(index), package(index, file), tmp_path)
    assert {path for path, _ in index.requests} == {f"/files/one/{file.name}"}


async def test_redirects_in_a_circle_end(index: PackageIndex, context: Context, tmp_path: Path) -> None:
    file = index.add("one", "1.0")
    file.redirect = package(index, file).url
    with pytest.raises(BuildError, match="redirects too often"):
        await fetched(context, of(index), package(index, file), tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fd00::1", "fe80::1%eth0", "::ffff:127.0.0.1", "::", "64:ff9b::7f00:1", "2002:7f00:1::", "168.63.129.16",
    ],
)  # fmt: skip
def test_socket_to_a_private_address_is_refused(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(OSError, match="private"):
        Guard(on=True)._socket((family, socket.SOCK_STREAM, 0, "", (address, 443)))


@pytest.mark.parametrize("address", ["151.101.0.223", "2a04:4e42::223"])
def test_socket_to_a_public_address_is_made(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    Guard(on=True)._socket((family, socket.SOCK_STREAM, 0, "", (address, 443))).close()
