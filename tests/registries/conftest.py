"""Registries in memory and real ones, and plugins that ask them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from realparts.parts import PASSWORD, RealRegistry, registry
from ringbinder.model import GitSource, Plan, Repo
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import make_context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries.oci import OciRegistry

from .token_server import ISSUER, READER, Behaviour, TokenServer

Make = Callable[..., Any]


def plan(image: str) -> Plan:
    repo = Repo("https://host.example/r", GitSource("https://host.example/r", "1" * 40), "1" * 40, "r", "u", "r")
    return Plan(repo, image, "build-r")


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "oci")
    yield made
    await made.services.close()


@pytest.fixture
def make(context: Context, tmp_path: Path) -> Make:
    """Makes a registry plugin: quick retries, no docker configuration of this machine."""

    def make(kind: type[OciRegistry[Any]] = OciRegistry, password: str = "", **options: Any) -> Any:
        given = {"docker_config_path": tmp_path / "no-config.json", "retry_delay": 0.01, **options}
        return kind(kind.Config(password=Secret(password), **given), context)

    return make


@pytest.fixture
async def server() -> AsyncIterator[OciServer]:
    async with OciServer.running() as running:
        yield running


@pytest.fixture
async def guarded() -> AsyncIterator[OciServer]:
    """One whose tokens are for ``builder`` with the password `PASSWORD`."""
    async with OciServer.running("token", {"builder": PASSWORD}) as running:
        yield running


@frozen
class Guarded:
    """A real registry whose tokens `tokens` makes."""

    registry: RealRegistry
    tokens: TokenServer


@pytest.fixture(scope="session")
def token_registry(
    tmp_path_factory: pytest.TempPathFactory, require_real: Callable[..., None]
) -> Iterator[Callable[[Behaviour], Guarded]]:
    """Gives the real registry with a token server that behaves as it is said; started once for each."""
    require_real("docker-registry")
    folder = tmp_path_factory.mktemp("token-registries")
    users = {
        "builder": PASSWORD,
        READER: PASSWORD,
        "_json_key": '{"a": "key"}',
        "oauth2accesstoken": "ya29.access",
    }
    started: dict[Behaviour, Guarded] = {}
    with ExitStack() as stack:

        def start(behaviour: Behaviour) -> Guarded:
            if behaviour not in started:
                tokens = TokenServer(behaviour, f"registry of {behaviour}", users)
                stack.enter_context(tokens.running())
                certificate = folder / f"{behaviour}.crt"
                tokens.write_certificate(certificate)
                settings = {
                    "realm": tokens.url, "service": tokens.service, "issuer": ISSUER,
                    "rootcertbundle": str(certificate),
                }  # fmt: skip
                running = stack.enter_context(registry(folder / behaviour, {"token": settings}))
                started[behaviour] = Guarded(running, tokens)
            return started[behaviour]

        yield start
