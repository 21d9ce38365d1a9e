"""Who is called for a hook, in which order, and what happens when it fails, hangs or is cancelled."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import structlog
from ringbinder import Health, LaunchRequest, PluginError, Refused, Repo, TransientError, UserError, hookimpl
from ringbinder.plugins.call_loop import TIMEOUTS, timeout_problems
from ringbinder.plugins.caller import HookCaller
from ringbinder.plugins.hookspecs import PLAIN
from ringbinder.plugins.validation import SPECS
from ringbinder.testing import RecordingLog
from structlog.testing import capture_logs

from .repos import repo

REQUEST = LaunchRequest("gh", "a/b/main")


@pytest.fixture
def hooks() -> HookCaller:
    return HookCaller(structlog.get_logger())


class Asked:
    """A provider that says that it was asked, and answers with its name or with nothing."""

    def __init__(self, name: str, trace: list[str], *, silent: bool = False) -> None:
        self.name, self.trace, self.silent = name, trace, silent

    async def resolve(self, request: LaunchRequest) -> Any:
        self.trace.append(self.name)
        return None if self.silent else repo(self.name)


class AskedFirst(Asked):
    @hookimpl(tryfirst=True)
    async def resolve(self, request: LaunchRequest) -> Any:
        return await super().resolve(request)


class Around:
    def __init__(self, name: str, trace: list[str]) -> None:
        self.name, self.trace = name, trace

    @hookimpl(wrapper=True)
    def resolve(self, request: LaunchRequest) -> Generator[None, Any, Any]:
        self.trace.append(f"{self.name} in")
        result = yield
        self.trace.append(f"{self.name} out")
        return result


class Both(Asked):
    """A provider that wraps another hook of its own."""

    @hookimpl(wrapper=True, specname="resolve")
    def around(self) -> Generator[None, Any, Any]:
        self.trace.append(f"{self.name} in")
        return (yield)


async def test_general_plugins_are_asked_before_the_chosen_one(hooks: HookCaller) -> None:
    trace: list[str] = []
    hooks.register(Asked("policy", trace, silent=True), "plugin:policy", general=True)
    hooks.register(Asked("cache", trace, silent=True), "plugin:cache", general=True)
    hooks.register(Around("timer", trace), "plugin:timer", general=True)
    hooks.register(AskedFirst("gh", trace), "provider:gh")
    hooks.register(Asked("gl", trace), "provider:gl")
    hooks.register(Around("stranger", trace), "provider:stranger")
    assert await hooks.resolve("provider:gh", request=REQUEST) == repo("gh")
    assert trace == ["timer in", "cache", "policy", "gh", "timer out"]


async def test_an_answer_of_a_general_plugin_is_the_answer(hooks: HookCaller) -> None:
    trace: list[str] = []
    hooks.register(Asked("gh", trace), "provider:gh")
    hooks.register(Asked("cache", trace), "plugin:cache", general=True)
    assert await hooks.resolve("provider:gh", request=REQUEST) == repo("cache")
    assert trace == ["cache"]


async def test_wrappers_of_the_chosen_plugin_go_around_too(hooks: HookCaller) -> None:
    trace: list[str] = []
    hooks.register(Around("timer", trace), "plugin:timer", general=True)
    hooks.register(Both("gh", trace), "provider:gh")
    hooks.register(Both("gl", trace), "provider:gl")
    assert await hooks.resolve("provider:gh", request=REQUEST) == repo("gh")
    assert trace == ["timer in", "gh in", "gh", "timer out"]


async def test_without_a_choice_everybody_is_asked_the_last_one_first(hooks: HookCaller) -> None:
    trace: list[str] = []
    for name in ("a", "b"):
        hooks.register(Asked(name, trace, silent=True), name)
    hooks.register(AskedFirst("c", trace, silent=True), "c")
    hooks.register(Asked("d", trace, silent=True), "d")
    assert await hooks._first("resolve", request=REQUEST) is None
    assert trace == ["c", "d", "b", "a"]


async def test_who_is_taken_out_is_not_called_any_more(hooks: HookCaller) -> None:
    trace: list[str] = []
    hooks.register(Asked("gh", trace), "provider:gh")
    hooks.register(Asked("cache", trace), "plugin:cache", general=True)
    assert await hooks.resolve("provider:gh", request=REQUEST) == repo("cache")
    hooks.unregister("plugin:cache")
    assert await hooks.resolve("provider:gh", request=REQUEST) == repo("gh")
    hooks.unregister("provider:gh")
    with pytest.raises(PluginError, match="'provider:gh': no plugin of this name is active"):
        await hooks.resolve("provider:gh", request=REQUEST)
    with pytest.raises(PluginError, match="'provider:gh'"):
        hooks.unregister("provider:gh")


async def test_a_name_can_be_taken_once(hooks: HookCaller) -> None:
    hooks.register(Asked("a", []), "a")
    with pytest.raises(PluginError, match="'a': it cannot be registered"):
        hooks.register(Asked("b", []), "a")


async def test_a_call_with_wrong_arguments_is_a_bug(hooks: HookCaller) -> None:
    with pytest.raises(TypeError, match=r"'resolve' is called with \['link'\] instead of \['request'\]"):
        await hooks._first("resolve", link="x")


class Well:
    async def health(self) -> Health:
        return Health("store", ok=True)


class Unwell:
    async def health(self) -> Health:
        raise OSError("disk full")


async def test_one_that_fails_does_not_silence_the_others(hooks: HookCaller) -> None:
    hooks.register(Well(), "a")
    hooks.register(Unwell(), "b")

    def failing(plugin: str, error: Exception) -> Health:
        return Health(plugin, ok=False, detail={"error": str(error)})

    assert await hooks.health(failing) == [
        ("b", Health("b", ok=False, detail={"error": "disk full"})),
        ("a", Health("store", ok=True)),
    ]
    with pytest.raises(OSError, match="disk full"):
        await hooks._every("health")


async def test_bug_names_its_plugin_and_a_readers_error_stays(hooks: HookCaller) -> None:
    class Fails:
        error: Exception

        async def resolve(self) -> None:
            raise self.error

    plugin = Fails()
    hooks.register(plugin, "provider:x")
    for error in (UserError("ref-not-found", "no"), TransientError("down"), Refused("banned"), KeyError("k")):
        plugin.error = error
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                await hooks.resolve("provider:x", request=REQUEST)
            assert caught.value is error
        text = "".join(traceback.format_exception(error))
        assert text.count("raised by plugin 'provider:x' in hook 'resolve'") == isinstance(error, KeyError)


# -- time limits ------------------------------------------------------------------------------------------


def test_every_awaited_hook_has_a_time_limit_or_none() -> None:
    assert set(TIMEOUTS) == set(SPECS) - PLAIN


def test_limit_for_no_hook_is_a_configuration_problem() -> None:
    problems = timeout_problems({"reslove": 1, "resolve": 1, "describe": 1})
    assert len(problems) == 2
    assert "Ringbinder.hook_timeouts.reslove" in problems[0]
    assert '"resolve"' in problems[0]


class Hangs:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = False

    async def resolve(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def test_implementation_that_takes_too_long_is_a_transient_error() -> None:
    hooks = HookCaller(structlog.get_logger(), timeouts={"resolve": 0.01})
    plugin = Hangs()
    hooks.register(plugin, "provider:x")
    with pytest.raises(TransientError, match=r"'provider:x', hook 'resolve': no answer within 0\.01 seconds"):
        await hooks.resolve("provider:x", request=REQUEST)
    assert plugin.ended


async def test_a_limit_of_zero_is_none() -> None:
    hooks = HookCaller(structlog.get_logger(), timeouts={"resolve": 0})

    class Slow:
        async def resolve(self) -> Repo:
            await asyncio.sleep(0.01)
            return repo("done")

    hooks.register(Slow(), "provider:x")
    assert await hooks.resolve("provider:x", request=REQUEST) == repo("done")


async def test_plugins_own_timeout_is_its_bug_outer_one_the_callers(hooks: HookCaller) -> None:
    class Impatient:
        async def resolve(self) -> None:
            raise TimeoutError("mine")

    hooks.register(Impatient(), "provider:x")
    with pytest.raises(TimeoutError, match="mine"):
        await hooks.resolve("provider:x", request=REQUEST)
    hooks.unregister("provider:x")
    plugin = Hangs()
    hooks.register(plugin, "provider:y")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await hooks.resolve("provider:y", request=REQUEST)
    assert plugin.ended


# -- cancellation -----------------------------------------------------------------------------------------


async def test_cancelled_wait_of_a_plugin_does_not_cancel_the_caller(hooks: HookCaller) -> None:
    class Waits:
        async def resolve(self) -> None:
            task = asyncio.create_task(asyncio.Event().wait())
            task.cancel()
            await task

    hooks.register(Waits(), "provider:x")
    with pytest.raises(PluginError, match="'provider:x', hook 'resolve': something that it waited for"):
        await hooks.resolve("provider:x", request=REQUEST)


async def test_wrapper_failing_while_the_call_is_cancelled_is_logged(hooks: HookCaller) -> None:
    class Clumsy:
        @hookimpl(wrapper=True)
        def resolve(self) -> Generator[None, Any, Any]:
            try:
                return (yield)
            finally:
                raise KeyError("broken")

    hooks.register(Clumsy(), "plugin:clumsy", general=True)
    plugin = Hangs()
    hooks.register(plugin, "provider:x")
    task = asyncio.create_task(hooks.resolve("provider:x", request=REQUEST))
    await plugin.begun.wait()
    with capture_logs() as logs:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()
    assert [(entry["plugin"], entry["hook"]) for entry in logs] == [("plugin:clumsy", "resolve")]


# -- wrappers that break the rules ------------------------------------------------------------------------


class Twice:
    @hookimpl(wrapper=True)
    def resolve(self) -> Generator[None, Any, Any]:
        yield
        return (yield)


class TwiceWhateverComes:
    @hookimpl(wrapper=True)
    def resolve(self) -> Generator[None, Any, Any]:
        while True:
            try:
                yield
            except BaseException:
                yield


class Never:
    @hookimpl(wrapper=True)
    def resolve(self) -> Generator[None, Any, Any]:
        if self is None:
            yield
        return "x"


@pytest.mark.parametrize(
    ("wrapper", "words"),
    [
        (Twice, "yields more than once"),
        (TwiceWhateverComes, "yields more than once"),
        (Never, "did not yield"),
    ],
)
async def test_a_wrapper_yields_once(hooks: HookCaller, wrapper: type, words: str) -> None:
    trace: list[str] = []
    hooks.register(Asked("gh", trace), "provider:gh")
    hooks.register(wrapper(), "plugin:bad", general=True)

    class Outer:
        @hookimpl(wrapper=True)
        def resolve(self) -> Generator[None, Any, Any]:
            try:
                return (yield)
            finally:
                trace.append("unwound")

    hooks.register(Outer(), "plugin:outer", general=True)
    with pytest.raises(PluginError, match=f"'plugin:bad', hook 'resolve': the wrapper {words}"):
        await hooks.resolve("provider:gh", request=REQUEST)
    assert trace[-1] == "unwound"


def test_what_a_plain_hook_raises_shows_whose_it_is(hooks: HookCaller) -> None:
    class Ends:
        def describe(self) -> None:
            next(iter(()))

    hooks.register(Ends(), "provider:x")
    with pytest.raises(RuntimeError) as caught:
        hooks.describe("provider:x")
    assert isinstance(caught.value.__cause__, StopIteration)
    assert "provider:x" in str(caught.value.__cause__.__notes__)


class AroundFetch:
    def __init__(self, trace: list[str]) -> None:
        self.trace = trace

    @hookimpl(wrapper=True)
    def fetch(self) -> Generator[None, Any, Any]:
        self.trace.append("in")
        result = yield
        self.trace.append(f"out {result}")
        return result


class Fetching(Asked):
    async def fetch(self, repo: Repo) -> bool:
        self.trace.append(self.name)
        return True


@pytest.mark.parametrize(("plugin", "asked"), [(Asked, "core"), (Fetching, "own")])
async def test_core_answers_for_a_hook_that_is_missing(
    hooks: HookCaller, plugin: type[Asked], asked: str, tmp_path: Path
) -> None:
    """With wrappers around it, and only where the plugin has no such hook."""
    trace: list[str] = []

    async def fetch(repo: Repo, into: Path, log: object) -> bool:
        trace.append("core")
        return True

    hooks.register(AroundFetch(trace), "plugin:timer", general=True)
    hooks.register(plugin("own", trace), "provider:own", defaults={"fetch": fetch})
    assert await hooks.fetch("provider:own", repo=repo("x"), into=tmp_path, log=RecordingLog())
    assert trace == ["in", asked, "out True"]


async def test_what_core_answers_has_the_hooks_time_limit(tmp_path: Path) -> None:
    async def fetch(repo: Repo, into: Path, log: object) -> bool:
        await asyncio.Event().wait()
        return True

    hooks = HookCaller(structlog.get_logger(), timeouts={"fetch": 0.01})
    hooks.register(Asked("own", []), "provider:own", defaults={"fetch": fetch})
    with pytest.raises(TransientError, match="plugin 'provider:own', hook 'fetch': no answer within"):
        await hooks.fetch("provider:own", repo=repo("x"), into=tmp_path, log=RecordingLog())
