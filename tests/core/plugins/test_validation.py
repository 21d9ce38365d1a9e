"""Which methods become hooks, and what is refused with the plugin, the hook and the remedy in the message."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import attrs
import pytest
import structlog
from ringbinder import LaunchRequest, PluginError, Repo, hookimpl
from ringbinder.plugins.caller import HookCaller
from ringbinder.plugins.validation import hooks_in
from structlog.testing import capture_logs

from .repos import repo

REQUEST = LaunchRequest("gh", "a/b/main")


@pytest.fixture
def hooks() -> HookCaller:
    return HookCaller(structlog.get_logger())


async def answer(hooks: HookCaller, plugin: object) -> str:
    hooks.register(plugin, "provider:x")
    answered = await hooks.resolve("provider:x", request=REQUEST)
    assert answered
    return answered.url


# -- what is a hook ---------------------------------------------------------------------------------------


class Plain:
    async def resolve(self, request: LaunchRequest) -> Repo:
        return repo(f"plain {request.spec}")


class Inherits(Plain):
    pass


class Marked:
    @hookimpl(tryfirst=True)
    async def resolve(self) -> Repo:
        return repo("marked")


class OverridesMarked(Marked):
    async def resolve(self) -> Repo:
        return repo("over " + (await super().resolve()).url)


class OtherName:
    @hookimpl(specname="resolve")
    async def find(self) -> Repo:
        return repo("other")


class OverridesOtherName(OtherName):
    async def find(self) -> Repo:
        return repo("over other")


class Static:
    @staticmethod
    async def resolve(request: LaunchRequest) -> Repo:
        return repo(f"static {request.provider}")


class MarkedOutside:
    @hookimpl(tryfirst=True)
    @classmethod
    async def resolve(cls, request: LaunchRequest) -> Repo:
        return repo(f"{cls.__name__} {request.provider}")


class KeywordOnly:
    async def resolve(self, *, request: LaunchRequest | None = None) -> Repo:
        return repo(f"keyword {request.provider}" if request else "nothing")


class OnTheInstance:
    def __init__(self) -> None:
        async def resolve(request: LaunchRequest) -> Repo:
            return repo(f"instance {request.provider}")

        self.resolve = resolve


@attrs.define
class Slotted:
    prefix: str = "slotted"

    async def resolve(self, request: LaunchRequest) -> Repo:
        return repo(f"{self.prefix} {request.provider}")


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        return repo("decorated " + (await function(*args, **kwargs)).url)

    return inner


class Decorated:
    @decorated
    async def resolve(self, request: LaunchRequest) -> Repo:
        return repo(request.provider)


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (Plain, "plain a/b/main"),
        (Inherits, "plain a/b/main"),
        (Marked, "marked"),
        (OverridesMarked, "over marked"),
        (OtherName, "other"),
        (OverridesOtherName, "over other"),
        (Static, "static gh"),
        (MarkedOutside, "MarkedOutside gh"),
        (KeywordOnly, "keyword gh"),
        (OnTheInstance, "instance gh"),
        (Slotted, "slotted gh"),
        (Decorated, "decorated gh"),
    ],
)
async def test_a_method_with_a_hooks_name_is_that_hook(
    hooks: HookCaller, plugin: Callable[[], object], expected: str
) -> None:
    assert await answer(hooks, plugin()) == expected
    assert hooks.implements("provider:x", "resolve")
    assert hooks.hooks_of("provider:x") == ("resolve",)


async def test_an_override_keeps_the_options_of_what_it_overrides(hooks: HookCaller) -> None:
    hooks.register(OverridesMarked(), "first", general=True)
    hooks.register(Plain(), "second", general=True)
    hooks.register(Plain(), "third")
    assert await hooks.resolve("third", request=REQUEST) == repo("over marked")


def test_hooks_are_listed_in_order_with_wrappers(hooks: HookCaller) -> None:
    class Several:
        async def health(self) -> None: ...

        @hookimpl(wrapper=True)
        def launch(self) -> Generator[None, Any, Any]:
            return (yield)

        def describe(self) -> None: ...

    assert hooks_in(Several) == ("describe", "launch", "health")
    hooks.register(Several(), "x")
    assert hooks.hooks_of("x") == ("describe", "launch", "health")
    assert not hooks.implements("x", "launch")
    assert hooks.implements("x", "health")


def test_properties_and_abstract_methods_are_left_alone(hooks: HookCaller) -> None:
    class Base(ABC):
        @abstractmethod
        async def health(self) -> None: ...

    class Odd:
        health = Base.health
        images = 5

        @property
        def target(self) -> str:
            raise AssertionError("evaluated")

        @functools.cached_property
        def servers(self) -> str:
            raise AssertionError("evaluated")

        @property
        def other(self) -> str:
            raise AssertionError("evaluated")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    hooks.register(Odd(), "x")
    assert hooks.hooks_of("x") == ()


def test_an_optional_hook_of_another_version_is_left_alone(hooks: HookCaller) -> None:
    class Newer:
        @hookimpl(optionalhook=True)
        async def teleport(self) -> None: ...

    hooks.register(Newer(), "x")
    assert hooks.hooks_of("x") == ()


# -- what is refused --------------------------------------------------------------------------------------


class PlainForAsync:
    def resolve(self, request: LaunchRequest) -> str:
        return ""


class AsyncForPlain:
    async def describe(self) -> str:
        return ""


class AsyncGenerator_:
    async def resolve(self) -> AsyncGenerator[str, None]:
        yield ""


class ForgottenWrapper:
    def resolve(self) -> Generator[None, Any, Any]:
        return (yield)


class AsyncWrapper:
    @hookimpl(wrapper=True)  # type: ignore[arg-type]  # what is tested
    async def resolve(self) -> AsyncGenerator[None, Any]:
        yield


class WrapperWithoutYield:
    @hookimpl(wrapper=True)  # type: ignore[arg-type]  # what is tested
    def resolve(self) -> str:
        return ""


class OverridesWrapper(ForgottenWrapper):
    @hookimpl(wrapper=True)
    def check(self) -> Generator[None, Any, Any]:
        return (yield)


class OldStyle:
    @hookimpl(hookwrapper=True)  # type: ignore[call-overload, untyped-decorator]  # what is tested
    def resolve(self) -> Generator[None, Any, None]:
        yield


class Misspelt:
    @hookimpl
    async def reslove(self) -> str:
        return ""


class MisspeltSpec:
    @hookimpl(specname="lauch")
    async def start(self) -> str:
        return ""


class UnknownArgument:
    async def fetch(self, repo: object, inot: object) -> None: ...


class PositionalOnly:
    async def resolve(self, request: LaunchRequest, /) -> str:
        return ""


class Everything:
    async def resolve(self, **arguments: Any) -> str:
        return ""


class NoSelf:
    async def resolve() -> str:  # type: ignore[misc]
        return ""


class Lambda:
    resolve = lambda self, request: "x"  # noqa: E731


class Partial:
    resolve = functools.partial(Plain.resolve, Plain())


class PartialMethod:
    resolve = functools.partialmethod(Plain.resolve)


class Cached:
    @functools.cache  # noqa: B019
    def describe(self) -> str:
        return ""


class Hidden(Plain):
    def __init__(self) -> None:
        self.resolve: Any = {}


class HiddenByProperty(Plain):
    @property
    def resolve(self) -> Any:
        raise AssertionError("evaluated")


class WrappedLifespan:
    @hookimpl(wrapper=True)
    def lifespan(self) -> Generator[None, Any, Any]:
        return (yield)


class GeneratorLifespan:
    def lifespan(self) -> Generator[None, None, None]:
        yield


class CoroutineLifespan:
    async def lifespan(self) -> None: ...


@pytest.mark.parametrize(
    ("plugin", "hook", "words"),
    [
        (PlainForAsync, "resolve", "`async def` instead of `def`"),
        (AsyncForPlain, "describe", "`def` instead of `async def`"),
        (AsyncGenerator_, "resolve", "return its answer instead of yielding"),
        (ForgottenWrapper, "resolve", r"needs @hookimpl\(wrapper=True\)"),
        (OverridesWrapper, "resolve", r"needs @hookimpl\(wrapper=True\)"),
        (AsyncWrapper, "resolve", "a wrapper is a plain generator"),
        (WrapperWithoutYield, "resolve", "a wrapper is a plain generator"),
        (OldStyle, "resolve", "use wrapper=True"),
        (Misspelt, "reslove", 'no hook of this name. Did you mean "resolve"'),
        (MisspeltSpec, "lauch", r'Did you mean "launch"\? \(method \'start\'\)'),
        (UnknownArgument, "fetch", "no argument 'inot'; valid are: repo, into, log. Did you mean \"into\""),
        (PositionalOnly, "resolve", "'request' must be one that can be given by name"),
        (Everything, "resolve", r"the argument \*\*arguments gets nothing.*valid are: request"),
        (NoSelf, "resolve", "arguments cannot be read"),
        (Lambda, "resolve", "`async def` instead of `def`"),
        (Partial, "resolve", r"'resolve' \(partial\).* no method written with `def`"),
        (PartialMethod, "resolve", "no method written with `def`"),
        (Cached, "describe", "no method written with `def`"),
        (Hidden, "resolve", r"'resolve' \(dict\).* hides the method of that name"),
        (HiddenByProperty, "resolve", r"'resolve' \(property\).* hides the method of that name"),
        (WrappedLifespan, "lifespan", "cannot be wrapped"),
        (GeneratorLifespan, "lifespan", "write `async def lifespan"),
        (CoroutineLifespan, "lifespan", "has no `yield`"),
    ],
)
def test_what_does_not_fit_is_refused(hooks: HookCaller, plugin: Callable[[], object], hook: str, words: str) -> None:
    with pytest.raises(PluginError, match=rf"^plugin 'provider:x', hook '{hook}': .*{words}") as caught:
        hooks.register(plugin(), "provider:x")
    assert caught.value.hook == hook
    with pytest.raises(PluginError, match="no plugin of this name"):
        hooks.hooks_of("provider:x")
    hooks.register(Plain(), "provider:x")


# -- what is odd ------------------------------------------------------------------------------------------


MISSPELT = {
    "admitt": "admit", "admits": "admit", "Admit": "admit", "amdit": "admit", "authentificate": "authenticate",
    "reslove": "resolve", "chek": "check", "emti": "emit", "keepWork": "keep_work", "heath": "health",
}  # fmt: skip


@pytest.mark.parametrize("method", MISSPELT)
def test_a_misspelt_hook_is_refused_with_its_right_name(hooks: HookCaller, method: str) -> None:
    async def misspelt(self: object) -> None: ...

    with pytest.raises(PluginError, match=f"{method!r} is this hook's, misspelt") as caught:
        hooks.register(type("Near", (), {method: misspelt})(), "provider:x")
    assert caught.value.hook == MISSPELT[method]


def test_a_misspelt_plain_hook_is_refused(hooks: HookCaller) -> None:
    class Near:
        def recognise(self) -> None: ...

    with pytest.raises(PluginError, match="call it 'recognize'"):
        hooks.register(Near(), "provider:x")


def test_a_plain_helper_that_resembles_admit_is_refused(hooks: HookCaller) -> None:
    class Near:
        def admitt(self) -> None: ...

    with pytest.raises(PluginError, match="call it 'admit'"):
        hooks.register(Near(), "plugin:x")


@pytest.mark.parametrize(
    "method", ["builds", "resolved", "launcher", "image", "healthy", "login", "exit", "authenticated", "top"]
)
def test_a_helper_made_of_a_hooks_name_is_allowed(hooks: HookCaller, method: str) -> None:
    async def helper(self: object) -> None: ...

    hooks.register(type("Helpful", (), {method: helper})(), "provider:x")
    assert hooks.hooks_of("provider:x") == ()


def test_a_method_that_resembles_a_hook_is_worth_a_warning(hooks: HookCaller) -> None:
    class Near:
        async def resolved(self) -> None: ...
        def lauch(self) -> None: ...  # a helper: `launch` is awaited
        async def _launch(self) -> None: ...
        async def something(self) -> None: ...

    with capture_logs() as logs:
        hooks.register(Near(), "provider:x")
    assert [(entry["plugin"], entry["method"], entry["hook"]) for entry in logs] == [
        ("provider:x", "resolved", "resolve"),
    ]
    assert hooks.hooks_of("provider:x") == ()


def test_a_helper_beside_the_hook_is_not(hooks: HookCaller) -> None:
    class Fine(Plain):
        async def resolved(self) -> None: ...

    with capture_logs() as logs:
        hooks.register(Fine(), "provider:x")
    assert logs == []


# -- life span --------------------------------------------------------------------------------------------


class ByGenerator:
    trace: list[str]

    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.trace.append("in")
        yield
        self.trace.append("out")


class ByDecorator:
    trace: list[str]

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.trace.append("in")
        yield
        self.trace.append("out")


class ByObject:
    trace: list[str]

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        return ByDecorator.lifespan(self)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [ByGenerator, ByDecorator, ByObject])
async def test_a_life_span_may_be_written_in_three_ways(hooks: HookCaller, kind: type[Any]) -> None:
    plugin = kind()
    plugin.trace = []
    hooks.register(plugin, "x")
    span = hooks.lifespan("x")
    assert span is not None
    async with span:
        assert plugin.trace == ["in"]
    assert plugin.trace == ["in", "out"]


def test_a_life_span_of_another_sort_is_refused(hooks: HookCaller) -> None:
    class NotAsync:
        @contextmanager
        def lifespan(self) -> Generator[None, None, None]:
            yield

    hooks.register(NotAsync(), "x")
    with pytest.raises(PluginError, match=r"hook 'lifespan': .* no async context manager"):
        hooks.lifespan("x")


def test_who_has_no_life_span_has_none(hooks: HookCaller) -> None:
    hooks.register(Plain(), "x")
    assert hooks.lifespan("x") is None
