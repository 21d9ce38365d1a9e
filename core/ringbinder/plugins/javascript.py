"""Regular expressions that a browser reads: what of Python's syntax JavaScript has not."""

from __future__ import annotations

import re
from typing import Final

_TOKENS: Final = re.compile(
    r"(?P<anchor>\\[AZ])|\\.|\[(?:\\.|[^\]\\])*\]?"
    r"|(?P<group>\(\?(?:P[<=>]|[#>(]|[a-zA-Z-]+[:)]))|(?P<possessive>[*+?}]\+)",
    re.DOTALL,
)
_INSTEAD: Final = {r"\A": "^", r"\Z": "$", "(?P<": "(?<", "(?P=": r"\k<"}
_NAMED: Final = re.compile(r"\(\?<(?=[A-Za-z_])")
_NAMED_AGAIN: Final = re.compile(r"\\k<(\w+)>")
# Of what `re` refuses, these are errors in JavaScript as well.
_MALFORMED: Final = ("missing )", "unbalanced", "nothing to repeat", "multiple repeat", "unterminated", "redefinition")


def javascript_problem(pattern: str) -> str:
    r"""What keeps `pattern` from being a regular expression of JavaScript, in words; empty if nothing is known to.

    >>> javascript_problem("(?<repo>.+)")
    ''
    >>> javascript_problem("(?P<repo>.+)")
    '"(?P<" is Python\'s; write "(?<"'
    """
    for token in _TOKENS.finditer(pattern):
        if part := token["anchor"] or token["group"] or token["possessive"]:
            return f'"{part}" is Python\'s; ' + (f'write "{_INSTEAD[part]}"' if part in _INSTEAD else "write it out")
    try:
        named_groups(pattern)
    except re.error as error:
        return f"it is no regular expression: {error}" if error.msg.startswith(_MALFORMED) else ""
    return ""


def named_groups(pattern: str) -> frozenset[str]:
    """The names of the groups of a JavaScript pattern. Raises re.error."""
    python = _NAMED_AGAIN.sub(r"(?P=\1)", _NAMED.sub("(?P<", pattern)).replace("[^]", r"[\s\S]")
    return frozenset(re.compile(python).groupindex)
