"""The call loop: pluggy registers, orders and validates; we await, and judge each answer.

pluggy never awaits: with it, an async ``firstresult`` hook would always win with a coroutine, and a wrapper
would time nothing. So registration and order are pluggy's; the loop here is its own with an `await` in it. It knows
hooks by name; core calls them through the typed methods of `caller.HookCaller`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import FrameType
from typing import Any, Final, get_args

import pluggy
from attrs import define, evolve, field, frozen

from ..errors import PluginError, Refused, RingbinderError, TransientError, UserError
from ..model import Stage
from ..runtime.log import Logger
from ..runtime.suggest import did_you_mean
from . import hookspecs
from .answers import words_for
from .hookspecs import AROUND_STAGE, GUARDS
from .validation import SPECS, Spec, check, hooks_in, options

TIMEOUTS: Final[Mapping[str, float | None]] = {
    "resolve": 60, "fetch": 600, "check": 60, "target": 60, "build": None, "push": 1800, "launch": 1800,
    "admit": None, "authenticate": 30, "log_in": 30, "log_out": 30, "emit": 60, "diagnose": 10, "stop": 60,
    "servers": 60, "images": 60, "delete": 120, "health": 10, "doctor": 60, "allowance": 5, "work": 60, "keep_work": 60,
    "export_work": 600, "discard_work": 120, "prune_images": None,
    "rebase": None,
    "find_blob": 60, "put_blob": None, "read_blob": 60, "read_manifest": 120, "put_manifest": 120, "list_tags": 300,
    "delete_manifest": 300, "delete_blob": 120, "delete_repository": 120,
}  # fmt: skip
"""Seconds that one call of one implementation may take; None is no limit: a builder has its own."""

OnError = Callable[[str, Exception], Any]


def timeout_problems(timeouts: Mapping[str, float]) -> list[str]:
    """What is wrong with the names of an operator's time limits."""
    return [
        f"Ringbinder.hook_timeouts.{name}: no hook with a time limit has this name."
        + did_you_mean(name, TIMEOUTS, f" Those are: {', '.join(TIMEOUTS)}.")
        for name in timeouts
        if name not in TIMEOUTS
    ]


