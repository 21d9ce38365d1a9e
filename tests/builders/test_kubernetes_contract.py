"""The builder `kubernetes` keeps the contract of builders, over the small API server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ringbinder.model import Plan, Target
from ringbinder.testing import BuilderCase, BuilderContract
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Act, Exit, Line, Wait

from .conftest import Replica, make_plan, target


def script(pod: dict[str, Any]) -> list[Act]:
    """What the pod of each plan does, by the name of its build."""
    line = Line(json.dumps({"message": "now it takes for ever\n", "phase": "building"}))
    name = pod["metadata"]["labels"]["name"]
    if "endless" in name:
        return [line, Wait(3600), Exit(0)]
    return [line, Exit(1 if "broken" in name else 0)]


class TestKubernetesBuilder(BuilderContract):
    @pytest.fixture
    async def case(self, api: KubeApi, replica: Replica) -> AsyncIterator[BuilderCase]:
        api.script = script

        async def at(plan: Plan) -> Target:
            return target(plan)

        async with replica() as builder:
            yield BuilderCase(
                builder=builder,
                target=at,
                good=make_plan(slug="good"),
                broken=make_plan(slug="broken"),
                endless=make_plan(slug="endless"),
            )
