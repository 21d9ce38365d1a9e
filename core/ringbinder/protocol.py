"""What a client reads (`Event`) and what a sink receives (`SinkEvent`).

An `Event` is one object of BinderHub's protocol (reference: its `/build` endpoint). Its JSON is made once,
however many clients read it, with Python's default separators: shell clients grep for ``"phase": "ready"``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quoted
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, get_args
from uuid import uuid4

from attrs import define, field, frozen

from .secret import redact

Phase = Literal["waiting", "fetching", "building", "pushing", "built", "launching", "ready", "failed", "unknown"]
PHASES: Final[frozenset[str]] = frozenset(get_args(Phase))
_NO_DATA: Final[Mapping[str, Any]] = MappingProxyType({})
TERMINAL: Final[frozenset[str]] = frozenset({"ready", "failed"})


@define(frozen=True, eq=False, weakref_slot=False)
class Event:
    """One protocol event. `message` ends with a newline in terminal events; `data` holds the further keys."""

    phase: Phase
    """What the client shows it under."""
    message: str
    """A line for the person, with its newline."""
    data: Mapping[str, Any] = _NO_DATA
    """More keys beside `phase` and `message`, plain JSON."""
    _json: bytes = field(default=b"", init=False, repr=False)

    @property
    def terminal(self) -> bool:
        """Whether nothing follows: it is ``ready`` or ``failed``."""
        return self.phase in TERMINAL

    @property
    def json(self) -> bytes:
        """The object on one line, UTF-8."""
        if not self._json:
            object.__setattr__(self, "_json", self._made_json().encode())
        return self._json

    def _made_json(self) -> str:
        if self.data:
            return json.dumps({"phase": self.phase, "message": self.message, **self.data})
        # A line of a log, of which there are many: this is what `json.dumps` makes of it.
        return f'{{"phase": "{self.phase}", "message": {_quoted(self.message)}}}'

    @property
    def size(self) -> int:
        """Bytes that this event counts for in a bounded log."""
        return len(self.json)


def failed(message: str, **data: Any) -> Event:
    """A `failed` event whose message ends with exactly one newline."""
    return Event("failed", redact(message).rstrip("\n") + "\n", data)


@frozen
class SinkEvent:
    """One structured event for sinks: flat `fields` under a versioned `schema`.

    Source: BinderHub's event log (protocol reference).
    """

    schema: str
    """Name of its schema, as in the catalogue of events: ``binderhub.jupyter.org/launch``."""
    version: int
    """Of that schema."""
    fields: Mapping[str, Any]
    """Plain JSON, by name; not to be changed: other sinks get the same."""
    timestamp: float = field(factory=time.time)
    """Unix seconds."""
    id: str = field(factory=lambda: uuid4().hex)
    """The same over all attempts to deliver it, also after a restart: by it a receiver finds duplicates."""
    level: str = "info"
    """``info``, ``warning`` or ``error``, as its schema says."""
    repo: str = ""
    """Public address of the repository that it is about, for sinks that count by it; not in the capsule."""

    def capsule(self) -> dict[str, Any]:
        """BinderHub's capsule: timestamp (UTC, microseconds), schema and version beside the fields."""
        seconds = int(self.timestamp)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        micros = int((self.timestamp - seconds) * 1_000_000)
        return {"timestamp": f"{moment}.{micros:06d}Z", "schema": self.schema, "version": self.version, **self.fields}


class Log(Protocol):
    """Where a stage tells of its progress. Both calls return at once and never raise; text is redacted."""

    def line(self, message: str, phase: Phase | None = None) -> None:
        """One line of output; `phase` defaults to the phase of the stage (building, pushing, launching)."""

    def progress(self, layers: Mapping[str, Any], message: str = "Pushing image\n") -> None:
        """State of a push: layer -> ``{"current": bytes, "total": bytes}`` or a word such as ``Pushed``."""
