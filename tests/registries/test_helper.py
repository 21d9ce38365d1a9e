"""The registry helper: repositories that are made, and a password for each build."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from attrs import evolve
from ringbinder.config.loading import load
from ringbinder.errors import ConfigError, TransientError
from ringbinder.model import Descriptor, Plan, Target, digest_of
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import RegistryCase, RegistryContract, folder_plan, image_registry, make_context
from ringbinder.testing.apiserver import ApiServer, Reply
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries.helper import HelperOptions, HelperRegistry

from .conftest import plan

TOKEN = "the-word-of-the-helper"
IMAGE = "123.dkr.ecr.example/binder/x-1"


class HelperServer(ApiServer):
    """The service in memory, as its reference describes it. `images` are names with a tag.

    `registry` is what it gives passwords for and looks into.
    """

    def start(self) -> HelperServer:
        self.repositories: set[str] = set()
        self.images: set[str] = set()
        self.given: list[str] = []
        self.asked: list[str] = []
        self.gives_passwords = True
        self.registry = OciServer("basic")
        return self

    def content(self, path: str, request: Any) -> Any:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Reply(403, {"message": "Forbidden"})
        self.asked.append(f"{request.method} {path}")
        kind, _, name = unquote(path).lstrip("/").partition("/")
        repository, _, tag = name.partition(":")
        match request.method, kind:
            case "GET", "repo" if name in self.repositories:
                return {"RepositoryName": name}
            case "POST", "repo":
                self.repositories.add(name)
                return {"RepositoryName": name}
            case "DELETE", "repo" if name in self.repositories:
                self.repositories.remove(name)
                return {}
            case "GET", "image" if name in self.images or tag in self.registry.tags(repository):
                return {"ImageTags": [tag]}
            case "POST", "token" if self.gives_passwords:
                self.given.append(f"password-{len(self.given)}")
                login = {"username": "AWS", "password": self.given[-1]}
                self.registry.users["AWS"] = self.given[-1]
                return {**login, "registry": "https://123.dkr.ecr.example", "expires": "2026-01-01T12:00:00Z"}
        return None

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        self.fail(503)
        yield
        self.fail(0)


@pytest.fixture
async def helper() -> AsyncIterator[HelperServer]:
    async with HelperServer.running() as running:
        yield running.start()


def registry(helper: HelperServer, context: Context, **options: Any) -> HelperRegistry:
    given = {"service_url": f"{helper.address}/", "auth_token": Secret(TOKEN), "retry_delay": 0.01, **options}
    return HelperRegistry(HelperOptions(**given), context)


class TestHelper(RegistryContract):
    @pytest.fixture
    async def case(self, tmp_path: Path, helper: HelperServer) -> AsyncIterator[RegistryCase]:
        context = make_context(tmp_path, "helper")

        async def publish(plan: Plan, target: Target) -> None:
            assert target.credentials is not None
            assert json.loads(target.credentials.reveal())["password"] == helper.given[-1]
            helper.images.add(plan.image.partition("/")[2])

        async def remove(plan: Plan) -> None:
            helper.images.remove(plan.image.partition("/")[2])

        async with OciServer.running("basic") as helper.registry:
            yield RegistryCase(
                registry=registry(helper, context, url=helper.registry.url, retries=0),
                plan=evolve(folder_plan(tmp_path / "x", {"a": "b"}), image=f"{IMAGE}:{'1' * 40}"),
                publish=publish,
                remove=remove,
                down=helper.down,
                stalled=helper.stalled,
                expire=helper.registry.users.clear,
                secrets=[TOKEN],
            )
            await context.services.close()


async def test_a_repository_is_made_for_a_build_and_not_for_a_look(helper: HelperServer, context: Context) -> None:
    one = registry(helper, context)
    assert await one.check(plan(f"{IMAGE}:1"), fresh=False) is None
    assert helper.asked == ["GET /repo/binder/x-1"]
    helper.asked.clear()
    target = await one.target(plan(f"{IMAGE}:1"))
    assert helper.asked == ["GET /repo/binder/x-1", "POST /repo/binder/x-1", "POST /token/binder/x-1:1"]
    assert target.reference == f"{IMAGE}:1"
    assert target.credentials is not None
    assert json.loads(target.credentials.reveal()) == {
        "registry": "https://123.dkr.ecr.example", "username": "AWS", "password": "password-0",
    }  # fmt: skip
    helper.images.add("binder/x-1:1")
    assert await one.check(plan(f"{IMAGE}:1"), fresh=True) is not None
    helper.gives_passwords = False
    assert (await one.target(plan(f"{IMAGE}:2"))).credentials is None


async def test_a_helper_in_trouble(helper: HelperServer, context: Context) -> None:
    one, image = registry(helper, context), plan(f"{IMAGE}:1")
    assert (await one.health()).ok
    assert [line.level for line in await one.doctor()] == ["ok"]
    helper.fail(503)
    with pytest.raises(TransientError, match="The registry helper did not answer: HTTP status 503"):
        await one.check(image, fresh=True)
    assert not (await one.health()).ok
    assert await registry(helper, context, build_if_unreachable=True).check(image, fresh=False) is None
    helper.fail(0)
    strange = registry(helper, context, auth_token=Secret("another-word"))
    for ask in (strange.check(image, fresh=True), strange.target(image)):
        with pytest.raises(ConfigError, match=r"ExternalRegistryHelper\.auth_token.* 403"):
            await ask
    (line,) = await strange.doctor()
    assert line.level == "error"
    assert "another-word" not in f"{line}"


@pytest.mark.parametrize(
    ("named", "chosen", "odd"),
    [
        ("binderhub.registry.ExternalRegistryHelper", "helper", False),
        ("binderhub.registry.GoogleArtifactRegistry", "gcr", False),
        ("binderhub.registry.DockerRegistry", "oci", False),
        ("our.own.Registry", "oci", True),
    ],
)
def test_binderhubs_class_chooses_the_plugin(tmp_path: Path, named: str, chosen: str, odd: bool) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(
        f"config:\n  BinderHub: {{registry_class: {named}, image_prefix: 123.dkr.ecr.example/binder/}}\n"
        "  ExternalRegistryHelper: {service_url: 'http://helper.example:8080'}\n"
    )
    config = load([file], environ={"BINDERHUB_CONTAINER_REGISTRY_HELPER_AUTH_TOKEN": TOKEN})
    assert config.choice.registry == chosen
    assert any("registry_class" in warning for warning in config.warnings) == odd
    options = config.sections.fill(HelperOptions, HelperRegistry.sections)
    assert (options.service_url, options.auth_token.reveal()) == ("http://helper.example:8080", TOKEN)


async def test_repository_is_made_for_blobs_and_removed_empty(helper: HelperServer, context: Context) -> None:
    async with OciServer.running("basic") as helper.registry:
        one = registry(helper, context, url=helper.registry.url, image_prefix="123.dkr.ecr.example/binder/")
        blobs = image_registry(one)
        for content in (b"{}", b"a layer"):
            await blobs.put_blob(IMAGE, Descriptor("application/x", digest_of(content), len(content)), content)
        assert helper.asked.count("POST /repo/binder/x-1") == 1
        assert helper.asked.count("POST /token/binder/x-1:latest") == 1
        helper.registry.put("binder/x-1", "tag")
        assert await blobs.delete_repository(IMAGE) is False, "it has an image"
        assert await blobs.delete_manifest(IMAGE, "tag")
        assert await blobs.delete_repository(IMAGE) is True
        assert not helper.repositories
        assert await blobs.delete_repository(IMAGE) is False
        assert await blobs.delete_repository("other.example/x") is None
        await blobs.put_blob(IMAGE, Descriptor("application/x", digest_of(b"2"), 1), b"2")
        assert helper.repositories == {"binder/x-1"}, "it is made again"
