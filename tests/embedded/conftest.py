"""The embedded mode and what is asked of its images, under the names by which the tests here use them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from realparts.embedded import PLAN, Embedded, entry_of, in_env, place_of, request
from ringbinder_embedded.launcher import LocalLauncher

__all__ = ["PLAN", "Embedded", "entry_of", "in_env", "place_of", "request"]


@pytest.fixture
def sandbox() -> str:
    """`LocalLauncher.sandbox` of `launcher`; tests parametrize it."""
    return "off"


@pytest.fixture
async def launcher(embedded: Embedded, sandbox: str) -> AsyncIterator[LocalLauncher]:
    launcher = embedded.launcher(sandbox=sandbox)
    async with launcher.lifespan():
        yield launcher