class CallLoop:
    """Registers plugins and calls their hooks by name.

    `timeouts` is seconds by hook name, over `TIMEOUTS`; 0 is no limit.
    """

    def __init__(
        self,
        log: Logger,
        *,
        timeouts: Mapping[str, float] | None = None,
        on_failure: Callable[[str, str], None] = lambda plugin, hook: None,
    ) -> None:
        self._log = log
        self._on_failure = on_failure
        self._timeouts = {**TIMEOUTS, **(timeouts or {})}
        self._manager = _PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs.Hooks)
        self._general: set[str] = set()
        self._defaults: dict[str, Mapping[str, Callable[..., Any]]] = {}
        self._refusing: set[str] = set()
        self._plans: dict[tuple[str, str | None], _Plan] = {}

    def register(
        self,
        plugin: object,
        name: str,
        *,
        general: bool = False,
        defaults: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        """Takes in a plugin; `general` is one that is asked at every stage, `defaults` are for hooks that it lacks.

        The one that is registered last is called first. Raises PluginError, naming plugin and hook, if a
        method does not fit its hook; nothing is registered then.
        """
        check(plugin, name, self._log)
        try:
            self._manager.register(plugin, name)
        except (ValueError, pluggy.PluginValidationError) as error:
            raise PluginError(name, f"it cannot be registered: {error}") from error
        if general:
            self._general.add(name)
        self._defaults[name] = defaults or {}
        self._plans.clear()

    def unregister(self, name: str) -> None:
        """Takes out a plugin. Raises PluginError if there is none of that name."""
        self._manager.unregister(self._plugin(name), name)
        self._general.discard(name)
        self._defaults.pop(name, None)
        self._refusing.discard(name)
        self._plans.clear()

    def refuse(self, name: str) -> None:
        """Plugin `name` works no more: from now on its `admit` and `authenticate` let no one in."""
        self._refusing.add(name)
        self._plans.clear()

    def implements(self, name: str, hook: str) -> bool:
        """Whether plugin `name` answers `hook`; a wrapper alone does not."""
        return bool(self._own(name, hook))

    def hooks_of(self, name: str) -> tuple[str, ...]:
        """The hooks that plugin `name` answers or wraps."""
        return hooks_in(self._plugin(name))

    def lifespan(self, name: str) -> AbstractAsyncContextManager[None] | None:
        """The life span of plugin `name`, to be entered; None if it has none."""
        for implementation in self._own(name, "lifespan"):
            function = implementation.function
            if inspect.isasyncgenfunction(function):
                function = asynccontextmanager(function)
            span = function()
            if not hasattr(type(span), "__aenter__") or not hasattr(type(span), "__aexit__"):
                raise PluginError(name, f"it gave {span!r}, which is no async context manager", "lifespan")
            return span  # type: ignore[no-any-return]
        return None

    def answered(self, hook: str) -> bool:
        """Whether any plugin answers `hook`; wrappers alone do not."""
        return any(not made.wrapper for made in self._implementations(SPECS[hook]))

    async def _first(
        self, hook: str, chosen: str | None = None, /, *, on_error: OnError | None = None, **arguments: Any
    ) -> Any:
        """The first answer that is not None, else None.

        General plugins are asked first, then the `chosen` one alone; without one, all in pluggy's order.
        Wrappers of those that may be asked go around all of it, and what a wrapper returns is the result.

        Raises what an implementation raises, TransientError if one takes too long, PluginError for an answer of a wrong
        type. Where `on_error` is given it is called with plugin and exception instead, and the next is asked; a wrapper
        that fails then changes nothing.
        """
        plan = self._plan(hook, chosen, arguments)
        around = _Around(plan.wrappers, arguments, self._log, on_error)
        try:
            around.enter()
            for implementation in plan.functions:
                try:
                    around.result = await implementation.call(arguments)
                except Exception as error:
                    if on_error is None:
                        raise
                    on_error(implementation.plugin, error)
                if around.result is not None:
                    break
        except BaseException as error:
            around.error = error
        return around.leave()

    async def _every(
        self, hook: str, chosen: str | None = None, /, *, on_error: OnError | None = None, **arguments: Any
    ) -> Any:
        """All answers that are not None, each with its plugin's name, asked one after another.

        The first exception ends it, unless `on_error` is given: that is called with the plugin's name and
        the exception, also a wrapper's, its own answer stands for the plugin's, and the others are still asked. A
        wrapper's ``yield`` gives the list of pairs.
        """
        plan = self._plan(hook, chosen, arguments)

        def failed(plugin: str, error: Exception) -> None:
            if on_error and (answer := on_error(plugin, error)) is not None:
                around.result = [*around.result, (plugin, answer)]

        around = _Around(plan.wrappers, arguments, self._log, failed if on_error else None, result=[])
        try:
            around.enter()
            for implementation in plan.functions:
                try:
                    result = await implementation.call(arguments)
                except Exception as error:
                    if on_error is None:
                        raise
                    failed(implementation.plugin, error)
                else:
                    if result is not None:
                        around.result.append((implementation.plugin, result))
        except BaseException as error:
            around.error = error
        return around.leave()

    def _plain(self, hook: str, chosen: str | None = None, /, **arguments: Any) -> Any:
        """`_first` for the hooks that are not awaited."""
        call = self._first(hook, chosen, **arguments)
        try:
            # Where nothing is awaited, a coroutine runs to its end in one step.
            call.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("a plain hook has waited for something")

    def _plan(self, hook: str, chosen: str | None, arguments: Mapping[str, Any]) -> _Plan:
        plan = self._plans.get((hook, chosen))
        if plan is None:
            plan = self._plans[hook, chosen] = self._make_plan(SPECS[hook], chosen)
        if arguments.keys() ^ plan.arguments:
            raise TypeError(f"hook {hook!r} is called with {sorted(arguments)} instead of {sorted(plan.arguments)}")
        return plan

    def _make_plan(self, spec: Spec, chosen: str | None) -> _Plan:
        called = self._asked(spec, chosen)
        around = self._asked(SPECS[AROUND_STAGE], chosen) if spec.name in get_args(Stage) else ()
        return _Plan(
            frozenset(spec.arguments),
            (*(made.around(spec) for made in around), *(made for made in called if made.wrapper)),
            tuple(made for made in called if not made.wrapper),
        )

    def _asked(self, spec: Spec, chosen: str | None) -> list[_Implementation]:
        """What implements a hook: of the general plugins first, then of the `chosen` one; without one, of all."""
        called = self._implementations(spec)
        if chosen is None:
            return called
        self._plugin(chosen)
        general = [made for made in called if made.plugin in self._general and made.plugin != chosen]
        own = [made for made in called if made.plugin == chosen]
        default = self._defaults[chosen].get(spec.name)
        if default and all(made.wrapper for made in own):
            limit = self._timeouts[spec.name] or None
            own.append(_Implementation(chosen, spec, default, False, spec.arguments, limit, self._on_failure))
        return general + own

    def _implementations(self, spec: Spec) -> list[_Implementation]:
        limit = None if spec.plain else self._timeouts[spec.name] or None
        caller: pluggy.HookCaller = getattr(self._manager.hook, spec.name)
        return [
            _Implementation(
                made.plugin_name, spec, made.function, made.wrapper,
                tuple(inspect.signature(made.function).parameters), limit, self._on_failure,
                spec.name in GUARDS and made.plugin_name in self._refusing,
            )
            for made in reversed(caller.get_hookimpls())
        ]  # fmt: skip

    def _own(self, name: str, hook: str) -> list[_Implementation]:
        self._plugin(name)
        return [made for made in self._implementations(SPECS[hook]) if made.plugin == name and not made.wrapper]

    def _plugin(self, name: str) -> Any:
        plugin = self._manager.get_plugin(name)
        if plugin is None:
            raise PluginError(name, "no plugin of this name is active")
        return plugin


class _PluginManager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        return options(plugin, name)


@frozen
class _Implementation:
    plugin: str
    spec: Spec
    function: Callable[..., Any]
    wrapper: bool
    arguments: tuple[str, ...]
    limit: float | None
    on_failure: Callable[[str, str], None]
    refuses: bool = False
    stage: str = ""
    """The stage that it goes around, if it is a wrapper of all."""

    def around(self, stage: Spec) -> _Implementation:
        """This wrapper of all stages, as one of `stage`."""
        return evolve(self, spec=evolve(stage, name=self.spec.name), stage=stage.name)

    def begin(self, arguments: Mapping[str, Any]) -> Any:
        if self.refuses:
            raise TransientError(f"{self.plugin} has stopped working, and no one is let in without it")
        if self.stage:
            arguments = {**dict.fromkeys(self.arguments), **arguments, "stage": self.stage}
        return self.function(**{name: arguments[name] for name in self.arguments})

    async def call(self, arguments: Mapping[str, Any]) -> Any:
        limit: asyncio.Timeout | None = None
        try:
            if self.spec.plain:
                answer = self.begin(arguments)
            else:
                async with asyncio.timeout(self.limit) as limit:
                    answer = await self.begin(arguments)
        except SystemExit as error:
            # From a task, it would end the whole event loop.
            raise PluginError(self.plugin, f"it called sys.exit({error.code!r})", self.spec.name) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nothing has cancelled this call: the plugin waited for something that was, and so has failed.
            message = "something that it waited for was cancelled"
            raise PluginError(self.plugin, message, self.spec.name) from error
        except Exception as error:
            late = limit is not None and limit.expired() and isinstance(error, TimeoutError)
            if not isinstance(error, UserError | PluginError | Refused):  # the explainer counts breaches of contract
                self.on_failure(self.plugin, self.spec.name)
            if late:
                raise TransientError(
                    f"plugin {self.plugin!r}, hook {self.spec.name!r}: no answer within {self.limit:g} seconds"
                ) from None
            if isinstance(error, Refused):
                error.policy = error.policy or self.plugin
            self.note(error)
            raise
        return self.judged(answer)

    def judged(self, answer: Any) -> Any:
        """`answer`, if it is of the hook's type. Raises PluginError."""
        if problem := self.spec.judge(answer):
            raise PluginError(self.plugin, f"it gave {problem}", self.spec.name)
        return answer

    def rejudged(self, outcome: Any, before: Any) -> Any:
        """What this wrapper makes of `before`, if it is of that type, and no stage is left without its answer."""
        lost = outcome is None and before is not None and self.spec.needed
        if problem := f"None instead of {words_for(type(before))}" if lost else self.spec.judge_outcome(outcome):
            advice = "a wrapper returns what its `yield` gave, or something of that type"
            raise PluginError(self.plugin, f"its wrapper gave {problem}; {advice}", self.spec.name)
        return outcome

    def note(self, error: Exception) -> None:
        """Lets a traceback say whose bug it is."""
        note = f"raised by plugin {self.plugin!r} in hook {self.spec.name!r}"
        if not isinstance(error, RingbinderError) and note not in getattr(error, "__notes__", ()):
            error.add_note(note)


@frozen
class _Plan:
    """Who is called for a hook, in order."""

    arguments: frozenset[str]
    wrappers: tuple[_Implementation, ...]
    functions: tuple[_Implementation, ...]


_Wrapping = Generator[None, Any, Any]


@define
class _Around:
    """The wrappers around one call, as pluggy has them; but cancellation is beyond their reach.

    What is called between `enter` and `leave` puts its outcome into `result` or `error`. No wrapper adds a frame to
    the call.
    """

    wrappers: Sequence[_Implementation]
    arguments: Mapping[str, Any]
    log: Logger
    on_error: OnError | None = None
    """Called with a wrapper's plugin and exception, in place of the exception."""
    result: Any = None
    error: BaseException | None = None
    _entered: list[tuple[_Implementation, _Wrapping]] = field(factory=list, init=False)

    def enter(self) -> None:
        for wrapper in self.wrappers:
            try:
                self._entered.append((wrapper, _enter(wrapper, self.arguments)))
            except Exception as error:
                if self.on_error is None:
                    raise
                self.on_error(wrapper.plugin, error)

    def leave(self) -> Any:
        """Gives what the outermost wrapper returns, or raises what it raises."""
        for wrapper, generator in reversed(self._entered):
            try:
                outcome = wrapper.rejudged(_leave(wrapper, generator, self.result, self.error), self.result)
            except BaseException as raised:
                if self.error is None and self.on_error and isinstance(raised, Exception):
                    self.on_error(wrapper.plugin, raised)
                elif not _is_end(self.error):
                    self.error = raised
                elif raised is not self.error:
                    self.log.warning(
                        "a wrapper failed while its call was cancelled",
                        plugin=wrapper.plugin, hook=wrapper.spec.name, exc_info=raised,
                    )  # fmt: skip
            else:
                if not _is_end(self.error):
                    self.result, self.error = outcome, None
        if self.error is None:
            return self.result
        try:
            raise self.error
        finally:
            self.error = None  # its traceback holds this frame: a cycle


def _is_end(error: BaseException | None) -> bool:
    return isinstance(error, asyncio.CancelledError | GeneratorExit)


def _enter(wrapper: _Implementation, arguments: Mapping[str, Any]) -> _Wrapping:
    generator: _Wrapping = wrapper.begin(arguments)
    try:
        next(generator)
    except StopIteration:
        raise PluginError(wrapper.plugin, "the wrapper did not yield", wrapper.spec.name) from None
    except Exception as error:
        wrapper.note(error)
        raise
    return generator


def _leave(wrapper: _Implementation, generator: _Wrapping, result: Any, error: BaseException | None) -> Any:
    try:
        if error is None:
            generator.send(result)
        else:
            generator.throw(error)
    except StopIteration as end:
        return end.value
    except Exception as raised:
        if raised is not error:
            wrapper.note(raised)
        raise
    try:
        generator.close()
    finally:
        raise PluginError(wrapper.plugin, "the wrapper yields more than once", wrapper.spec.name) from error


_CALLS: Final = {
    _Implementation.begin.__code__: "self", _Implementation.call.__code__: "self",
    _enter.__code__: "wrapper", _leave.__code__: "wrapper",
}  # fmt: skip
"""The functions through which every hook of a plugin runs, with the name of the implementation in them."""


def hook_of(frame: FrameType) -> tuple[str, str] | None:
    """Plugin and hook that `frame` runs, seen from another thread; None if it is no call of one."""
    if name := _CALLS.get(frame.f_code):
        implementation: _Implementation = frame.f_locals[name]
        return implementation.plugin, implementation.spec.name
    return None
