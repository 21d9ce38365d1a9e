"""The files of BinderHub's documentation, unchanged: each finds an image at a stand-in for its registry."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from httpx_aiohttp import AiohttpTransport
from ringbinder.config.loading import load
from ringbinder.errors import ConfigError
from ringbinder.launches.image_names import image_name
from ringbinder.plugins.context import Context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries.dockerhub import DockerHubRegistry
from ringbinder_registries.gcr import GcrRegistry
from ringbinder_registries.oci import OciRegistry

from .conftest import plan

DOCUMENTED = Path(__file__).parent.parent / "documented"
PLUGINS: dict[str, type[OciRegistry[Any]]] = {
    "oci": OciRegistry, "dockerhub": DockerHubRegistry, "gcr": GcrRegistry,
}  # fmt: skip


class Elsewhere(httpx.AsyncBaseTransport):
    """Takes requests for any host to one server; remembers for which host they were."""

    def __init__(self, server: OciServer) -> None:
        self._url = httpx.URL(server.url)
        self._inner = AiohttpTransport(client=lambda: aiohttp.ClientSession())
        self.hosts: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.scheme == "https"
        self.hosts.add(request.url.host)
        request.url = request.url.copy_with(scheme="http", host=self._url.host, port=self._url.port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.fixture
async def server() -> AsyncIterator[OciServer]:
    async with OciServer.running("token") as running:
        yield running


@pytest.mark.parametrize(
    ("files", "chosen", "user", "host", "token_url", "repository"),
    [
        (
            ("config-gcr.yaml", "secret-gcr.yaml"), "gcr", "_json_key",
            "gcr.io", "https://gcr.io/v2/token?service=gcr.io", "example-project/binder-dev-",
        ),
        (
            ("config-dockerhub.yaml", "secret-dockerhub.yaml"), "dockerhub", "some-docker-id",
            "registry-1.docker.io", "https://auth.docker.io/token?service=registry.docker.io",
            "some-docker-id/binder-dev-",
        ),
        (
            ("config-custom.yaml", "secret-custom.yaml"), "oci", "xxx",
            "myregistry.io", "https://myregistry.io/v2/token?service=the-service", "binder-dev-",
        ),
        (
            ("config-auth-config-url.yaml", "secret-dockerhub.yaml"), "dockerhub", "some-docker-id",
            "registry.hub.docker.com", "https://auth.docker.io/token?service=registry.docker.io", "library/",
        ),
    ],
)  # fmt: skip
async def test_documented_files_work(
    context: Context, server: OciServer, tmp_path: Path, files: tuple[str, ...], chosen: str, user: str,
    host: str, token_url: str, repository: str,
) -> None:  # fmt: skip
    missing = [f"DockerRegistry.docker_config_path={tmp_path}/no-config.json"]
    config = load([DOCUMENTED / name for name in files], environ={}, sets=missing)
    assert config.choice.registry == chosen
    kind = PLUGINS[chosen]
    registry = kind(config.sections.fill(kind.Config, kind.sections), context)
    assert config.registry_credentials is not None
    server.users = {user: config.registry_credentials.password.reveal()}

    elsewhere = Elsewhere(server)
    context.services._http = httpx.AsyncClient(transport=elsewhere)
    address = httpx.URL(token_url)
    server.token_path, server.service = address.path, address.params["service"]
    server.url = f"https://{address.host}"

    image = image_name(config.binderhub.image_prefix, "owner-repo", "1" * 40)
    assert await registry.check(plan(image), fresh=False) is None
    name = repository + image_name("", "owner-repo", "1" * 40).partition(":")[0]
    server.put(name, "1" * 40)
    assert await registry.check(plan(image), fresh=False) is not None
    assert elsewhere.hosts == {host, address.host}
    [token] = [seen for seen in server.seen if seen.path == server.token_path]
    word = token.headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(word).decode().partition(":")[0] == user


def test_a_stranded_password_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(
        "registry: {username: me, password: my-secret-word}\nconfig: {BinderHub: {image_prefix: registry.example/x-}}\n"
    )
    config = load([file], environ={})
    options = config.sections.fill(OciRegistry.Config, OciRegistry.sections)
    assert not options.password
    assert options.image_prefix == "registry.example/x-"
    [warning] = [text for text in config.warnings if "are not sent to" in text]
    assert "docker.io" in warning
    assert "registry.example" in warning
    assert "my-secret-word" not in warning


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("registry:\n  url: ftp://r.example\n", "line 2: registry.url: 'url' must begin with https://"),
        (
            "config:\n  BinderHub:\n    image_prefix: a//b\n",
            "line 3: BinderHub.image_prefix: 'image_prefix' must be the beginning of an image's name",
        ),
        (
            "config: {DockerRegistry: {url: 'https://me:my-secret-word@r.example'}}",
            "line 1: DockerRegistry.url: 'url' must hold no user name and password",
        ),
    ],
)
def test_a_wrong_value_is_reported_where_it_stands(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(content)
    config = load([file], environ={})
    with pytest.raises(ConfigError) as caught:
        config.sections.fill(OciRegistry.Config, OciRegistry.sections)
    assert f"{file}, {told}" in str(caught.value)
    assert "my-secret-word" not in str(caught.value)
