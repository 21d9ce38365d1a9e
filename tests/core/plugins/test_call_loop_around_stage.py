"""One wrapper of all stages: what it is given, where it stands, and what its mistakes cost."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import structlog
from ringbinder import GitSource, Image, LaunchRequest, Plan, Plugin, PluginError, Repo, Stage, hookimpl
from ringbinder.plugins.caller import HookCaller
from ringbinder.testing import memory_app

REQUEST = LaunchRequest("gh", "a/b/main")
REPO = Repo("u", GitSource("u", "abc"), "abc", "a/b/abc", "u", "a-b")


class Provider:
    async def resolve(self) -> Repo:
        return REPO


class Inner:
    def __init__(self, trace: list[str]) -> None:
        self.trace = trace

    @hookimpl(wrapper=True)
    def resolve(self) -> Generator[None, Any, Any]:
        self.trace.append("resolve in")
        result = yield
        self.trace.append("resolve out")
        return result


class Outer:
    def __init__(self, trace: list[str]) -> None:
        self.trace = trace

    def around_stage(self, stage: Stage, request: LaunchRequest) -> Generator[None, Any, Any]:
        self.trace.append(f"{stage} {request.spec}")
        result = yield
        self.trace.append(f"{stage} gave {result.ref}")
        return result


@pytest.fixture
def hooks() -> HookCaller:
    hooks = HookCaller(structlog.get_logger())
    hooks.register(Provider(), "provider:gh")
    return hooks


async def test_it_stands_outside_of_single_wrappers(hooks: HookCaller) -> None:
    trace: list[str] = []
    hooks.register(Outer(trace), "plugin:outer", general=True)
    hooks.register(Inner(trace), "plugin:inner", general=True)
    assert await hooks.resolve("provider:gh", request=REQUEST) == REPO
    assert trace == ["resolve a/b/main", "resolve in", "resolve out", "resolve gave abc"]
    assert hooks.hooks_of("plugin:outer") == ("around_stage",)


async def test_it_goes_around_stages_alone(hooks: HookCaller) -> None:
    trace: list[str] = []
    hooks.register(Outer(trace), "plugin:outer", general=True)
    assert await hooks.fetch("provider:gh", repo=REPO, into=Path(), log=structlog.get_logger()) is None
    assert await hooks.health(lambda plugin, error: pytest.fail(str(error))) == []
    assert trace == []


async def test_that_of_a_plugin_not_chosen_is_not_asked(hooks: HookCaller) -> None:
    trace: list[str] = []
    hooks.register(Outer(trace), "provider:other")
    await hooks.resolve("provider:gh", request=REQUEST)
    assert trace == []


async def test_each_stage_of_a_launch_is_wrapped_once(tmp_path: Path) -> None:
    seen: list[tuple[str, list[str]]] = []

    class Noting(Plugin[Any]):
        def around_stage(
            self, stage: Stage, request: LaunchRequest | None, plan: Plan | None, image: Image | None
        ) -> Generator[None, Any, Any]:
            given = {"request": request, "plan": plan, "image": image}
            seen.append((stage, [name for name, value in given.items() if value is not None]))
            return (yield)

    async with memory_app(tmp_path, {"plugin:noting": Noting}) as app:
        events = await app.launch("fake/a/b/main")
    assert events[-1].phase == "ready", events[-1].message
    assert dict(seen) == {
        "resolve": ["request"],
        "check": ["plan"],
        "build": ["plan"],
        "push": ["image"],
        "launch": ["request", "plan", "image"],
    }


class Swallowing:
    def around_stage(self) -> Generator[None, Any, Any]:
        result = yield
        return {"nothing": result}.get("something")


class Turning:
    def around_stage(self) -> Generator[None, Any, Any]:
        result = yield
        return result and "text"


class Twice:
    def around_stage(self) -> Generator[None, Any, Any]:
        yield
        return (yield)


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (Swallowing, "its wrapper gave None instead of a Repo"),
        (Turning, "its wrapper gave a str instead of a Repo"),
        (Twice, "the wrapper yields more than once"),
    ],
)
async def test_its_mistakes_are_named(hooks: HookCaller, plugin: type, words: str) -> None:
    hooks.register(plugin(), "plugin:bad", general=True)
    with pytest.raises(PluginError, match=re.escape(f"plugin 'plugin:bad', hook 'around_stage': {words}")):
        await hooks.resolve("provider:gh", request=REQUEST)


class Forgetful:
    def around_stage(self, stage: Stage) -> Generator[None, Any, Any]:
        yield


class Awaited:
    async def around_stage(self, stage: Stage) -> None: ...


class Plain:
    def around_stage(self, stage: Stage) -> None: ...


class Curious:
    def around_stage(self, stag: Stage) -> Generator[None, Any, Any]:
        return (yield)


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (Forgetful, "the wrapper returns nothing"),
        (Awaited, "a wrapper is a plain generator"),
        (Plain, "a wrapper is a plain generator"),
        (Curious, "no argument 'stag'"),
    ],
)
def test_what_cannot_go_around_is_refused(hooks: HookCaller, plugin: type, words: str) -> None:
    with pytest.raises(PluginError, match=rf"hook 'around_stage': .*{words}"):
        hooks.register(plugin(), "plugin:bad", general=True)
