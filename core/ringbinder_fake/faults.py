"""Failures on demand."""

from __future__ import annotations

import asyncio
from typing import Literal, get_args

from attrs import frozen
from ringbinder import BuildError, TransientError, UserError, option

FailingHook = Literal["resolve", "check", "target", "build", "push", "launch"]
Fault = Literal["user", "transient", "bug", "hang"]


@frozen
class FakeOptions:
    """The options of every fake plugin, in section ``Fake`` for all of them or in its own."""

    fail_at: Literal["", FailingHook] = option(
        "", help=f"Where to fail: {', '.join(get_args(FailingHook))}; empty: nowhere."
    )
    fail_with: Fault = option(
        "user",
        help="How to fail: `user` (an error for the person who clicked), `transient` (may work another time), "
        "`bug` (an unexpected exception), `hang` (never come back).",
    )
    fail_times: int = option(0, help="Fail only so many times, then work; 0: always fail.")


class Faults:
    """Fails where and how `options` say."""

    def __init__(self, options: FakeOptions) -> None:
        self._options = options
        self._failed = 0

    async def at(self, hook: FailingHook) -> None:
        """Returns at once, unless this is where to fail."""
        options = self._options
        if hook != options.fail_at or (self._failed >= options.fail_times > 0):
            return
        self._failed += 1
        message = f"Fake failure: `fail_at` is {hook!r} and `fail_with` is {options.fail_with!r}."
        match options.fail_with:
            case "user" if hook == "build":
                raise BuildError(message)
            case "user":
                raise UserError("fake-failure", message)
            case "transient":
                raise TransientError(message)
            case "bug":
                raise RuntimeError(message)
            case "hang":
                await asyncio.get_running_loop().create_future()
