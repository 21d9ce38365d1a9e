"""Values that must never be shown, and the scrubbing of text that may hold one."""

from __future__ import annotations

import json
import math
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypeVar, final
from urllib.parse import quote, unquote

HIDDEN: Final = "[secret]"

_MOST_DECODED: Final = 5

# A value shorter than this would, as a pattern, blank out ordinary words.
_SHORTEST_SCRUBBED: Final = 6

# What a client has sent is taken for a credential elsewhere than in its own launch from this length on, and without
# blanks: a link could otherwise blank out what it likes in the logs of others.
_SHORTEST_OF_CLIENT: Final = 20

# Up to so many values, looking for each is quicker than looking up every place of the text.
_FEW: Final = 32

# So many new secrets are taken up at the latest, also where no text is scrubbed.
_BACKLOG: Final = 1000

T = TypeVar("T")

# These run on all that a build prints: each takes time linear in any text.
_USERINFO: Final = re.compile(r"://[^/\s\"'<>]+@")
# A parameter may stand in the value of another one, plain or percent-encoded (`?urlpath=lab%3Ftoken%3Dx`).
_PARAMETER: Final = re.compile(
    r"(?:[?&#]|%(?:25)*(?:3f|26|23))"
    r"(?P<name>(?:[^?&#=%\s]|%(?!(?:25)*(?:3[df]|26|23)))++)"
    r"(?:=|%(?:25)*3d)",
    re.IGNORECASE,
)
_PARAMETER_VALUE: Final = re.compile(r"[^&#\s\"'<>]*")
_SECRET_NAME: Final = re.compile(r"token|auth(?!or)|authori[sz]|secret|password|passwd|api_?key", re.IGNORECASE)
_AUTHORIZATION: Final = re.compile(
    r"(authorization['\"]?\s*+[:=]\s*+['\"]?(?:basic|bearer|token)\s++)\S+", re.IGNORECASE
)


@final
class Secret:
    """A string that shows only in `reveal()`. Every live secret is also scrubbed from text by `redact`.

    >>> token = Secret("correct horse battery")
    >>> print(token, f"{token}", [token])
    Secret('***') Secret('***') [Secret('***')]
    >>> redact("the shelf says: correct horse battery is not allowed")
    'the shelf says: [secret] is not allowed'

    What a client has sent is `of_client`: unless it is long, it is scrubbed in that client's launch alone.
    """

    __slots__ = ("__weakref__", "_of_client", "_value")

    def __init__(self, value: str, *, of_client: bool = False) -> None:
        self._value = value
        self._of_client = of_client
        _values.add(self)
        if of_client and (launch := _launch.get()) is not None:
            launch.add(self)

    def reveal(self) -> str:
        """The value itself, for the one place that must send it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not pickled; send what reveal() gives, where it must go")


class _Values:
    """What must not be shown: an index of the live secrets' values, by beginning and length.

    It follows the secrets as they come and go, so that neither a new one nor a text costs more where there
    are many. A secret may die in any thread, also in the midst of this code: it is only noted then.
    """

    def __init__(self, *, of_launch: bool = False) -> None:
        self._of_launch = of_launch
        self._lock = threading.Lock()
        self._born: deque[weakref.ref[Secret]] = deque()
        self._dead: deque[weakref.ref[Secret]] = deque()
        self._live: dict[int, tuple[weakref.ref[Secret], set[str]]] = {}
        self._counts: dict[str, int] = {}  # value -> how many secrets hold it
        self._index: dict[str, dict[int, int]] = {}  # beginning -> length -> how many values

    def add(self, secret: Secret) -> None:
        # By reference: equal secrets count each for itself.
        self._born.append(weakref.ref(secret, self._dead.append))
        if len(self._born) > _BACKLOG and self._lock.acquire(blocking=False):
            try:
                self._catch_up()
            finally:
                self._lock.release()

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where in `text` they stand, in order; segments may overlap."""
        with self._lock:
            self._catch_up()
            if len(self._counts) <= _FEW:
                there = [value for value in self._counts if value in text]
                return sorted(span for value in there for span in _spans(text, value))
            size = _SHORTEST_SCRUBBED
            beginnings = [text[at : at + size] for at in range(len(text) - size + 1)]
            if self._index.keys().isdisjoint(beginnings):
                return []
            return [
                (at, at + length)
                for at, beginning in enumerate(beginnings)
                for length in self._index.get(beginning, ())
                if text[at : at + length] in self._counts
            ]

    def _catch_up(self) -> None:
        # Not until they are empty: other threads may fill them as quickly.
        for _ in range(len(self._born)):
            reference = self._born.popleft()
            if (secret := reference()) is not None:
                of_client = secret._of_client  # pyright: ignore[reportPrivateUsage] - a friend, in its module
                values = _values_of(secret.reveal(), only_long=of_client and not self._of_launch)
                self._live[id(reference)] = reference, values
                for value in values:
                    self._count(value, 1)
        for _ in range(len(self._dead)):
            reference = self._dead.popleft()
            if found := self._live.pop(id(reference), None):
                for value in found[1]:
                    self._count(value, -1)

    def _count(self, value: str, change: int) -> None:
        before = self._counts.get(value, 0)
        _change(self._counts, value, change)
        if bool(before) != (value in self._counts):
            lengths = self._index.setdefault(value[:_SHORTEST_SCRUBBED], {})
            _change(lengths, len(value), change)
            if not lengths:
                del self._index[value[:_SHORTEST_SCRUBBED]]


