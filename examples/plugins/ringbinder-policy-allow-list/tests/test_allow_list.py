"""The policy as installed: its contract, and lists that change, vanish and come back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip(
    "ringbinder_policy_allow_list", reason="pip install ./examples/plugins/ringbinder-policy-allow-list"
)

import httpx
from attrs import define
from ringbinder import Context, Refused
from ringbinder.testing import FakeClock, PolicyCase, PolicyContract, memory_app
from ringbinder.testing.policy import REQUEST
from ringbinder_policy_allow_list import AllowList, AllowListOptions

pytest_plugins = "ringbinder.testing.pytest"

OPTIONS = AllowListOptions(url="https://lists.example/all.txt", refresh=60)


@define
class Page:
    """Answers as the server of the list does."""

    text: str = "# ours\nhttps://example.org/*  # all\n"
    status: int = 200
    asked: int = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(self.status, text=self.text)


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def policy(plugin_context: Callable[..., Context], page: Page) -> AllowList:
    return AllowList(OPTIONS, plugin_context("allow_list", answer=page))


class TestAllowList(PolicyContract):
    @pytest.fixture
    async def case(self, policy: AllowList) -> PolicyCase:
        @asynccontextmanager
        async def another_list() -> AsyncIterator[None]:
            before, policy._forms = policy._forms, ("https://elsewhere.example/*",)
            policy._asked_at = policy.context.clock.monotonic()
            yield
            policy._forms = before

        return PolicyCase(policy=policy, refused=REQUEST, refused_at="build", refusing=another_list)


async def test_the_list_is_asked_again_when_it_is_old(policy: AllowList, page: Page, fake_clock: FakeClock) -> None:
    case = PolicyCase(policy=policy)
    for _ in range(3):
        await policy.admit(case.ticket("build"))
    assert page.asked == 1
    page.text = "https://elsewhere.example/*"
    await fake_clock.advance(60)
    with pytest.raises(Refused, match="not in the list"):
        await policy.admit(case.ticket("build"))
    assert page.asked == 2


async def test_without_a_list_no_one_gets_in_and_an_old_one_is_kept(
    policy: AllowList, page: Page, fake_clock: FakeClock
) -> None:
    case = PolicyCase(policy=policy)
    page.status = 503
    with pytest.raises(Refused, match="just now") as caught:
        await policy.admit(case.ticket("build"))
    assert caught.value.retry_after == 30
    for status in (200, 503):
        page.status = status
        await fake_clock.advance(60)
        assert await policy.admit(case.ticket("build")) is None


@pytest.mark.parametrize(("text", "phase"), [("https://fake.invalid/*", "ready"), ("https://x.example", "failed")])
async def test_a_launch_with_the_installed_plugin(tmp_path: Path, text: str, phase: str) -> None:
    assert [point.name for point in entry_points(group="ringbinder.policies", name="allow_list")] == ["allow_list"]
    section = {"url": OPTIONS.url}
    async with memory_app(tmp_path, installed=True, answer=Page(text), AllowList=section) as app:
        events = await app.launch("fake/a/b/main")
    assert events[-1].phase == phase, events[-1].message
