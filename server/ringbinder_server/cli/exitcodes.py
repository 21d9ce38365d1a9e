"""The exit codes of `ringbinder`; part of its interface."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """How a command ended. A command that a signal ended before it was done: 128 + the signal's number."""

    OK = 0
    INTERNAL = 1
    USAGE = 2  # click's own
    LINK = 3
    BUILD = 4
    LAUNCH = 5
    CONFIG = 6
    TRY_AGAIN = 7
    INTERRUPTED = 130  # by SIGINT, the signal that is named in the help


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "done; a notebook that you stopped, or that ended by itself, included",
    ExitCode.INTERNAL: "internal error: a bug, whose traceback is on stderr",
    ExitCode.USAGE: "wrong usage of the command line",
    ExitCode.LINK: "the link is not understood, or what it names is not found",
    ExitCode.BUILD: "the build failed",
    ExitCode.LAUNCH: "the image is there, but the notebook did not start",
    ExitCode.CONFIG: "wrong configuration, or a plugin that it needs cannot start",
    ExitCode.TRY_AGAIN: "refused, or something outside did not answer: try again later",
    ExitCode.INTERRUPTED: "interrupted before it was done (SIGTERM: 143, SIGHUP: 129)",
}
