"""The call loop against pluggy's own calls: the same plugins give the same result in the same order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

import pluggy
import structlog
from attrs import astuple, frozen
from hypothesis import example, given
from hypothesis import strategies as st
from ringbinder import Diagnosis, Failure, Link, PluginError, hookimpl
from ringbinder.plugins import hookspecs
from ringbinder.plugins.caller import HookCaller

Trace = list[tuple[Any, ...]]


@frozen
class Slot(AbstractAsyncContextManager[None]):
    number: Any

    async def __aexit__(self, *error: object) -> None: ...


@cache
def falsy(kind: type) -> type:
    """A subclass whose objects are false."""
    return type(f"Falsy{kind.__name__}", (kind,), {"__bool__": lambda self: False})


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "recognize": lambda of: Link("x", repr(of)), "diagnose": lambda of: Diagnosis(repr(of)), "admit": Slot,
}  # fmt: skip
"""By hook, an answer of its type that tells what it was made of."""


class Stop(BaseException):
    """An exception that `except Exception` does not catch."""


FUNCTIONS = ("none", "value", "falsy", "error", "stop")
WRAPPERS = (
    "pass", "change", "drop", "swallow", "swallow-errors", "translate", "cleanup",
    "fail-before", "fail-after", "never-yields",
)  # fmt: skip


@frozen
class Recipe:
    """One random plugin."""

    behaviour: str
    tryfirst: bool
    trylast: bool
    takes_argument: bool

    @property
    def wrapper(self) -> bool:
        return self.behaviour in WRAPPERS


recipes = st.lists(
    st.builds(Recipe, st.sampled_from(FUNCTIONS + WRAPPERS), st.booleans(), st.booleans(), st.booleans()),
    max_size=8,
)


def told(error: BaseException | None) -> object:
    if isinstance(error, PluginError) or "wrap_controller" in str(error):
        return "a wrapper that breaks the rules"
    return (type(error), error.args) if error else None


def answer(hook: str, behaviour: str, number: int, trace: Trace, *given: object) -> Any:
    trace.append(("call", number, *given))
    match behaviour:
        case "value" | "falsy":
            value = ANSWERS[hook](number)
            kind: Any = type(value)
            return falsy(kind)(*astuple(value, recurse=False)) if behaviour == "falsy" else value
        case "error":
            raise ValueError(number)
        case "stop":
            raise Stop(number)
    return None


def wrap(hook: str, behaviour: str, number: int, trace: Trace, *given: object) -> Generator[None, Any, Any]:
    trace.append(("enter", number, *given))
    if behaviour == "fail-before":
        raise ValueError(number)
    if behaviour == "never-yields":
        return None
    result: Any = None
    caught: BaseException | None = None
    try:
        result = yield
        if behaviour == "fail-after":
            raise ValueError(number)  # noqa: TRY301
    except BaseException as error:
        caught = error
        swallowed = behaviour in ("swallow", "translate")
        if not swallowed and not (behaviour == "swallow-errors" and isinstance(error, Exception)):
            raise
    finally:
        trace.append(("leave", number, repr(result), told(caught)))
    if caught and behaviour == "translate":
        raise TypeError(number) from caught
    nothing: Any = [] if hook == "admit" else None
    if behaviour == "change":
        return (
            [*result, ("", Slot(-number))]
            if hook == "admit" and result is not None
            else ANSWERS[hook]((result, number))
        )
    return nothing if behaviour == "drop" or result is None else result


def plugin(recipe: Recipe, number: int, hook: str, argument: str, trace: Trace, *, awaited: bool) -> object:
    """The plugin of a recipe, with an async body if the loop awaits."""
    kind = wrap if recipe.wrapper else answer
    body: Callable[..., Any]
    if recipe.wrapper or not awaited:

        def plain(**given: object) -> Any:
            return kind(hook, recipe.behaviour, number, trace, *given.values())

        body = plain
    else:

        async def waiting(**given: object) -> Any:
            await asyncio.sleep(0)
            return kind(hook, recipe.behaviour, number, trace, *given.values())

        body = waiting
    # Written out, since both sides read argument names, and a wrapper is known by its `yield`.
    colour = "async def" if awaited and not recipe.wrapper else "def"
    name = argument if recipe.takes_argument else ""
    call = f"body({argument}={argument})" if recipe.takes_argument else "body()"
    statement = f"yield from {call}" if recipe.wrapper else f"await {call}" if colour != "def" else call
    namespace: dict[str, Any] = {"body": body}
    exec(f"{colour} {hook}(self, {name}):\n    return ({statement})", namespace)
    mark: Any = hookimpl  # to its type, a wrapper is known as one
    marked = mark(tryfirst=recipe.tryfirst, trylast=recipe.trylast, wrapper=recipe.wrapper)
    return type("P", (), {hook: marked(namespace[hook])})()


def by_pluggy(plan: list[Recipe], hook: str, argument: str, value: object) -> tuple[object, object, Trace]:
    trace: Trace = []
    manager = pluggy.PluginManager("ringbinder")
    manager.add_hookspecs(hookspecs.Hooks)
    for number, recipe in enumerate(plan):
        manager.register(plugin(recipe, number, hook, argument, trace, awaited=False), str(number))
    try:
        result = getattr(manager.hook, hook)(**{argument: value})
    except BaseException as error:
        return None, told(error), trace
    return result, None, trace


def caller(plan: list[Recipe], hook: str, argument: str, *, awaited: bool = True) -> tuple[HookCaller, Trace]:
    trace: Trace = []
    hooks = HookCaller(structlog.get_logger())
    for number, recipe in enumerate(plan):
        hooks.register(plugin(recipe, number, hook, argument, trace, awaited=awaited), str(number))
    return hooks, trace


@given(recipes)
@example([Recipe("value", False, False, True), Recipe("swallow", False, False, True)])
def test_a_plain_hook_is_called_as_by_pluggy(plan: list[Recipe]) -> None:
    hooks, trace = caller(plan, "recognize", "link", awaited=False)
    result = error = None
    try:
        result = hooks._plain("recognize", link="a link")
    except BaseException as raised:
        error = raised
    assert (result, told(error), trace) == by_pluggy(plan, "recognize", "link", "a link")


@given(recipes)
def test_first_result_hook_is_awaited_in_pluggys_order(plan: list[Recipe]) -> None:
    hooks, trace = caller(plan, "diagnose", "failure")
    failure = Failure("build", ValueError())

    async def call() -> tuple[object, object]:
        try:
            return await hooks._first("diagnose", failure=failure), None
        except BaseException as error:
            return None, told(error)

    assert (*asyncio.run(call()), trace) == by_pluggy(plan, "diagnose", "failure", failure)


@given(recipes)
def test_a_hook_that_asks_everybody_is_awaited_in_pluggys_order(plan: list[Recipe]) -> None:
    hooks, trace = caller(plan, "admit", "ticket")

    async def call() -> tuple[object, object]:
        try:
            return await hooks._every("admit", ticket="a ticket"), None
        except BaseException as error:
            return None, told(error)

    def unnamed(result: object) -> object:
        if isinstance(result, list):
            return [item[1] if isinstance(item, tuple) else item for item in result]
        return result

    result, error = asyncio.run(call())
    expected, expected_error, expected_trace = by_pluggy(plan, "admit", "ticket", "a ticket")
    assert (unnamed(result), error) == (unnamed(expected), expected_error)
    # What a wrapper is given has names here and none in pluggy; that it is alike shows in what comes out.
    assert [entry[:2] + entry[3:] for entry in trace] == [entry[:2] + entry[3:] for entry in expected_trace]


@given(st.lists(st.sampled_from(WRAPPERS[:-3]), max_size=6), st.booleans())
def test_cancellation_unwinds_every_wrapper_and_none_can_stop_it(behaviours: list[str], late: bool) -> None:
    plan = [Recipe(behaviour, False, False, True) for behaviour in behaviours]
    hooks, trace = caller(plan, "diagnose", "failure")

    async def call() -> None:
        begun = asyncio.Event()

        class Slow:
            async def diagnose(self) -> None:
                try:
                    begun.set()
                    await asyncio.Event().wait()
                finally:
                    if late:
                        await asyncio.sleep(0)
                    trace.append(("ended",))

        hooks.register(Slow(), "slow")
        task = asyncio.create_task(hooks._first("diagnose", failure=Failure("build", ValueError())))
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    with structlog.testing.capture_logs():
        asyncio.run(call())
    numbers = list(range(len(plan)))
    assert [entry[1] for entry in trace if entry[0] == "enter"] == numbers[::-1]
    assert trace[len(plan)] == ("ended",)
    assert [entry[1] for entry in trace if entry[0] == "leave"] == numbers
    assert all(entry[3] == (asyncio.CancelledError, ()) for entry in trace if entry[0] == "leave")
