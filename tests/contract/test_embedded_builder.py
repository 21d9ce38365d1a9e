"""The contract of builders, kept by the `local` one with real environments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ringbinder.testing import BuilderCase, BuilderContract, folder_plan, make_context
from ringbinder_embedded.builder import LocalBuilder, LocalBuilderOptions
from ringbinder_embedded.registry import LocalRegistry, LocalRegistryOptions

pytestmark = pytest.mark.real("uv", "jupyterlab")


class TestLocalBuilder(BuilderContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[BuilderCase]:
        context = make_context(tmp_path, "local")
        registry = LocalRegistry(LocalRegistryOptions(), context)
        yield BuilderCase(
            builder=LocalBuilder(LocalBuilderOptions(), context),
            target=registry.target,
            good=folder_plan(tmp_path / "good", {"postBuild": "#!/bin/sh\necho built > built\n"}),
            broken=folder_plan(tmp_path / "broken", {"postBuild": "#!/bin/sh\nexit 3\n"}),
            endless=folder_plan(
                tmp_path / "endless",
                {"postBuild": "#!/bin/sh\necho now it takes for ever\nsleep 600 &\nsleep 600\n"},
            ),
            reveals=folder_plan(tmp_path / "reveals", {"postBuild": "#!/bin/sh\nenv\n"}),
            declines=folder_plan(tmp_path / "declines", {"apt.txt": "vim\n"}),
        )
        await context.services.close()
