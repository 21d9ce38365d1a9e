"""Reading `WWW-Authenticate`: how a registry wants to be asked.

Source: RFC 9110, section 11; the token authentication of the CNCF distribution project. Registries leave out
`scope` or `service`, or the quotes: what can be understood is understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import field, frozen

# Each part ends where the next cannot begin, so that reading takes time linear in the text.
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_ITEM: Final = re.compile(
    r"""
    (?P<name>[^\s,="]+)
    (?:
        \s*=\s*(?: "(?P<quoted>(?:[^"\\]|\\.)*)"? | (?P<plain>[^\s,"]*) )
    )?
    """,
    re.VERBOSE | re.DOTALL,
)
_LONGEST: Final = 16_384


@frozen
class Challenge:
    """One way to authenticate. `scheme` and the names of `parameters` are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(factory=dict)

    def __getitem__(self, name: str) -> str:
        """A parameter; empty if it is not given."""
        return self.parameters.get(name, "")


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """What the values of a response's `WWW-Authenticate` headers offer, in their order. Never raises."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        for item in _ITEM.finditer(header[:_LONGEST]):
            quoted, plain = item["quoted"], item["plain"]
            if quoted is None and plain is None:
                found.append((item["name"].lower(), {}))
            elif found:
                value = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
                found[-1][1].setdefault(item["name"].lower(), value)
    return [Challenge(scheme, parameters) for scheme, parameters in found]
