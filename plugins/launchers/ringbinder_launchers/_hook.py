"""Calling `Launcher.pre_launch_hook`: an operator's own function, before a server is started.

Its form is BinderHub's (protocol reference, 6.1): sync or async, with keyword arguments, and it may raise
tornado's ``HTTPError(status, message)`` to refuse.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from ringbinder import Refused, RingbinderError, redact

Hook = Callable[..., Any]


async def call_hook(hook: Hook, **arguments: Any) -> None:
    """Calls it, a plain function in a thread. Raises Refused for an ``HTTPError``, else what it raises."""
    try:
        if inspect.iscoroutinefunction(hook):
            await hook(**arguments)
            return
        answer = await asyncio.to_thread(hook, **arguments)
        if inspect.isawaitable(answer):
            await answer
    except RingbinderError:
        raise
    except Exception as error:
        status = getattr(error, "status_code", None)
        if not isinstance(status, int):
            error.add_note("raised by Launcher.pre_launch_hook")
            raise
        reason = getattr(error, "log_message", None) or getattr(error, "reason", None) or "not allowed"
        raise Refused(redact(str(reason)), status=status) from error
