"""Which methods of a plugin are hooks, and whether they fit: what is refused when a plugin is registered."""

from __future__ import annotations

import difflib
import dis
import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, get_type_hints

import pluggy
from attrs import frozen

from ..errors import PluginError
from ..runtime.log import Logger
from ..runtime.suggest import did_you_mean
from .answers import Judge, judge_of
from .deprecation import warn_of_hook
from .hookspecs import AROUND_STAGE, GUARDS, NEEDED, PLAIN, PROJECT, Hooks

_MARK: Final = f"{PROJECT}_impl"
_ONE_SLIP: Final = 0.8
"""Least likeness of two names: `exit` is no slip of `emit`."""
_TWO_SLIPS: Final = 0.9
_WORDS: Final = frozenset({"login", "logout"})
"""Names of helpers, one slip away from hooks that only their absence would show: no one could log in."""


@frozen
class Spec:
    """One hook: its arguments, whether its first answer wins, whether it is awaited."""

    name: str
    arguments: tuple[str, ...]
    first: bool
    plain: bool
    needed: bool
    """No wrapper may take its answer away."""
    judge: Judge
    """Of the answer of one implementation."""
    judge_outcome: Judge
    """Of what a wrapper returns: an answer, or a list of them, each with its plugin's name."""


def _specs() -> Iterator[Spec]:
    for name, function in vars(Hooks).items():
        if options := getattr(function, f"{PROJECT}_spec", None):
            arguments = tuple(inspect.signature(function).parameters)[1:]
            answer: Any = get_type_hints(function, include_extras=True)["return"]
            first = bool(options["firstresult"])
            outcome: Any = answer if first else Sequence[tuple[str, answer]]
            yield Spec(name, arguments, first, name in PLAIN, name in NEEDED, judge_of(answer), judge_of(outcome))


SPECS: Final[Mapping[str, Spec]] = {spec.name: spec for spec in _specs()}


def options(plugin: object, attribute: str) -> pluggy.HookimplOpts | None:
    """How `attribute` of a plugin, or of its class, is a hook; None if it is none.

    A method that has a hook's name needs no decorator. An override keeps the options of the nearest
    decorated method that it overrides. Nothing is evaluated: properties stay untouched.
    """
    function = _function(inspect.getattr_static(plugin, attribute, None))
    if function is None or getattr(function, "__isabstractmethod__", False):
        return None
    marked = _mark(plugin, attribute)
    if marked is None and attribute not in SPECS:
        return None
    given: dict[str, Any] = dict(marked or {})
    if given.get("optionalhook") and (given.get("specname") or attribute) not in SPECS:
        return None
    return pluggy.HookimplOpts(
        wrapper=given.get("wrapper", False) or (given.get("specname") or attribute) == AROUND_STAGE,
        hookwrapper=given.get("hookwrapper", False),
        optionalhook=given.get("optionalhook", False),
        tryfirst=given.get("tryfirst", False),
        trylast=given.get("trylast", False),
        specname=given.get("specname"),
    )


def hooks_in(plugin: object) -> tuple[str, ...]:
    """The hooks that a plugin or a plugin class has, wrappers among them, in the specifications' order."""
    found = {given["specname"] or name for name in _names(plugin) if (given := options(plugin, name))}
    return tuple(name for name in SPECS if name in found)


def guards(plugin: object) -> bool:
    """Whether a plugin or a plugin class lets people in or keeps them out, or was meant to.

    So it does if a hook of `GUARDS` is marked, misspelt or of a form in which it cannot be called.
    """
    for attribute in _names(plugin):
        given = options(plugin, attribute)
        hook = (given and given["specname"]) or attribute
        if hook in GUARDS or (_is_method(plugin, attribute) and any(_misspells(hook, g) for g in GUARDS)):
            return True
    return False


def check(plugin: object, name: str, log: Logger) -> None:
    """Raises PluginError for the first method that would not work as the hook that it claims to be.

    So it does for one whose name is a misspelt hook; one that only resembles a hook is worth a warning.
    """
    there = hooks_in(plugin)
    missing = [hook for hook in SPECS if hook not in there]
    for attribute in _names(plugin):
        given = options(plugin, attribute)
        if given is not None:
            _Method(name, attribute, given, getattr(plugin, attribute)).check()
        elif attribute in SPECS:
            _check_other(plugin, name, attribute)
        elif not attribute.startswith("_") and _is_method(plugin, attribute):
            _check_helper(plugin, name, attribute, missing, log)


