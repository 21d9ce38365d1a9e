"""Plugins that misbehave on purpose: late, failing, or cancelled in the middle."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from attrs import define

from ..plugins.validation import SPECS

P = TypeVar("P", bound=type)


@define
class Trouble:
    """What happens to the calls of `hook` before the plugin itself answers."""

    hook: str
    """Name of an awaited hook of the plugin."""
    delay: float = 0.0
    """Seconds of the plugin's own clock."""
    error: Exception | None = None
    """Raised instead of calling the plugin; None: it is called."""
    cancelled: bool = False
    """The call is cancelled, as if its client had gone."""
    times: int = 1_000_000
    """So many calls, and no more."""
    met: int = 0
    """How many calls have had it."""


def troubled(plugin: P, *troubles: Trouble) -> P:
    """A subclass of the plugin class `plugin` with these troubles. Raises ValueError for an unknown hook.

    Of the plugin that is tested, it shows how Ringbinder copes with it; of another, how the plugin does.
    """
    by_hook: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        function = inspect.getattr_static(plugin, trouble.hook, None)
        if trouble.hook not in SPECS or not inspect.iscoroutinefunction(function):
            raise ValueError(f"{plugin.__name__} has no awaited hook {trouble.hook!r}")
        by_hook.setdefault(trouble.hook, []).append(trouble)
    methods = {hook: _in_trouble(getattr(plugin, hook), met) for hook, met in by_hook.items()}
    made = type(f"Troubled{plugin.__name__}", (plugin,), {**methods, "__module__": plugin.__module__})
    return cast(P, made)


def _in_trouble(method: Callable[..., Any], troubles: Sequence[Trouble]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def called(self: Any, *arguments: Any, **keywords: Any) -> Any:
        for trouble in troubles:
            if trouble.met < trouble.times:
                trouble.met += 1
                await _meet(trouble, self)
        return await method(self, *arguments, **keywords)

    return called


async def _meet(trouble: Trouble, plugin: Any) -> None:
    if trouble.delay:
        await plugin.context.clock.sleep(trouble.delay)
    if trouble.error is not None:
        raise trouble.error
    if trouble.cancelled and (task := asyncio.current_task()) is not None:
        task.cancel()
        await asyncio.sleep(0)
