"""Every registry that ships here keeps the registries' contract; so does one with short-lived credentials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ringbinder.model import Image, Plan, Target
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog, RegistryCase, RegistryContract, folder_plan, make_context
from ringbinder.testing.ociregistry import Authentication, OciServer, push_manifest
from ringbinder_embedded.registry import LocalRegistry, LocalRegistryOptions
from ringbinder_embedded.store import images
from ringbinder_fake import FakeRegistry
from ringbinder_fake.registry import FakeRegistryOptions
from ringbinder_registries._credentials import Credentials
from ringbinder_registries._options import DockerRegistryOptions
from ringbinder_registries.dockerhub import DockerHubRegistry
from ringbinder_registries.gcr import GcrRegistry, GoogleOptions
from ringbinder_registries.oci import OciRegistry

PASSWORD = "a-password-of-the-contract"
QUICK: dict[str, Any] = {"retries": 1, "retry_delay": 0.01}


class TestLocal(RegistryContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[RegistryCase]:
        context = make_context(tmp_path, "local")
        registry = LocalRegistry(LocalRegistryOptions(), context)
        store = images(context.paths.state)

        async def publish(plan: Plan, target: Target) -> None:
            entry = store.entry(plan.image)
            entry.python.parent.mkdir(parents=True)
            entry.python.touch()
            entry.finish({"name": plan.image})
            await registry.push(Image(plan.image, "folder", path=target.folder), target, RecordingLog())

        async def remove(plan: Plan) -> None:
            assert store.entry(plan.image).clear()

        yield RegistryCase(
            registry=registry, plan=folder_plan(tmp_path / "x", {"a": "b"}), publish=publish, remove=remove
        )
        await context.services.close()


class TestFake(RegistryContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[RegistryCase]:
        context = make_context(tmp_path, "fake")
        registry = FakeRegistry(FakeRegistryOptions(), context)

        async def publish(plan: Plan, target: Target) -> None:
            await registry.push(Image(plan.image, "oci"), target, RecordingLog())

        yield RegistryCase(registry=registry, plan=folder_plan(tmp_path / "x", {"a": "b"}), publish=publish)
        await context.services.close()


def oci_case(registry: OciRegistry[Any], server: OciServer, plan: Plan) -> RegistryCase:
    async def publish(plan: Plan, target: Target) -> None:
        login = json.loads(target.credentials.reveal()) if target.credentials else None
        assert login is None or login["registry"] == server.host
        name, _, tag = plan.image.removeprefix(f"{server.host}/").partition(":")
        await push_manifest(server, name, tag, login)

    async def remove(plan: Plan) -> None:
        name, _, tag = plan.image.removeprefix(f"{server.host}/").partition(":")
        server.remove(name, tag)

    return RegistryCase(
        registry=registry, plan=evolve(plan, image=f"{server.host}/binder/x-1234:{plan.repo.ref}"),
        publish=publish, remove=remove, down=server.down, stalled=server.stalled, secrets=[PASSWORD],
    )  # fmt: skip


class TestOci(RegistryContract):
    kind: type[OciRegistry[Any]] = OciRegistry
    options: type[DockerRegistryOptions] = DockerRegistryOptions

    @pytest.fixture(params=["none", "basic", "token"])
    async def case(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RegistryCase]:
        authentication: Authentication = request.param
        async with OciServer.running(authentication, {"builder": PASSWORD}) as server:
            context = make_context(tmp_path, "oci")
            # A registry without a password is sent none.
            password = Secret("" if authentication == "none" else PASSWORD)
            options = self.options(
                url=server.url, username="builder", password=password,
                docker_config_path=tmp_path / "none", **QUICK,
            )  # fmt: skip
            plan = folder_plan(tmp_path / "x", {"a": "b"})
            yield oci_case(self.kind(options, context), server, plan)
            await context.services.close()


class TestDockerHub(TestOci):
    kind = DockerHubRegistry


class TestGcr(TestOci):
    kind = GcrRegistry
    options = GoogleOptions


class VendingMachine(OciRegistry[DockerRegistryOptions]):
    """Has a password made each time it is asked, as Amazon's ECR and others want it."""

    server: OciServer
    made = 0

    async def credentials(self, registry: str) -> Credentials | None:
        self.made += 1
        self.server.users = {**self.server.users, "AWS": f"{PASSWORD}-{self.made}"}
        return Credentials(self.server.host, "AWS", Secret(self.server.users["AWS"]))


class TestShortLivedCredentials(RegistryContract):
    @pytest.fixture(params=["basic", "token"])
    async def case(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RegistryCase]:
        async with OciServer.running(request.param) as server:
            context = make_context(tmp_path, "vending")
            options = DockerRegistryOptions(url=server.url, **QUICK)
            registry = VendingMachine(options, context)
            registry.server = server

            def expire() -> None:
                server.users.clear()
                server.revoke_tokens()

            case = oci_case(registry, server, folder_plan(tmp_path / "x", {"a": "b"}))
            yield evolve(case, expire=expire)
            await context.services.close()
