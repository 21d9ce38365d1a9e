"""A federation's redirector, and fronts by which its members are known, with or without TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs
from aiohttp import ClientSession, DummyCookieJar, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NOT_PASSED_ON: Final = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})


def self_signed(folder: Path) -> ssl.SSLContext:
    """The context of a TLS server whose certificate nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1))
    certificate = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    pem = folder / "federation.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


@attrs.define
class Front:
    """An address that leads to a server which is started later."""

    address: str = ""
    """Ends in a slash."""
    target: str = ""

    @property
    def origin(self) -> str:
        return self.address.rstrip("/")

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = urlsplit(self.target)
        try:
            far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


@asynccontextmanager
async def front(tls: ssl.SSLContext | None = None) -> AsyncIterator[Front]:
    """A front without a target."""
    made = Front()
    server = await asyncio.start_server(made.join, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme = "https" if tls else "http"
        made.address = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield made


@attrs.define
class Redirector:
    """Sends `/build/...` to `chosen` (status 307, remembered in a cookie), and all else to the prime member.

    Facts of mybinder.org's redirector, as are the headers of what it passes on and allows.
    """

    address: str = ""
    members: list[str] = attrs.field(factory=list)
    """Origins; the first one is the prime."""
    chosen: str = ""
    status: int = 307
    """What `/build/...` is answered with; an error status leads nowhere."""

    async def redirect(self, request: web.Request) -> web.StreamResponse:
        allow = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "cache-control"}
        if self.status != 307:
            return web.Response(status=self.status, headers=allow)
        known = request.cookies.get("host", "")
        member = known if known in self.members else self.chosen
        response = web.Response(status=307, headers={**allow, "Location": member + request.raw_path})
        response.set_cookie("host", member, path=request.path, max_age=4 * 3600)
        return response

    async def active_hosts(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"active_hosts": {member: {"url": member} for member in self.members}})

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        headers |= {"X-Forwarded-Host": request.host, "Origin": f"{request.scheme}://{request.host}"}
        headers |= {"X-Binder-Launch-Host": self.address}
        async with (
            ClientSession(cookie_jar=DummyCookieJar(), auto_decompress=False) as client,
            client.get(self.members[0] + request.raw_path, headers=headers, ssl=False) as found,
        ):
            response = web.Response(status=found.status, body=await found.read())
            for name, value in found.headers.items():
                if name.lower() not in _NOT_PASSED_ON:
                    response.headers[name] = value
            return response


@asynccontextmanager
async def redirector(tls: ssl.SSLContext | None = None) -> AsyncIterator[Redirector]:
    """One that listens, and knows no members yet."""
    made = Redirector()
    app = web.Application()
    app.router.add_get("/build/{rest:.*}", made.redirect)
    app.router.add_get("/active_hosts", made.active_hosts)
    app.router.add_get("/{rest:.*}", made.pass_on)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        scheme = "https" if tls else "http"
        made.address = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/"
        yield made
    finally:
        await runner.cleanup()
