"""The contract of policies, kept by the rate limit and the quota."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve
from ringbinder.model import Server
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import PolicyCase, PolicyContract, RecordedServers, make_context
from ringbinder.testing.policy import REQUEST
from ringbinder_policies.quota import LaunchQuota, QuotaOptions
from ringbinder_policies.ratelimit import RateLimit, RateLimitOptions


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    context = make_context(tmp_path, "policy")
    context.services.public = True
    yield context
    await context.services.close()


class TestRateLimit(PolicyContract):
    @pytest.fixture
    async def case(self, context: Context) -> PolicyCase:
        policy = RateLimit(RateLimitOptions(limit=4), context)

        @asynccontextmanager
        async def used_up() -> AsyncIterator[None]:
            for _ in range(4):
                async with case.entered("build"):
                    pass
            yield

        case = PolicyCase(policy=policy, refused=REQUEST, refused_at="build", refusing=used_up)
        return case


class TestLaunchQuota(PolicyContract):
    @pytest.fixture
    async def case(self, context: Context) -> PolicyCase:
        running = RecordedServers()

        @asynccontextmanager
        async def full() -> AsyncIterator[None]:
            running.listed = [Server("1", "http://127.0.0.1/", Secret("a-token-of-a-test"), "example:other")]
            yield
            running.listed = []

        context = evolve(context, application=evolve(context.application, servers=running))
        policy = LaunchQuota(QuotaOptions(total_quota=1, poll_interval=0.05), context)
        return PolicyCase(policy=policy, full=full)
