"""The contract of builders, kept by the fake one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ringbinder.model import Plan, Target
from ringbinder.testing import BuilderCase, BuilderContract, folder_plan, make_context
from ringbinder_fake.builder import FakeBuilder, FakeBuilderOptions


async def target(plan: Plan) -> Target:
    return Target("oci", reference=plan.image)


class TestFakeBuilder(BuilderContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[BuilderCase]:
        context = make_context(tmp_path, "fake")
        builder = FakeBuilder(FakeBuilderOptions(), context)
        yield BuilderCase(builder=builder, target=target, good=folder_plan(tmp_path / "a", {}))
        await context.services.close()
