"""A stand-in for github.com and gitlab.com over TLS, to a Ringbinder with its settings: git, and the web APIs."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ringbinder.testing.gitserver import GitServer, Repository
from ringbinder.testing.hosts import GitHubApiServer, GitLabApiServer

_SYSTEM: Final = Path("/etc/ssl/certs/ca-certificates.crt")


@frozen
class Forge:
    """A running stand-in. Repositories are ``owner/name``."""

    root: Path
    trusted: Path
    """File of certificates: those of the system, and this one's."""
    git_url: str
    github_url: str
    """Of the web API, as `gitlab_url`."""
    gitlab_url: str

    def repository(self, name: str) -> Repository:
        return Repository.make(self.root / f"{name}.git")

    @property
    def settings(self) -> dict[str, dict[str, str]]:
        """Sections of Ringbinder's providers `gh` and `gl`."""
        return {
            "GitHubRepoProvider": {"clone_base_url": self.git_url, "api_base_path": self.github_url},
            "GitLabRepoProvider": {
                "clone_base_url": self.git_url,
                "api_base_path": f"{self.gitlab_url}/api/v4",
            },
        }

    @property
    def env(self) -> dict[str, str]:
        """Variables of a program that trusts it."""
        return dict.fromkeys(("SSL_CERT_FILE", "GIT_SSL_CAINFO"), str(self.trusted))


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]) -> Iterator[Forge]:
    """One for all tests, in a thread of its own."""
    require_real("git")
    folder = tmp_path_factory.mktemp("forge")
    (folder / "own.pem").write_bytes(_certificate())
    system = _SYSTEM.read_bytes() if _SYSTEM.exists() else b""
    (folder / "trusted.pem").write_bytes(system + (folder / "own.pem").read_bytes())
    started: list[Forge] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "own.pem")
        async with AsyncExitStack() as stack:
            git = await stack.enter_async_context(GitServer.running(folder / "served"))
            github = await stack.enter_async_context(GitHubApiServer.running(git=git))
            gitlab = await stack.enter_async_context(GitLabApiServer.running(git=git))
            fronts = [
                await stack.enter_async_context(await _front(address, context))
                for address in (git.address, github.address, gitlab.address)
            ]
            urls = [f"https://localhost:{front.sockets[0].getsockname()[1]}" for front in fronts]
            started.append(Forge(git.root, folder / "trusted.pem", *urls))
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    assert ready.wait(60)
    yield started[0]
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


async def _front(address: str, context: ssl.SSLContext) -> asyncio.Server:
    """A TLS server before the plain one at `address`."""
    port = int(address.rpartition(":")[2])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pipe(reader, inner_writer), _pipe(inner_reader, writer))

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


def _certificate() -> bytes:
    """A key and its certificate, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forge of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