def _change(counts: dict[T, int], key: T, change: int) -> None:
    counts[key] = counts.get(key, 0) + change
    if not counts[key]:
        del counts[key]


def _values_of(value: str, *, only_long: bool) -> set[str]:
    parts = set(_parts(value))
    if only_long:
        parts = {part for part in parts if len(part) >= _SHORTEST_OF_CLIENT and len(part.split()) == 1}
    parts |= {quote(part, safe="", errors="surrogatepass") for part in parts}
    return {part for part in parts if len(part) >= _SHORTEST_SCRUBBED}


def _parts(value: str) -> Iterator[str]:
    """A value, its lines, and the password within git's or a registry's credentials (`Repo`, `Target`)."""
    yield value
    for line in value.splitlines():
        yield line
        yield line.removeprefix("password=")
    if value.startswith("{"):
        try:
            password = json.loads(value).get("password")
        except ValueError:
            return
        if isinstance(password, str):
            yield password


_values = _Values()
_launch: ContextVar[_Values | None] = ContextVar("ringbinder_launch_secrets", default=None)


def begin_launch() -> None:
    """What a client sends in this task, and in those that it starts, is scrubbed there regardless of its length."""
    if _launch.get() is None:
        _launch.set(_Values(of_launch=True))


def launch_redact() -> Callable[[str], str]:
    """`redact` for text of this launch, wherever it is called: threads and tasks of others know no launch."""
    return partial(_redact, launch=_launch.get())


def redact(text: str) -> str:
    """`text` without credentials in URLs, secret query parameters, or any value held by a live `Secret`."""
    return _redact(text, _launch.get())


def _redact(text: str, launch: _Values | None) -> str:
    spans = _values.spans(text)
    if launch is not None:
        spans = sorted(spans + launch.spans(text))
    if spans:
        text = _without(text, spans)
    if "://" in text:
        text = _USERINFO.sub("://", text)
    if ("?" in text or "&" in text or "#" in text or "%" in text) and _SECRET_NAME.search(text):
        text = _without_secret_parameters(text)
    return _AUTHORIZATION.sub(rf"\1{HIDDEN}", text) if "authorization" in text.lower() else text


def redact_encoded(text: str) -> str:
    """`redact`, also for what stands percent-encoded between two slashes, as an address in a link does."""
    text = redact(text)
    if "%" not in text:
        return text
    return "/".join(_redacted_segment(segment) for segment in text.split("/"))


def _redacted_segment(segment: str) -> str:
    public = redact_decoded(segment)
    return segment if public is None else quote(public, safe="")


def redact_decoded(text: str) -> str | None:
    """What `text` means, redacted; None if it holds no secret. Links are encoded twice by mistake."""
    for _ in range(_MOST_DECODED):
        decoded = unquote(text)
        if (public := redact(decoded)) != decoded:
            return public
        if decoded == text:
            return None
        text = decoded
    return None


def redacted(value: object) -> Any:
    """`value` as plain JSON with every text in it redacted; what JSON does not know becomes redacted text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): redacted(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [redacted(part) for part in value]
    if isinstance(value, float) and math.isfinite(value):
        return value
    return redact(str(value))


def _without_secret_parameters(text: str) -> str:
    pieces: list[str] = []
    done = 0
    for found in _PARAMETER.finditer(text):
        if found.start() < done or not _SECRET_NAME.search(found["name"]):
            continue
        value = _PARAMETER_VALUE.match(text, found.end())
        if value is not None and value[0]:
            pieces += [text[done : found.end()], HIDDEN]
            done = value.end()
    return "".join([*pieces, text[done:]]) if pieces else text


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """`text` with each stretch that `spans` cover replaced as one."""
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        if start > done or not pieces:
            pieces += [text[done:start], HIDDEN]
        done = max(done, end)
    return "".join([*pieces, text[done:]])


def _spans(text: str, value: str) -> Iterator[tuple[int, int]]:
    at = text.find(value)
    while at >= 0:
        yield at, at + len(value)
        at = text.find(value, at + 1)
