"""Answers of every hook are judged in one place, and one of a wrong type is its plugin's fault by name."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import structlog
from attrs import evolve
from ringbinder import (
    Failure,
    GitSource,
    Health,
    Image,
    LaunchRequest,
    Link,
    PluginError,
    ProviderInfo,
    Repo,
    Secret,
    Server,
    hookimpl,
)
from ringbinder.plugins.answers import judge_of, words_for
from ringbinder.plugins.caller import HookCaller
from ringbinder.plugins.hookspecs import Hooks
from ringbinder.plugins.validation import SPECS
from structlog.testing import capture_logs

REQUEST = LaunchRequest("gh", "a/b/main")
REPO = Repo("u", GitSource("u", "abc"), "abc", "a/b/abc", "u", "a-b")
NONE: Any = None
TEXT: Any = "t" * 20
SERVER = Server("1", "http://127.0.0.1/", Secret("t" * 20))


@pytest.fixture
def hooks() -> HookCaller:
    return HookCaller(structlog.get_logger())


def plugin(hook: str, answer: Any, *, plain: bool = False) -> object:
    """A plugin whose `hook` gives `answer`."""

    def plainly(self: object) -> Any:
        return answer

    async def awaited(self: object) -> Any:
        return answer

    return type("P", (), {hook: plainly if plain else awaited})()


def wrapper(hook: str, outcome: Any) -> object:
    """A plugin that makes `outcome` of whatever `hook` gives, if it gives something."""

    def around(self: object) -> Generator[None, Any, Any]:
        result = yield
        return outcome if result is not None else result

    return type("W", (), {hook: hookimpl(wrapper=True)(around)})()


# -- one typed method for each hook -----------------------------------------------------------------------


@pytest.mark.parametrize("hook", sorted(set(SPECS) - {"lifespan", "around_stage"}))
def test_typed_method_has_the_arguments_of_its_hook(hook: str) -> None:
    method, spec = getattr(HookCaller, hook), getattr(Hooks, hook)
    hints = get_type_hints(method)
    expected = {name: hint for name, hint in get_type_hints(spec).items() if name != "return"}
    assert {name: hint for name, hint in hints.items() if name not in {"return", "chosen", "on_error"}} == expected
    answer = get_type_hints(spec)["return"]
    if SPECS[hook].plain:
        assert hints["return"] == answer
        return
    (*_, gives) = hints["return"].__args__
    if SPECS[hook].first:
        assert gives == answer
    else:
        assert gives.__origin__ is list
        assert gives.__args__[0].__args__[1] in (answer, *getattr(answer, "__args__", ()))


def test_hooks_cannot_be_called_by_a_name_from_outside() -> None:
    public = {name for name, _ in inspect.getmembers(HookCaller, callable) if not name.startswith("_")}
    assert public - set(SPECS) == {"answered", "hooks_of", "implements", "refuse", "register", "unregister"}


# -- answers ----------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, str]] = {
    "resolve": ({}, "it gave a dict instead of a Repo or None"),
    "resolve ": (evolve(REPO, url=NONE), "it gave a Repo whose 'url' is None instead of a str"),
    "resolve  ": (evolve(REPO, source=GitSource("u", 5)), "whose 'source' is a GitSource whose 'ref' is an int"),  # type: ignore[arg-type]
    "check": (True, "it gave a bool instead of an Image or None"),
    "fetch": ("yes", "it gave a str instead of a bool or None"),
    "launch": (evolve(SERVER, token=TEXT), "it gave a Server whose 'token' is a str instead of a Secret"),
    "admit": (object(), "it gave an object instead of an async context manager or None"),
    "servers": (iter([SERVER]), "it gave a list_iterator instead of a sequence of Server"),
    "servers ": ([SERVER, {}], "it gave a list with a dict instead of a Server"),
    "images": (None, "it gave None instead of a sequence of Image"),
    "emit": ("1", "it gave a str instead of an int or None"),
    "health": ({"ok": True}, "it gave a dict instead of a Health or None"),
    "health ": (Health("x", ok="yes"), "it gave a Health whose 'ok' is a str instead of a bool"),  # type: ignore[arg-type]
    "authenticate": ("ada", "it gave a str instead of a User or a Redirect or None"),
    "diagnose": (5, "it gave an int instead of a Diagnosis or None"),
}  # fmt: skip


@pytest.mark.parametrize("row", WRONG)
async def test_answer_of_a_wrong_type_names_plugin_and_hook(hooks: HookCaller, row: str) -> None:
    hook, (answer, words) = row.strip(), WRONG[row]
    hooks.register(plugin(hook, answer), "plugin:bad", general=True)
    arguments = dict.fromkeys(SPECS[hook].arguments)
    call = hooks._first if SPECS[hook].first else hooks._every
    with pytest.raises(PluginError, match="plugin 'plugin:bad', hook") as caught:
        await call(hook, **arguments)
    assert caught.value.plugin == "plugin:bad"
    assert caught.value.hook == hook
    assert words in str(caught.value)


def test_description_of_a_wrong_type_names_the_provider(hooks: HookCaller) -> None:
    hooks.register(plugin("describe", {}, plain=True), "provider:bad")
    with pytest.raises(PluginError, match="'provider:bad', hook 'describe': it gave a dict instead of a ProviderInfo"):
        hooks.describe("provider:bad")


@pytest.mark.parametrize("bad", [{}, ZeroDivisionError("x")])
def test_failing_recognize_is_passed_over_and_logged(hooks: HookCaller, bad: Any) -> None:
    class Bad:
        def recognize(self) -> Any:
            if isinstance(bad, Exception):
                raise bad
            return bad

    hooks.register(plugin("recognize", Link("good", "x"), plain=True), "provider:good")
    hooks.register(Bad(), "provider:bad")
    with capture_logs() as logs:
        assert hooks.recognize(link="x") == Link("good", "x")
    assert [(line["plugin"], line["hook"]) for line in logs] == [("provider:bad", "recognize")]


async def test_failing_diagnosis_is_passed_over(hooks: HookCaller) -> None:
    hooks.register(plugin("diagnose", {}), "plugin:bad", general=True)
    with capture_logs():
        assert await hooks.diagnose(failure=Failure("build", ValueError())) is None


# -- wrappers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "answer", "outcome", "words"),
    [
        ("resolve", REPO, None, "its wrapper gave None instead of a Repo"),
        ("resolve", REPO, {}, "its wrapper gave a dict instead of a Repo or None"),
        ("health", Health("x", ok=True), [Health("x", ok=True)], "its wrapper gave a list with a Health instead of"),
        ("health", Health("x", ok=True), [("x", {})], "its wrapper gave a list with a dict instead of a Health"),
        ("admit", nullcontext(), iter([]), "its wrapper gave a list_iterator instead of"),
    ],
)
async def test_outcome_of_a_wrapper_is_judged(
    hooks: HookCaller, hook: str, answer: Any, outcome: Any, words: str
) -> None:
    hooks.register(plugin(hook, answer), "plugin:x", general=True)
    hooks.register(wrapper(hook, outcome), "plugin:wrapper", general=True)
    call = hooks._first if SPECS[hook].first else hooks._every
    with pytest.raises(PluginError, match=f"'plugin:wrapper', hook '{hook}': {words}") as caught:
        await call(hook, **dict.fromkeys(SPECS[hook].arguments))
    assert caught.value.plugin == "plugin:wrapper"


async def test_wrapper_may_hide_an_image(hooks: HookCaller) -> None:
    hooks.register(plugin("check", Image("x", "oci")), "registry:x")
    hooks.register(wrapper("check", None), "plugin:rebuild", general=True)
    assert await hooks._first("check", "registry:x", plan=None, fresh=True) is None


def failing_wrapper(hook: str, when: str) -> object:
    """A plugin whose wrapper of `hook` fails before or after the hook, or gives something else."""

    def around(self: object) -> Generator[None, Any, Any]:
        if when == "before":
            raise ZeroDivisionError(when)
        result = yield
        if when == "after":
            raise ZeroDivisionError(when)
        return {} if when == "wrong" else result

    return type("W", (), {hook: hookimpl(wrapper=True)(around)})()


@pytest.mark.parametrize("when", ["before", "after", "wrong"])
async def test_failing_wrapper_is_passed_over_as_a_plugin_is(hooks: HookCaller, when: str) -> None:
    for hook, answer in (("recognize", Link("good", "x")), ("health", Health("good", ok=True))):
        hooks.register(plugin(hook, answer, plain=hook == "recognize"), f"provider:{hook}")
        hooks.register(failing_wrapper(hook, when), f"plugin:{hook}")
    with capture_logs() as logs:
        assert hooks.recognize(link="x") == Link("good", "x")
    assert [(line["plugin"], line["hook"]) for line in logs] == [("plugin:recognize", "recognize")]
    lines = await hooks.health(lambda name, error: Health(name, ok=False))
    assert {line.service: line.ok for _, line in lines} == {"good": True, "plugin:health": False}


class Forgets:
    @hookimpl(wrapper=True)
    def resolve(self) -> Generator[None, Any, Any]:
        yield


class ForgetsAfterMore:
    @hookimpl(wrapper=True)
    def health(self) -> Generator[None, Any, Any]:
        result = yield
        if not result:
            return
        len(result)


class OnlyRaises:
    @hookimpl(wrapper=True)
    def resolve(self) -> Generator[None, Any, Any]:
        yield
        raise ValueError("never here")


@pytest.mark.parametrize("kind", [Forgets, ForgetsAfterMore])
def test_wrapper_that_never_returns_a_value_is_refused(hooks: HookCaller, kind: type) -> None:
    with pytest.raises(PluginError, match="the wrapper returns nothing"):
        hooks.register(kind(), "plugin:forgets", general=True)


def test_wrapper_that_need_not_return_is_taken(hooks: HookCaller) -> None:
    hooks.register(OnlyRaises(), "plugin:fine", general=True)


# -- types ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (float, [1, 1.5], ["1", None, True]),
        (int | None, [1, None], [True, False, 1.0]),
        (Path | None, [Path("x"), None], ["x"]),
        (tuple[str, ...], [(), ("a",)], [["a"], ("a", 1)]),
        (Sequence[str], [["a"], ("a",)], ["a", b"a", {"a"}]),
        (ProviderInfo, [ProviderInfo("x", "y", "", "z")], [ProviderInfo("x", "y", "", None)]),  # type: ignore[arg-type]
        (Any, [None, 1], []),
    ],
)
def test_judge_of_a_type(hint: Any, good: list[Any], bad: list[Any]) -> None:
    judge = judge_of(hint)
    assert [judge(value) for value in good] == ["" for _ in good]
    assert all(judge(value) for value in bad)


def test_words_for_types() -> None:
    assert words_for(Repo | None) == "a Repo or None"
    assert words_for(Sequence[Image]) == "a sequence of Image"
