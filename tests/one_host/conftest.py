"""One stack for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from realparts.fixtures import Repo2Docker
from realparts.forge import Forge
from realparts.npm import Pages
from realparts.parts import RealEngine

from . import stack


@pytest.fixture(scope="session")
def binder(
    tmp_path_factory: pytest.TempPathFactory,
    docker_engine: RealEngine,
    repo2docker_2024: Repo2Docker,
    layers_base: str,
    pages: Pages,
    forge: Forge,
    require_real: Callable[..., None],
) -> Iterator[stack.OneHost]:
    """`examples/one-host`, running, with builder `layers` in front of its `docker`."""
    require_real("npm", "docker-registry", "git")
    with stack.one_host(
        tmp_path_factory.mktemp("one-host"), docker_engine, repo2docker_2024, layers_base, pages.origin, forge
    ) as running:
        yield running
