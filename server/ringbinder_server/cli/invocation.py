"""One call of a command: its configuration, its log, its interrupts, and what its errors mean."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from attrs import frozen
from ringbinder.app import Ringbinder, running
from ringbinder.config.folders import folder_problems
from ringbinder.config.loading import Config, load
from ringbinder.errors import ConfigError, PluginError, Refused, TransientError, UserError
from ringbinder.plugins.fitting import fitted
from ringbinder.protocol import failed
from ringbinder.runtime.log import Logger
from ringbinder.secret import redact

from ..logging import form_of_log, set_up
from ..terminal import echo, echo_event, echo_text
from .configured import Setup
from .destination import Destination
from .exitcodes import ExitCode
from .interrupts import Interrupts, exit_code


@frozen
class Invocation:
    """What a command is given to do its work with."""

    setup: Setup
    level: str
    log: Logger
    interrupts: Interrupts

    def config(self, sets: Sequence[str] = ()) -> Config:
        """The configuration of files, environment and ``--set``, then `sets`. Raises ConfigError."""
        config = fitted(load(self.setup.files, sets=(*self.setup.sets, *sets)))
        settings = config.settings
        set_up(self.level, form=settings.log_format, levels=settings.log_levels)
        return config

    @asynccontextmanager
    async def app(self, *, writes: bool = False, to: Destination | None = None) -> AsyncIterator[Ringbinder]:
        """A running application. Raises ConfigError and PluginError as `ringbinder.app.running` does.

        `writes`: raises ConfigError also if its folders cannot be used. `to`: what it builds goes there.
        """
        config = self.config()
        if to:
            config = self.config(to.sets(config))
        if writes and (problems := folder_problems(config)):
            raise ConfigError(problems)
        async with running(config, self.log, image=to.image if to else "") as app:
            for text in (*config.risks, *config.sections.unused()):
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
        return _report(error, log, setup.as_json)


def _report(error: Exception, log: Logger, as_json: bool) -> int:
    """Writes what `error` means for people to stderr, in the form of the log, and for programs to stdout."""
    problems: tuple[str, ...] = ()
    message, exit_code = str(error), ExitCode.CONFIG
    code = "configuration-wrong"
    match error:
        case ConfigError():
            message, problems = "The configuration is wrong:", error.problems
        case PluginError():
            pass
        case UserError():
            code = error.code
            exit_code = ExitCode.LINK
        case Refused():
            code = "refused"
            exit_code = ExitCode.TRY_AGAIN
        case TransientError():
            code = "try-again"
            exit_code = ExitCode.TRY_AGAIN
        case _:
            error_id = secrets.token_hex(4)
            log.error("internal error", error_id=error_id, exc_info=error)
            message = f"internal error, id {error_id}: this is a bug. The log above says where."
            code = "internal-error"
            exit_code = ExitCode.INTERNAL
    if form_of_log() == "json":
        log.error("\n".join([message, *problems]))
    else:
        text = "\n".join([f"ringbinder: {message}", *(f"  {problem}" for problem in problems)])
        echo_text(redact(text), err=True)
    if as_json:
        echo_event(failed("\n".join(problems) or message, code=code))
    return exit_code
