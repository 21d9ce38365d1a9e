"""Regular expressions in time linear in the text, for any text: those of RE2.

`re` backtracks, so a line of 60 kB can keep it busy for minutes; it holds the interpreter's lock meanwhile, so
that a thread does not help. What an operator writes is a `Pattern`. What we match against strangers' text is a
`Regex`, or a `re.Pattern` that needs no more than linear time: `tests/attack/test_pattern_times.py` holds every
compiled pattern of the tree to that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final, Protocol, final

import re2  # type: ignore[import-untyped] # it has no types
from attrs import field, frozen

_LOOKAHEADS: Final = ("(?!", "(?=")
_ADVICE: Final = (
    "Instead of lookaround and backreferences write which characters may stand there, such as [^a], or several "
    "patterns; a lookahead may stand at the beginning, after ^, as in ^(?!my-group/).*"
)
# Python's classes know all of Unicode, those of RE2 only ASCII.
_OUTSIDE: Final = {
    "d": r"\p{Nd}", "D": r"\P{Nd}", "w": r"[\p{L}\p{N}_]", "W": r"[^\p{L}\p{N}_]",
    "s": r"[\s\x0b\x1c-\x1f\x85\p{Z}]", "S": r"[^\s\x0b\x1c-\x1f\x85\p{Z}]", "Z": r"\z",
}  # fmt: skip
# A negated class within a class has no exact counterpart: there, \W and \S mean a little more than Python's.
_INSIDE: Final = {
    "d": r"\p{Nd}", "D": r"\P{Nd}", "w": r"\p{L}\p{N}_", "s": r"\s\x0b\x1c-\x1f\x85\p{Z}", "b": r"\x08",
}  # fmt: skip
_ESCAPED_CHARACTER: Final = {"u": 4, "U": 8}  # -> number of hexadecimal digits
_FLAGS: Final = re.compile(r"\(\?[ims]+\)")


class Match(Protocol):
    """A match of a `Regex`: `group`, `groups`, `groupdict`, `start` and `end` are as those of `re.Match`."""

    def __getitem__(self, group: int | str, /) -> Any: ...
    def group(self, *groups: int | str) -> Any: ...
    def groups(self, default: Any = None) -> tuple[Any, ...]: ...
    def groupdict(self, default: Any = None) -> dict[str, Any]: ...
    def start(self, group: int = 0, /) -> int: ...
    def end(self, group: int = 0, /) -> int: ...


@final
class Regex:
    r"""A pattern of our own, in RE2's syntax: `\w`, `\d`, `\s` and `\b` are ASCII, flags stand in it as `(?i)`.

    >>> Regex(r"(?i)^error: (?P<what>\S+)").search("Error: x y")["what"]
    'x'
    """

    __slots__ = ("_compiled", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern: str = pattern
        self._compiled = _compiled(pattern)

    def __repr__(self) -> str:
        return f"Regex({self.pattern!r})"

    def search(self, text: str) -> Match | None:
        """Return the first match in `text`, if there is one. All methods take time linear in the text."""
        return self._compiled.search(_encodable(text))  # type: ignore[no-any-return]

    def match(self, text: str) -> Match | None:
        """Return the match at the beginning of `text`, if there is one."""
        return self._compiled.match(_encodable(text))  # type: ignore[no-any-return]

    def fullmatch(self, text: str) -> Match | None:
        """Return the match of the whole `text`, if it is one."""
        return self._compiled.fullmatch(_encodable(text))  # type: ignore[no-any-return]

    def finditer(self, text: str) -> Iterator[Match]:
        """Return all matches that do not overlap, from left to right."""
        return self._compiled.finditer(_encodable(text))  # type: ignore[no-any-return]

    def sub(self, replacement: str | Callable[[Match], str], text: str) -> str:
        """Return `text` with `replacement` for each match; in one that is a text, ``\\1`` is the first group."""
        return self._compiled.sub(replacement, _encodable(text))  # type: ignore[no-any-return]

    def split(self, text: str) -> list[str]:
        """Return what stands between the matches."""
        return self._compiled.split(_encodable(text))  # type: ignore[no-any-return]


@frozen(slots=False)
class Pattern:
    r"""A regular expression of the configuration's, in Python's syntax. It says only whether it matches.

    The type of an option that takes one. Raises ValueError, with what to write instead, where RE2 cannot do it.

    >>> Pattern(r"^(?!my-group/).*").match("evil/repo")
    True
    """

    pattern: str
    """As the operator wrote it."""
    _branches: tuple[_Branch, ...] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_branches", _branches(self.pattern, ""))

    def __str__(self) -> str:
        return self.pattern

    @cached_property
    def ignoring_case(self) -> Pattern:
        """The same for any case of letters."""
        other = Pattern(self.pattern)
        object.__setattr__(other, "_branches", _branches(self.pattern, "(?i)"))
        return other

    def search(self, text: str) -> bool:
        """Whether it matches anywhere in `text`."""
        return self._any("search", text)

    def match(self, text: str) -> bool:
        """Whether it matches at the beginning of `text`."""
        return self._any("match", text)

    def fullmatch(self, text: str) -> bool:
        """Whether it matches the whole of `text`."""
        return self._any("fullmatch", text)

    def begins_any(self, texts: Iterable[str], others: Iterable[str] = ()) -> bool:
        """Whether it matches at the beginning of one of `texts`, which are spellings of one thing.

        What the pattern excludes, as in ``^(?!evil/)``, must then stand in none of them, nor in `others`: one
        spelling more must not be a way around it.
        """
        spellings = [text.encode("utf-8", "replace") for text in texts]
        further = [text.encode("utf-8", "replace") for text in others]
        return any(branch.begins_any(spellings, further) for branch in self._branches)

    def _any(self, method: str, text: str) -> bool:
        encoded = text.encode("utf-8", "replace")
        return any(branch.holds(method, encoded) for branch in self._branches)


@frozen
class _Branch:
    """One alternative of a pattern: what may (not) stand at the beginning, and the rest."""

    lookaheads: tuple[tuple[bool, Any], ...]
    rest: Any

    def holds(self, method: str, text: bytes) -> bool:
        return getattr(self.rest, method)(text) is not None and all(
            (lookahead.match(text) is not None) is wanted for wanted, lookahead in self.lookaheads
        )

    def begins_any(self, texts: Sequence[bytes], others: Sequence[bytes]) -> bool:
        excluded = [lookahead for wanted, lookahead in self.lookaheads if not wanted]
        if any(lookahead.match(text) for lookahead in excluded for text in (*texts, *others)):
            return False
        return any(self.holds("match", text) for text in texts)


def _branches(source: str, flags: str) -> tuple[_Branch, ...]:
    try:
        re.compile(source)
    except re.error as error:
        at = "" if error.pos is None else f" at position {error.pos}"
        raise ValueError(f"not a regular expression: {error.msg}{at}") from None
    except (OverflowError, RecursionError):
        raise ValueError("not a regular expression that Python can handle: it is too large") from None
    try:
        begin = found.end() if (found := _FLAGS.match(source)) else 0
        tokens = list(_tokens(source[begin:]))
        return tuple(_branch(branch, flags + source[:begin]) for branch in _split(tokens))
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"not a regular expression in linear time (RE2: {reason}). {_ADVICE}") from None
    except UnicodeEncodeError:
        raise ValueError("not a regular expression: it has half of a surrogate pair") from None


def _branch(tokens: list[str], flags: str) -> _Branch:
    lookaheads: list[tuple[bool, Any]] = []
    rest = tokens
    anchored = tokens[:1] in (["^"], [r"\A"]) and "m" not in flags
    while anchored and rest[1:2] and rest[1] in _LOOKAHEADS:
        end = _closing(rest, 1)
        inner = "".join(rest[2:end])
        lookaheads.append((rest[1] == "(?=", _compiled((flags + inner).encode())))
        rest = [rest[0], *rest[end + 1 :]]
    return _Branch(tuple(lookaheads), _compiled((flags + "".join(rest)).encode()))


def _split(tokens: list[str]) -> Iterator[list[str]]:
    """The alternatives of a pattern that has been cut into tokens."""
    depth, branch = 0, list[str]()
    for part in tokens:
        depth += part.startswith("(") - (part == ")")
        if part == "|" and not depth:
            yield branch
            branch = []
        else:
            branch.append(part)
    yield branch


def _closing(tokens: list[str], opening: int) -> int:
    depth = 0
    for at in range(opening, len(tokens)):
        depth += tokens[at].startswith("(") - (tokens[at] == ")")
        if not depth:
            return at
    raise AssertionError("re has found the parentheses balanced")


def _tokens(source: str) -> Iterator[str]:
    """Cuts a pattern that Python takes into tokens of RE2's syntax."""
    at = 0
    while at < len(source):
        if source[at] == "\\":
            token, at = _escape(source, at, _OUTSIDE)
        elif source[at] == "[":
            token, at = _class(source, at)
        elif source[at : at + 3] in _LOOKAHEADS:
            token, at = source[at : at + 3], at + 3
        elif source.startswith("{,", at):
            token, at = "{0,", at + 2
        else:
            token, at = source[at], at + 1
        yield token


def _class(source: str, at: int) -> tuple[str, int]:
    """The class of characters that begins at `at`, and where it ends."""
    start = at
    at += 2 if source.startswith("[^", at) else 1
    parts = [source[start:at]]
    while source[at] != "]" or len(parts) == 1:
        if source[at] == "\\":
            part, at = _escape(source, at, _INSIDE)
        else:
            part, at = ("\\" if source[at] in "[]" else "") + source[at], at + 1
        parts.append(part)
    return "".join([*parts, "]"]), at + 1


def _escape(source: str, at: int, words: dict[str, str]) -> tuple[str, int]:
    letter = source[at + 1]
    if digits := _ESCAPED_CHARACTER.get(letter):
        end = at + 2 + digits
        return rf"\x{{{source[at + 2 : end]}}}", end
    if not letter.isascii():
        return letter, at + 2
    return words.get(letter, "\\" + letter), at + 2


def _compiled(pattern: str | bytes) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _encodable(text: str) -> str:
    """`text` with a question mark for each half of a surrogate pair, which UTF-8 and so RE2 do not know."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
