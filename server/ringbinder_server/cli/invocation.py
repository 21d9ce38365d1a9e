"""One call of a command: its configuration, its log, its interrupts, and what its errors mean."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from attrs import frozen
from ringbinder.app import Ringbinder, running
from ringbinder.config import Config, load
from ringbinder.errors import ConfigError, PluginError, Refused, TransientError, UserError
from ringbinder.folders import folder_problems
from ringbinder.secret import redact
from ringbinder.services import Logger

from ..logging import set_up
from ..terminal import echo, echo_text
from .exitcodes import ExitCode
from .interrupts import Interrupts, exit_code
from .setup import Setup


@frozen
class Invocation:
    """What a command is given to do its work with."""

    setup: Setup
    level: str
    log: Logger
    interrupts: Interrupts

    def config(self) -> Config:
        """The configuration of files, environment and ``--set``. Raises ConfigError."""
        config = load(self.setup.files, sets=self.setup.sets)
        settings = config.settings
        set_up(self.level, form=settings.log_format, levels=settings.log_levels)
        return config

    @asynccontextmanager
    async def app(self, *, writes: bool = False) -> AsyncIterator[Ringbinder]:
        """A running application. Raises ConfigError and PluginError as `ringbinder.app.running` does.

        `writes`: raises ConfigError also if its folders cannot be used.
        """
        config = self.config()
        if writes and (problems := folder_problems(config)):
            raise ConfigError(problems)
        async with running(config, self.log) as app:
            for text in (*config.risks, *config.unused()):
                echo(redact(f"ringbinder: warning: {text}"), err=True)
            yield app


Work = Callable[[Invocation], Coroutine[Any, Any, int]]


def carry_out(setup: Setup, work: Work, level: str, own_signals: bool) -> int:
    """Runs `work` in an event loop and returns its exit code; tells an error on stderr."""
    log = set_up(level)

    async def main() -> int:
        interrupts = Interrupts()
        command = asyncio.create_task(work(Invocation(setup, level, log, interrupts)), name="command")
        interrupts.then(command.cancel)
        with interrupts if own_signals else nullcontext():
            try:
                return await command
            except asyncio.CancelledError:
                if interrupts.signal is None:
                    raise
                return exit_code(interrupts.signal)

    try:
        return asyncio.run(main())
    except BrokenPipeError:
        raise  # the reader of stdout has gone; click ends the process quietly
    except Exception as error:
        return _report(error, log)


def _report(error: Exception, log: Logger) -> int:
    match error:
        case ConfigError():
            return _say("The configuration is wrong:", ExitCode.CONFIG, error.problems)
        case PluginError():
            return _say(str(error), ExitCode.CONFIG)
        case UserError():
            return _say(error.message, ExitCode.LINK)
        case Refused() | TransientError():
            return _say(str(error), ExitCode.TRY_AGAIN)
    error_id = secrets.token_hex(4)
    log.error("internal error", error_id=error_id, exc_info=error)
    return _say(f"internal error, id {error_id}: this is a bug. The log above says where.", ExitCode.INTERNAL)


def _say(message: str, code: ExitCode, details: tuple[str, ...] = ()) -> ExitCode:
    lines = [f"ringbinder: {message}", *(f"  {detail}" for detail in details)]
    echo_text(redact("\n".join(lines)), err=True)
    return code
