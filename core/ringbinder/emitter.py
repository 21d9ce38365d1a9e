"""How an event comes to be: scrubbed, validated, thinned out as the operator wishes, then delivered."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from .catalogue import Catalogue, SchemaError
from .errors import PluginError
from .event_settings import EventLogSettings
from .events import SinkEvent
from .metrics import Metrics
from .private import make_private
from .secret import redact, redact_encoded, redacted

if TYPE_CHECKING:
    from .services import Logger

CORE: Final = "ringbinder"
_BURST_SECONDS: Final = 5.0
_HASH_DIGITS: Final = 32

current_sink: ContextVar[str] = ContextVar("current_sink", default="")
"""The sink whose `emit` runs now: what it emits itself would come back to it for ever."""


@define
class _Allowance:
    """How many events a plugin may still emit: refilled at `rate` a second, up to a burst."""

    rate: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        self.left = min(self.rate * _BURST_SECONDS, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@define(eq=False)
class Events:
    """Core's side of events, one per application. Only for the event loop's thread."""

    _log: Logger
    _metrics: Metrics
    catalogue: Catalogue = field(factory=Catalogue)
    flooding: dict[str, float] = field(factory=dict, init=False)
    """Plugins whose events were dropped because there were too many, and when (monotonic seconds)."""
    _deliver: Callable[[SinkEvent], None] | None = field(default=None, init=False)
    _settings: EventLogSettings = field(factory=EventLogSettings, init=False)
    _key: bytes = field(default=b"", init=False, repr=False)
    _allowances: dict[str, _Allowance] = field(factory=dict, init=False)
    _reported: set[tuple[str, str]] = field(factory=set, init=False)

    def connect(self, deliver: Callable[[SinkEvent], None], settings: EventLogSettings, state: Path) -> None:
        """From now on events go to `deliver`; before, they are nobody's. Reads or makes the key of hashes."""
        self._settings = settings
        if settings.hash_fields:
            self._key = settings.hash_key.reveal().encode() or _kept_key(state / "event-hash-key")
        self._deliver = deliver

    def warm_up(self) -> None:
        """Makes all validators, which takes a moment: to be called in a thread."""
        for schema in self.catalogue:
            _ = schema.validator

    def emit(
        self,
        name: str,
        fields: Mapping[str, Any],
        *,
        version: int | None = None,
        repo: str = "",
        by: str = CORE,
    ) -> None:
        """Tells an event of schema `name`. Returns at once and never raises: what is wrong is reported.

        `version` is by default the newest one; `repo` is `SinkEvent.repo`; `by` names the plugin.
        """
        if self._deliver is None or (by != CORE and not self._may_emit(by)):
            return
        try:
            made = self._made(name, fields, version, repo)
            problem = made if isinstance(made, str) else None
            if isinstance(made, SinkEvent):
                self._metrics.events.labels(made.schema, "emitted").inc()
                self._deliver(made)
        except Exception as error:
            problem = f"it cannot be told: {type(error).__name__}: {error}"
        if problem is not None:
            self._metrics.events.labels(name if self.catalogue.get(name) else "(unknown)", "invalid").inc()
            self._report(by, name, problem)

    def _made(self, name: str, fields: Mapping[str, Any], version: int | None, repo: str) -> SinkEvent | str:
        """The event, or what is wrong with it."""
        schema = self.catalogue.get(name, version)
        if schema is None:
            return f"no schema of this name{f' and version {version}' if version else ''} is registered"
        told = {key: _public(value) for key, value in redacted(fields).items()}
        if problem := schema.problem(told):
            return problem
        told = self._thinned(schema.name, told)
        return SinkEvent(schema.name, schema.version, told, level=schema.level, repo=redact_encoded(repo))

    def _may_emit(self, by: str) -> bool:
        now, rate = time.monotonic(), self._settings.plugin_rate
        allowance = self._allowances.setdefault(by, _Allowance(rate, rate * _BURST_SECONDS, now))
        if current_sink.get() or not allowance.take(now):
            self._metrics.events_refused.labels(by).inc()
            if by not in self.flooding:
                self._log.warning("a plugin emits too many events; they are dropped", plugin=by, limit=rate)
            self.flooding[by] = now
            return False
        return True

    def _thinned(self, schema: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        settings = self._settings
        if not settings.drop_fields and not settings.hash_fields:
            return dict(fields)
        kept = {}
        for name, value in fields.items():
            if _named(settings.drop_fields, schema, name):
                continue
            kept[name] = self._hashed(value) if _named(settings.hash_fields, schema, name) else value
        return kept

    def _hashed(self, value: object) -> str:
        return hmac.new(self._key, str(value).encode(), hashlib.sha256).hexdigest()[:_HASH_DIGITS]

    def _report(self, by: str, name: str, problem: str) -> None:
        self._metrics.plugin_errors.labels(by, "emit").inc()
        # Once each: an event that is wrong is wrong every time.
        if (by, name) not in self._reported and len(self._reported) < 1000:
            self._reported.add((by, name))
            self._log.error(
                "an event does not fit its schema and is not told",
                plugin=by,
                schema=name,
                problem=redact(problem),
            )


@define
class PluginEvents:
    """A plugin's way to emit events of its own; `Context.events`."""

    _plugin: str
    _events: Events

    def register(self, schema: Mapping[str, Any]) -> None:
        """Makes known a JSON Schema under which this plugin will emit.

        The rules: `Schema`; flat and closed; nothing that looks private without saying so. Raises PluginError.
        """
        try:
            self._events.catalogue.register(schema)
        except SchemaError as error:
            raise PluginError(self._plugin, str(error)) from None

    def emit(self, schema: str, /, *, version: int | None = None, **fields: Any) -> None:
        """Tells all sinks. Returns at once and never raises: what does not fit is reported, and not told.

        From within a sink's own `emit`, and beyond `EventLog.plugin_rate`, events are dropped and counted.
        """
        repo = fields.get("repo", "")
        self._events.emit(
            schema, fields, version=version, repo=repo if isinstance(repo, str) else "", by=self._plugin
        )


def _named(patterns: tuple[str, ...], schema: str, field_name: str) -> bool:
    full = f"{schema}:{field_name}"
    return any(fnmatchcase(full if ":" in pattern else field_name, pattern) for pattern in patterns)


def _public(value: Any) -> Any:
    return redact_encoded(value) if isinstance(value, str) else value


def _kept_key(file: Path) -> bytes:
    """The key in `file`, made if it is not there. Raises OSError if it can be neither read nor made."""
    if not file.exists():
        make_private(file.parent)
        # Linked whole, so that another process never reads half a key.
        fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_hex(32))
            with suppress(FileExistsError):
                os.link(fresh, file)
        finally:
            fresh.unlink()
    return file.read_text().encode()
