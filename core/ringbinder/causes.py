"""Why something failed, read off what it has written: patterns, and the words for what they find."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from .model import Diagnosis


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@frozen
class Cause:
    """A well-known reason. `cause` is a format string over the named groups of `pattern`.

    Where two alternatives of the pattern catch the same thing, the second one's group is ``name2``.
    """

    pattern: re.Pattern[str] = field(converter=_compiled)
    code: str
    cause: str
    advice: str

    def told(self, match: re.Match[str]) -> str:
        """The cause in words."""
        named = match.groupdict(default="")
        return self.cause.format(**named | {"name": named.get("name") or named.get("name2", "")})


def first_known(causes: Iterable[Cause], lines: Sequence[str]) -> Diagnosis | None:
    """The first of `causes` that a line tells of, the newest line first; None if none is told of."""
    for known in causes:
        for line in reversed(lines):
            if match := known.pattern.search(line):
                return Diagnosis(known.told(match), line, known.advice, known.code)
    return None
