"""A quota or rate limit that cannot count lets nobody in uncounted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ringbinder import Image, Launcher, LaunchRequest, Log, Plan, Repo, Secret, Server
from ringbinder.model import Client
from ringbinder.testing import make_context, memory_app
from ringbinder_fake import FakeProvider
from ringbinder_policies.ratelimit import RateLimit, RateLimitOptions


class Silent(Launcher[Any]):
    """Launches, and does not list what runs."""

    runs = "oci"
    launched = 0

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        self.launched += 1
        return Server(f"s{self.launched}", "http://127.0.0.1:1/", Secret("t0ken-of-the-server"))

    async def stop(self, server: Server) -> bool:
        return True


class Mute:
    """The same, of no base class and without the hook."""

    runs = "oci"

    def __init__(self, config: Any, context: Any) -> None:
        self.silent = Silent(config, context)

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        return await self.silent.launch(image, request, plan, log)

    async def stop(self, server: Server) -> bool:
        return True


@pytest.mark.parametrize("launcher", [Silent, Mute])
async def test_quota_over_a_launcher_that_lists_nothing_refuses(tmp_path: Path, launcher: type) -> None:
    quota = {"total_quota": 1}
    async with memory_app(tmp_path, {"launcher:mine": launcher}, installed=True, LaunchQuota=quota) as app:
        assert (await app.launch("fake/a/b/main"))[-1].phase == "failed"


@pytest.mark.parametrize("quota", ["1", -1, True, 1.0])
async def test_quota_of_a_repository_that_is_no_number_refuses(tmp_path: Path, quota: object) -> None:
    class Fixed(FakeProvider):
        async def resolve(self, request: LaunchRequest) -> Repo:
            return evolve(await super().resolve(request), settings={"quota": quota})

    async with memory_app(tmp_path, {"provider:mine": Fixed}, installed=True) as app:
        assert (await app.launch("mine/a/b/main"))[-1].phase == "failed"


async def test_launcher_that_lists_nothing_works_without_a_quota(tmp_path: Path) -> None:
    async with memory_app(tmp_path, {"launcher:mine": Silent}, installed=True) as app:
        assert (await app.launch("fake/a/b/main"))[-1].phase == "ready"


@pytest.mark.parametrize("ip", ["unknown", "192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
async def test_rate_limit_counts_clients_of_any_address(tmp_path: Path, ip: str) -> None:
    context = make_context(tmp_path, "ratelimit")
    try:
        limit = RateLimit(RateLimitOptions(limit=1), context)
        assert await limit.allowance(LaunchRequest("fake", "a", client=Client(ip))) is not None
    finally:
        await context.services.close()