@frozen
class _Method:
    plugin: str
    attribute: str
    options: pluggy.HookimplOpts
    function: Callable[..., Any]

    @property
    def hook(self) -> str:
        return self.options["specname"] or self.attribute

    def refuse(self, message: str) -> PluginError:
        also = "" if self.attribute == self.hook else f" (method {self.attribute!r})"
        return PluginError(self.plugin, message + also, self.hook)

    def check(self) -> None:
        spec = SPECS.get(self.hook)
        if spec is None:
            hint = did_you_mean(self.hook, SPECS, f" The hooks are: {', '.join(SPECS)}.")
            raise self.refuse(f"the method is marked as a hook, but there is no hook of this name.{hint}")
        if self.options["hookwrapper"]:
            raise self.refuse("hookwrapper=True is pluggy's old style; use wrapper=True")
        if self.options["wrapper"]:
            self._check_wrapper(spec)
        else:
            self._check_colour(spec)
        self._check_arguments(spec)
        warn_of_hook(self.plugin, self.hook, inspect.signature(self.function).parameters)

    def _check_wrapper(self, spec: Spec) -> None:
        if spec.name == "lifespan":
            raise self.refuse("it cannot be wrapped; give the plugin a lifespan of its own")
        if not inspect.isgeneratorfunction(self.function):
            raise self.refuse(
                "a wrapper is a plain generator: `def` (not `async def`) with one `yield`, which gives the "
                "awaited result"
            )
        if _returns_nothing(self.function):
            raise self.refuse(
                "the wrapper returns nothing, so the hook would have no answer: `return` what `yield` gave"
            )

    def _check_colour(self, spec: Spec) -> None:
        function = self.function
        if inspect.isgeneratorfunction(function):
            raise self.refuse(
                "the method is a generator; a wrapper needs @hookimpl(wrapper=True)"
                if spec.name != "lifespan"
                else "the method is a plain generator; write `async def lifespan(self)` with one `yield`"
            )
        if inspect.isasyncgenfunction(function):
            if spec.name != "lifespan":
                raise self.refuse("the method is an async generator; it must return its answer instead of yielding")
        elif spec.plain and inspect.iscoroutinefunction(function):
            raise self.refuse(
                "the method has no `yield`: it needs one between start and end"
                if spec.name == "lifespan"
                else "the method is async, but this hook is not awaited; write `def` instead of `async def`"
            )
        elif not spec.plain and not inspect.iscoroutinefunction(function):
            raise self.refuse("the method is plain, but this hook is awaited; write `async def` instead of `def`")

    def _check_arguments(self, spec: Spec) -> None:
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError) as error:
            raise self.refuse(f"its arguments cannot be read ({error}); write it as a method with `self`") from None
        valid = f"valid are: {', '.join(spec.arguments) or 'none'}"
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                bare = parameter.replace(annotation=parameter.empty)
                raise self.refuse(
                    f"the argument {bare} gets nothing, since arguments are given by name; name those "
                    f"that are needed ({valid}), and use functools.wraps in a decorator"
                )
            if parameter.name not in spec.arguments:
                hint = did_you_mean(parameter.name, spec.arguments)
                raise self.refuse(f"the hook has no argument {parameter.name!r}; {valid}.{hint}")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise self.refuse(f"the argument {parameter.name!r} must be one that can be given by name")


def _returns_nothing(generator: Callable[..., Any]) -> bool:
    """Whether `generator` comes to an end, and never with a value."""
    values: list[bool] = []
    before: dis.Instruction | None = None
    for instruction in dis.get_instructions(inspect.unwrap(generator)):
        if instruction.opname == "RETURN_CONST":
            values.append(instruction.argval is not None)
        elif instruction.opname == "RETURN_VALUE":
            values.append(not (before and before.opname == "LOAD_CONST" and before.argval is None))
        before = instruction
    return bool(values) and not any(values)


def _function(static: object) -> Callable[..., Any] | None:
    """The function behind what `inspect.getattr_static` gives, if that is a method of any sort."""
    if isinstance(static, staticmethod | classmethod | types.MethodType):
        static = static.__func__
    return static if isinstance(static, types.FunctionType) else None


def _mark(plugin: object, attribute: str) -> Mapping[str, Any] | None:
    for static in _definitions(plugin, attribute):
        for holder in (static, _function(static)):
            if isinstance(marked := getattr(holder, "__dict__", {}).get(_MARK), Mapping):
                return marked
    return None


