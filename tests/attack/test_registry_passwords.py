"""A password for a registry goes to that registry and its token server, wherever a response points."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ringbinder.errors import ConfigError
from ringbinder.model import Descriptor, Image, digest_of
from ringbinder.secret import Secret
from ringbinder.testing import image_registry, make_context
from ringbinder_registries.oci import OciRegistry

PASSWORD = "correct-horse-battery"


class World:
    """Every host: registries name the token server `realm`, redirect to `elsewhere`; who was given what is noted."""

    def __init__(self, realm: str) -> None:
        self.realm = realm
        self.redirects: dict[str, str] = {}
        self.upload = ""
        self.given: set[tuple[str, str]] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        where = f"{request.url.scheme}://{request.url.netloc.decode()}"
        if authorization := request.headers.get("authorization"):
            self.given.add((where, authorization.partition(" ")[0]))
        if to := self.redirects.get(request.url.path):
            return httpx.Response(307, headers={"location": to})
        if "token" in request.url.path or "auth" in request.url.path:
            return httpx.Response(200, json={"token": "a-token-for-the-registry"})
        if not authorization and request.url.path.startswith("/v2/"):
            challenge = f'Bearer realm="{self.realm}",service="s"'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        if request.method == "HEAD" and "/blobs/" in request.url.path:
            return httpx.Response(404)
        if request.method in ("POST", "PATCH"):
            return httpx.Response(202, headers={"location": self.upload})
        if request.method == "PUT":
            return httpx.Response(201)
        return httpx.Response(200, headers={"docker-content-digest": "sha256:1"}, content=b"x")


@asynccontextmanager
async def registry_in(
    tmp_path: Path, world: World, url: str, token_url: str = "", password: str = PASSWORD
) -> AsyncIterator[OciRegistry[Any]]:
    context = make_context(tmp_path, "oci", answer=world)
    options = OciRegistry.Config(
        url=url, username="builder" if password else "", password=Secret(password), token_url=token_url, retries=0,
        docker_config_path=tmp_path / "none.json",
    )  # fmt: skip
    try:
        yield OciRegistry(options, context)
    finally:
        await context.services.close()


async def look(tmp_path: Path, world: World, url: str, token_url: str = "", password: str = PASSWORD) -> Image | None:
    async with registry_in(tmp_path, world, url, token_url, password) as registry:
        found = await registry.look("account/x:1")
        await registry._client(registry.address("")).try_push("account/x")
        return found


@pytest.mark.parametrize(
    ("url", "realm"),
    [
        ("https://registry.example", "https://registry.example/token"),
        ("https://registry.example", "https://REGISTRY.example/token"),
        ("https://registry.example:5000", "https://registry.example:5001/auth"),
        ("https://registry.example", "/token"),
        ("http://localhost:5000", "http://localhost:5001/token"),
        ("https://index.docker.io/v1/", "https://auth.docker.io/token"),
        ("https://registry.hub.docker.com", "https://auth.docker.io/token"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://registry.digitalocean.com", "https://api.digitalocean.com/v2/registry/auth"),
        ("https://ghcr.io", "https://ghcr.io/token"),
        ("https://quay.io", "https://quay.io/v2/auth"),
        ("https://x.azurecr.io", "https://x.azurecr.io/oauth2/token"),
        ("https://us-docker.pkg.dev", "https://us-docker.pkg.dev/v2/token"),
    ],
)
async def test_token_server_of_a_registry_gets_the_password(tmp_path: Path, url: str, realm: str) -> None:
    world = World(realm)

    assert await look(tmp_path, world, url)

    assert len({where for where, kind in world.given if kind == "Basic"}) == 1
    assert len({where for where, kind in world.given if kind == "Bearer"}) == 1


@pytest.mark.parametrize(
    ("url", "realm"),
    [
        ("https://registry.example", "https://evil.example/token"),
        ("https://registry.example", "https://registry.example.evil.example/token"),
        ("https://registry.example", "https://registry.example@evil.example/token"),
        ("https://registry.example", "https://auth.docker.io/token"),
        ("https://registry.example", "//evil.example/token"),
        ("https://registry.example", "http://registry.example/token"),
        ("https://registry.gitlab.com", "https://gitlab.com.evil.example/jwt/auth"),
        ("https://registry.gitlab.com", "http://gitlab.com/jwt/auth"),
        ("https://index.docker.io/v1/", "https://docker.io.evil.example/token"),
        ("http://localhost:5000", "http://127.0.0.1:5001/token"),
        ("https://registry.example", "https://[evil/token"),
    ],
)
async def test_other_token_server_gets_no_password(tmp_path: Path, url: str, realm: str) -> None:
    world = World(realm)

    with pytest.raises(ConfigError, match="token_url") as caught:
        await look(tmp_path, world, url)

    assert world.given == set()
    assert PASSWORD not in str(caught.value)


async def test_token_server_of_the_configuration_gets_the_password(tmp_path: Path) -> None:
    realm = "https://gitlab.example/jwt/auth"
    with pytest.raises(ConfigError, match=f"set this to {realm}$"):
        await look(tmp_path, World(f"{realm}?x=1"), "https://registry.example")

    world = World(realm)
    assert await look(tmp_path, world, "https://registry.example", token_url=realm)

    assert world.given == {("https://gitlab.example", "Basic"), ("https://registry.example", "Bearer")}


async def test_other_token_server_is_asked_without_a_password(tmp_path: Path) -> None:
    world = World("https://tokens.example/token")

    assert await look(tmp_path, world, "https://registry.example", password="")

    assert {where for where, _ in world.given} == {"https://registry.example"}


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/x", "http://registry.example/x", "https://registry.example:444/x"]
)
async def test_redirect_takes_no_credentials_along(tmp_path: Path, elsewhere: str) -> None:
    world = World("https://registry.example/token")
    world.redirects = {"/v2/account/x/manifests/1": elsewhere, "/token": elsewhere.replace("/x", "/auth")}

    await look(tmp_path, world, "https://registry.example")

    assert {where for where, _ in world.given} == {"https://registry.example"}


@pytest.mark.parametrize("upload", ["https://evil.example/u", "http://registry.example/u", "//evil.example/u"])
async def test_upload_elsewhere_takes_no_credentials_along(tmp_path: Path, upload: str) -> None:
    world = World("https://registry.example/token")
    world.upload = upload

    await look(tmp_path, world, "https://registry.example")

    assert {where for where, _ in world.given} == {"https://registry.example"}


@pytest.mark.parametrize("size", [10, 2**21], ids=["small", "large"])
@pytest.mark.parametrize(
    "upload", ["https://evil.example/u", "https://registry.example:444/u?a=b", "//registry.example.evil.example/u"]
)
async def test_blob_sent_elsewhere_takes_no_credentials(tmp_path: Path, upload: str, size: int) -> None:
    """Registries have uploads go on at their storage, with an address that is a right by itself."""
    world = World("https://registry.example/token")
    world.upload = upload
    blob = Descriptor("application/x", digest_of(bytes(size)), size)

    async with registry_in(tmp_path, world, "https://registry.example") as registry:
        outcome = await image_registry(registry).put_blob("registry.example/account/x", blob, bytes(size))

    assert outcome == "uploaded"
    assert {where for where, _ in world.given} == {"https://registry.example"}


@pytest.mark.parametrize(
    "upload", ["http://registry.example/u", "http://evil.example/u", "ftp://registry.example/u", ""]
)
async def test_blob_is_not_sent_without_https(tmp_path: Path, upload: str) -> None:
    world = World("https://registry.example/token")
    world.upload = upload
    blob = Descriptor("application/x", digest_of(b"x"), 1)

    async def never(offset: int) -> AsyncIterator[bytes]:
        raise AssertionError("the content was asked for")
        yield b""

    async with registry_in(tmp_path, world, "https://registry.example") as registry:
        with pytest.raises(ConfigError, match=r"DockerRegistry\.url"):
            await image_registry(registry).put_blob("registry.example/account/x", blob, never)

    assert {where for where, _ in world.given} == {"https://registry.example"}


@pytest.mark.parametrize("elsewhere", ["https://evil.example/x", "https://registry.example:444/x"])
async def test_blob_read_elsewhere_takes_no_credentials(tmp_path: Path, elsewhere: str) -> None:
    """Blobs are often read at a storage that the registry redirects to; what comes from there is verified."""
    world = World("https://registry.example/token")
    blob = Descriptor("application/x", digest_of(b"x"), 1)
    world.redirects = {f"/v2/account/x/blobs/{blob.digest}": elsewhere}

    async with registry_in(tmp_path, world, "https://registry.example") as registry:
        assert await image_registry(registry).read_small_blob("registry.example/account/x", blob) == b"x"

    assert {where for where, _ in world.given} == {"https://registry.example"}
