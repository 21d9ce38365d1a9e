"""Why something failed, read off what it has written: patterns, and the words for what they find."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import field, frozen

from .model import Diagnosis
from .runtime.patterns import Match, Regex

__all__ = ["Cause", "first_known", "log_excerpt"]

LINE_BYTES: Final = 1024
EXCERPT_BYTES: Final = 64 * 1024
EXCERPT_LINES: Final = 1000


def log_excerpt(messages: Iterable[str]) -> tuple[str, ...]:
    """What of a log is diagnosed: its newest lines, oldest first, each cut at 1 kB, 64 kB in all, no blank ones.

    A message may be of many lines. What searches strangers' output for a cause reads this.
    """
    newest: list[str] = []
    left = EXCERPT_BYTES
    for message in reversed(list(messages)):
        for line in reversed(message[-2 * EXCERPT_BYTES :].splitlines(keepends=True)):
            cut = line.encode("utf-8", "replace")[:LINE_BYTES]
            left -= len(cut)
            if left < 0 or len(newest) == EXCERPT_LINES:
                return tuple(reversed(newest))
            if (text := cut.decode("utf-8", "ignore")).strip():
                newest.append(text)
    return tuple(reversed(newest))


def _multiline(pattern: str) -> Regex:
    return Regex(f"(?m){pattern}")


@frozen
class Cause:
    """A well-known reason. `cause` is a format string over the named groups of `pattern`, which is RE2's.

    Where two alternatives of the pattern catch the same thing, the second one's group is ``name2``.
    """

    pattern: Regex = field(converter=_multiline)
    """RE2's; ``^`` and ``$`` match at lines."""
    code: str
    """As in `Diagnosis.code`."""
    cause: str
    """As in `Diagnosis.cause`, with ``{name}`` for what the group `name` has matched."""
    advice: str = ""
    """As in `Diagnosis.advice`."""

    def describe(self, match: Match) -> str:
        """The cause in words."""
        named = match.groupdict(default="")
        return self.cause.format(**named | {"name": named.get("name") or named.get("name2", "")})


def first_known(causes: Iterable[Cause], messages: Iterable[str]) -> Diagnosis | None:
    """The first of `causes` that a line of the `log_excerpt` names, the newest line first; None if none does."""
    lines = [line.strip() for line in log_excerpt(messages)]
    text = "\n".join(lines)
    for known in causes:
        if not known.pattern.search(text):  # usual, and far quicker than line by line
            continue
        for line in reversed(lines):
            if match := known.pattern.search(line):
                return Diagnosis(known.describe(match), line, known.advice, known.code)
    return None