def _definitions(plugin: object, attribute: str) -> Iterator[object]:
    """What `attribute` is, and what that overrides, nearest first."""
    for namespace in _namespaces(plugin):
        if attribute in namespace:
            yield namespace[attribute]


def _namespaces(plugin: object) -> Iterator[Mapping[str, object]]:
    if isinstance(plugin, type):
        yield from map(vars, plugin.__mro__)
        return
    if hasattr(plugin, "__dict__"):
        yield vars(plugin)
    yield from map(vars, type(plugin).__mro__)


def _names(plugin: object) -> Collection[str]:
    return sorted({name for namespace in _namespaces(plugin) for name in namespace if not name.startswith("__")})


def _check_other(plugin: object, name: str, hook: str) -> None:
    """Refuses what has a hook's name and was meant as that hook, or hides it, but cannot be called."""
    static = inspect.getattr_static(plugin, hook, None)
    if _function(static) is not None:
        return  # abstract
    what = f"its attribute {hook!r} ({type(static).__name__}) has the name of a hook"
    if any(_function(other) is not None for other in _definitions(plugin, hook)):
        raise PluginError(name, f"{what} and hides the method of that name; rename the attribute", hook)
    if callable(static) or isinstance(static, functools.partialmethod):
        raise PluginError(name, f"{what}, but is no method written with `def`; write it as one, or rename it", hook)


def _depth(plugin: object, attribute: str) -> int:
    """How far up among the classes of a plugin `attribute` is defined; -1 if it is nowhere."""
    return next((n for n, names in enumerate(_namespaces(plugin)) if attribute in names), -1)


def _is_method(plugin: object, attribute: str) -> bool:
    return _function(inspect.getattr_static(plugin, attribute, None)) is not None


def _check_helper(plugin: object, name: str, attribute: str, missing: Collection[str], log: Logger) -> None:
    """Refuses a method that is no hook if its name is a misspelt one."""
    plain = not inspect.iscoroutinefunction(_function(inspect.getattr_static(plugin, attribute)))
    candidates = [hook for hook in SPECS if SPECS[hook].plain is plain or hook in GUARDS]
    depth = _depth(plugin, attribute)
    for hook in candidates:
        # What a class inherits is no answer of its own: its base class may do nothing in that hook.
        if (hook in missing or _depth(plugin, hook) > depth) and _misspells(attribute, hook):
            raise PluginError(
                name,
                f"the name of its method {attribute!r} is this hook's, misspelt; call it {hook!r}, or, if it is no "
                "hook, give it another name or an underscore at its beginning",
                hook,
            )
    resembled = [hook for hook in candidates if hook in missing]
    if near := difflib.get_close_matches(attribute, resembled, n=1, cutoff=0.8):
        log.warning(
            "a method of a plugin is nearly named as a hook, and will not be called as one",
            plugin=name,
            method=attribute,
            hook=near[0],
        )


@functools.cache  # it is asked for each method of each plugin, several times
def _misspells(word: str, hook: str) -> bool:
    """Whether `word` is the name of `hook` with a slip or with other capitals, and not a word that is made of it.

    A slip is a letter too many, too few or another, or two that are swapped; two slips in a long name. Words that are
    made of it are `builds`, `resolved`, `image`; a plural of a hook that keeps people out is a slip as well.
    """
    if word.startswith("_") or word == hook:
        return False
    word = word.lower()
    made_of_it = {f"{hook}d", f"{hook}r", f"{hook}y"}
    if hook not in GUARDS:
        made_of_it |= {f"{hook}s", hook[:-1] if hook.endswith("s") else ""}
    if word in made_of_it | _WORDS:
        return False
    likeness = difflib.SequenceMatcher(None, word, hook).ratio()
    if likeness >= _TWO_SLIPS:
        return True
    if len(word) == len(hook):
        wrong = [at for at, letters in enumerate(zip(word, hook, strict=True)) if letters[0] != letters[1]]
        swapped = len(wrong) == 2 and wrong[1] == wrong[0] + 1 and sorted(word) == sorted(hook)
        return swapped or (likeness >= _ONE_SLIP and len(wrong) == 1)
    short, long = sorted((word, hook), key=len)
    return len(short) > 3 and short in {long[:at] + long[at + 1 :] for at in range(len(long))}
